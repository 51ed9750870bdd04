"""The heads (or fine-tuned networks) of a trial, one per fold and seed, which together classify images."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.data.dataset import Dataset
from alljax.data.loader import Sampler, load_batches
from alljax.errors import WorkdirError
from alljax.study import results, workdir
from alljax.study.results import Study
from alljax.training import checkpoints
from alljax.training.feature_extraction import feature_blocks, image_reader
from alljax.training.fine_tuning import FineTuner
from alljax.training.head_training import HeadTrainer
from alljax.training.network import Network, open_networks
from alljax.training.sharding import make_mesh
from alljax.training.step import Batch
from alljax.weights import store

Load = Callable[[Mapping[str, tuple[int, ...]]], dict[str, np.ndarray]]
"""From the shapes of a fold's parameters, by "/"-joined names, to those of all heads, (H, ...)."""


class Block(NamedTuple):
    """What an ensemble finds in n consecutive images of a data set."""

    rows: slice  # of ``dataset.records``
    probabilities: np.ndarray  # float32 (H, n, C) of each head
    features: np.ndarray | None  # float32 (n, D); None for fine-tuned networks


Blocks = Callable[[Dataset], Generator[Block, None, None]]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The H heads (or fine-tuned networks) of a trial with their parameters in memory."""

    study: Study
    trial: str
    config: ConfigDict  # of the trial
    network: Network
    heads: tuple[tuple[int, int, int], ...]  # repeat, fold and seed of each, in this order
    parameters: Mapping[str, np.ndarray]  # (H, ...) of what was trained, by "/"-joined names
    _blocks: Blocks = field(repr=False)

    @property
    def result(self) -> dict[str, Any]:
        """What the study stored for the trial, such as ``temperature`` and ``operating_points``."""
        result: dict[str, Any] = self.study.metrics["trials"][self.trial]
        return result

    def predict(self, dataset: Dataset) -> Iterator[Block]:
        """Yields the predictions for all images in order; nothing is stored. `DataError`: one cannot be read.

        Labels are not used. Compiled functions are used again for other data sets.
        """
        with contextlib.closing(self._blocks(dataset)) as blocks:
            for block in blocks:
                if not np.isfinite(block.probabilities).all():
                    raise WorkdirError(
                        f"{self.study.folder}: trial {self.trial} predicts no numbers; its parameters are damaged, "
                        "train it again"
                    )
                yield block


def open_ensemble(folder: Path, trial: str = "", weights: str = "") -> Ensemble:
    """Reads a trial of a finished study, by default the best, and the weights of its backbone.

    `weights` is the file of the weights or a folder with it, if it was moved since the study.

    Raises:
        WorkdirError: no finished study or trial, one without parameters, damaged files, or other weights.
    """
    study = results.read_study(folder)
    name = trial or study.ranking.best
    if name not in study.metrics["trials"]:
        raise WorkdirError(f"{folder} has no finished trial {name!r}; it has {', '.join(study.metrics['trials'])}")
    config = configs.vary(configs.default_config(), study.settings(name))
    if not config.study.checkpoints:
        raise WorkdirError(
            f"{folder} has no parameters (study.checkpoints=False) and cannot predict; run the study with them"
        )
    network = _open_network(study, name, config, weights)
    protocol, file = study.split_of(name)["protocol"], workdir.trial_folder(folder, name) / workdir.PARAMETERS
    folds = range(len(protocol["test_images"]))
    seeds = range(config.seed, config.seed + config.study.seeds)
    workdir.verify(workdir.trial_folder(folder, name), workdir.PARAMETERS)

    parameters: dict[str, np.ndarray] = {}

    def load(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        expected = {f"{fold}/{path}": shape for fold in folds for path, shape in shapes.items()}
        loaded = flatten_dict(checkpoints.load_arrays(file, expected), sep="/")
        parameters.update({path: np.concatenate([loaded[f"{fold}/{path}"] for fold in folds]) for path in shapes})
        return parameters

    make = _frozen_blocks if config.train.mode == "frozen" else _fine_tuned_blocks
    heads = tuple((*divmod(fold, protocol["folds"]), seed) for fold in folds for seed in seeds)
    blocks = make(config, network, len(study.classes), load)
    return Ensemble(study, name, config, network, heads, parameters, blocks)


def _frozen_blocks(config: ConfigDict, network: Network, num_classes: int, load: Load) -> Blocks:
    """Returns the function that yields the blocks of heads on a frozen backbone."""
    trainer = HeadTrainer(config, num_classes, network.feature_count)
    params = jax.eval_shape(trainer.init, jax.random.split(jax.random.key(0), config.study.seeds)).eval_params
    heads: Any = jax.device_put(load({path: leaf.shape for path, leaf in params.items()}))
    size = config.features.batch_size

    def blocks(dataset: Dataset) -> Generator[Block, None, None]:
        images, start = image_reader(dataset, network), 0
        with contextlib.closing(feature_blocks([network], images, config)) as extracted:
            for (features,) in extracted:
                count = len(features)
                rows = np.pad(np.arange(count), (0, size - count))  # of one shape, so that nothing compiles twice
                _, probabilities = trainer.evaluate(heads, features, np.zeros(count, np.int32), rows)
                yield Block(slice(start, start + count), probabilities[:, :count], features)
                start += count

    return blocks


def _fine_tuned_blocks(config: ConfigDict, network: Network, num_classes: int, load: Load) -> Blocks:
    """Returns the function that yields the blocks of fine-tuned networks."""
    mesh = make_mesh(config)
    tuner = FineTuner(config, network, num_classes, mesh)
    trained = {"params": tuner.abstract.eval_params, "batch_stats": tuner.abstract.batch_stats}
    shapes = {path: (config.study.seeds, *leaf.shape) for path, leaf in flatten_dict(trained, sep="/").items()}
    states = []
    for values in zip(*load(shapes).values(), strict=True):
        tree = unflatten_dict(dict(zip(shapes, values, strict=True)), sep="/")
        states.append(tuner.evaluation_state(tree["params"], tree.get("batch_stats", {})))

    def blocks(dataset: Dataset) -> Generator[Block, None, None]:
        images, count = image_reader(dataset, network), len(dataset.records)
        size = min(config.train.batch_size, count)
        sampler = Sampler(np.arange(count, dtype=np.int32), size, multiple=mesh.device_count)
        with contextlib.closing(load_batches(images, sampler)) as batches:
            for start, batch in zip(range(0, count, size), batches, strict=True):
                arrays: Any = batch.images, batch.labels, batch.mask, np.arange(len(batch.mask), dtype=np.int32)
                placed = mesh.shard(Batch(*arrays))
                logits = np.stack([tuner.logits(state, placed) for state in states])
                rows = slice(start, min(start + size, count))
                yield Block(rows, np.asarray(jax.nn.softmax(logits))[:, : rows.stop - start], None)

    return blocks


def _open_network(study: Study, name: str, config: ConfigDict, weights: str) -> Network:
    """Returns the backbone of a trial with the weights that the study used."""
    used = study.metrics["trials"][name]["weights"]
    recorded = used["path"] if Path(used["path"]).is_file() else config.weights.path or used["path"]
    file = Path(weights or recorded).expanduser()
    if file.is_dir():
        stored = (path for path in sorted(file.iterdir()) if path.suffix.lower() in store.SUFFIXES and path.is_file())
        file = next((path for path in stored if store.digest(path) == used["sha256"]), file)
    if not file.is_file():
        problem = f"no weight file with the SHA-256 {used['sha256']}" if file.is_dir() else "no such file"
        raise WorkdirError(f"{file}: {problem}; give the study's weights with --weights=FILE or --weights=FOLDER")
    (network,) = open_networks([configs.vary(config, {"weights.path": str(file), "weights.name": ""})])
    if network.weights.sha256 != used["sha256"]:
        raise WorkdirError(f"{file} is not the weight file of {study.folder}, whose SHA-256 is {used['sha256']}")
    return network
