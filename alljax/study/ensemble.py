"""The classifiers (or fine-tuned networks) of a trial, one per fold and seed, which together classify images."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.data.dataset import Dataset
from alljax.data.loader import ImageBatch, Sampler, load_batches
from alljax.errors import WorkdirError
from alljax.evaluation.combination import combine
from alljax.models.head import POOLINGS, make_head
from alljax.study import results, sweep, workdir
from alljax.study.results import Study
from alljax.training import checkpoints, classifiers
from alljax.training.classifiers import Classifier
from alljax.training.feature_extraction import compute_ahead, image_reader, local_sharding, make_extractor
from alljax.training.fine_tuning import FineTuner
from alljax.training.network import Network, open_networks
from alljax.training.sharding import make_mesh
from alljax.weights import store


class Block(NamedTuple):
    """What an ensemble finds in n consecutive images of a data set."""

    probabilities: np.ndarray  # float32 (H, n, C) of each classifier
    features: np.ndarray  # float32 (n, D) before selection; of fine-tuned networks those of the first


class Member(NamedTuple):
    """Classifiers that use the same features: stacked heads on a backbone, or estimators of scikit-learn."""

    backbone: Any  # variables; of a frozen trial the same in all members
    heads: Any = None
    estimators: Sequence[Classifier] = ()


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The H classifiers (or fine-tuned networks) of a trial, with their parameters on the devices."""

    study: Study
    trial: str
    config: ConfigDict  # of the trial
    network: Network
    heads: tuple[tuple[int, int, int], ...]  # repeat, fold and seed of each, in this order
    members: list[Member] = field(repr=False)  # one, or of fine-tuned networks one each

    @property
    def result(self) -> dict[str, Any]:
        """What the study stored for the trial, such as ``temperature`` and ``operating_points``."""
        result: dict[str, Any] = self.study.metrics["trials"][self.trial]
        return result

    @property
    def frozen(self) -> bool:
        """Whether all classifiers use the same features."""
        return bool(self.config.train.mode == "frozen")

    @cached_property
    def training_features(self) -> dict[str, np.ndarray]:
        """What `novelty.distances` needs, of a frozen backbone."""
        folder = workdir.trial_folder(self.study.folder, self.trial)
        workdir.verify(folder, workdir.TRAINING_FEATURES)
        return checkpoints.load_arrays(folder / workdir.TRAINING_FEATURES)

    def predict(self, dataset: Dataset) -> Iterator[Block]:
        """Yields the predictions for all images in order; nothing is stored. `DataError`: one cannot be read.

        Labels are not used. Compiled functions are used again for other data sets.
        """
        rows = np.arange(len(dataset.records), dtype=np.int32)
        size = min(self.config.features.batch_size, len(rows))
        if self.frozen:
            _ = self._extract  # made once, before threads use it
        sampler = Sampler(rows, size, multiple=jax.local_device_count())
        with (
            contextlib.closing(load_batches(image_reader(dataset, self.network), sampler)) as batches,
            contextlib.closing(compute_ahead(self._classify, batches)) as blocks,
        ):
            for block in blocks:
                yield block.result()

    def _classify(self, batch: ImageBatch) -> Block:
        """Returns the predictions for one batch, without padding."""
        if self.frozen:
            (features,) = self._extract(batch.images)
            found = [(self._apply_member(member, features), np.asarray(features)) for member in self.members]
        else:
            images = jax.device_put(batch.images, local_sharding("data"))
            found = [jax.device_get(self._apply(one.backbone, one.heads, images)) for one in self.members]
        probabilities = np.concatenate([of_member for of_member, _ in found])[:, batch.mask]
        if not np.isfinite(probabilities).all():
            folder = workdir.trial_folder(self.study.folder, self.trial)
            raise WorkdirError(f"{folder} predicts no numbers; its parameters are damaged, train it again")
        return Block(probabilities, found[0][1][batch.mask])

    @cached_property
    def _extract(self) -> Callable[[np.ndarray], list[jax.Array]]:
        """What maps images to the features of a frozen backbone; kept, since several ensembles can take turns."""
        prepare, extract = make_extractor((self.network,))
        return partial(extract, prepare(self.members[0].backbone))

    def _apply_member(self, member: Member, features: jax.Array) -> np.ndarray:
        """Returns the probabilities (S, B, C) of features (B, D) by the S classifiers of a member."""
        if member.estimators:
            return np.stack([classifier.probabilities(np.asarray(features)) for classifier in member.estimators])
        return np.asarray(self._apply_heads(member.heads, features))

    @partial(jax.jit, static_argnums=0)
    def _apply(self, variables: Any, heads: Any, images: Any) -> tuple[jax.Array, jax.Array]:
        """Returns probabilities (H, B, C) of stacked heads on a backbone, and its features (B, D)."""
        pixels = self.network.preprocessing(images).astype(self.config.train.compute)
        stages: Any = self.network.backbone.module.apply(variables, pixels, last=self.network.stage)
        features = POOLINGS[self.network.pool](stages[self.network.stage]).astype(jnp.float32)
        return self._apply_heads(heads, features), features

    @partial(jax.jit, static_argnums=0)
    def _apply_heads(self, heads: Any, features: jax.Array) -> jax.Array:
        head = make_head(self.config, len(self.study.classes), self.network.sequence)
        logits = jax.lax.map(lambda params: head.apply({"params": params}, features), heads)
        return jax.nn.softmax(logits)


@dataclass(frozen=True, eq=False)
class CombinedEnsemble(Ensemble):
    """The ensemble of a combined trial: each head combines those of its members of the same fold and seed.

    `config` and `network` are those of the first member.
    """

    combined: tuple[Ensemble, ...] = ()

    @property
    def frozen(self) -> bool:
        """False: the members have different features, and no distance to the training images."""
        return False

    def predict(self, dataset: Dataset) -> Iterator[Block]:
        """Yields the predictions for all images at once, without features."""
        found = [[block.probabilities for block in member.predict(dataset)] for member in self.combined]
        probabilities = np.stack([np.concatenate(blocks, axis=1) for blocks in found])
        by_fold = np.array(self.result["member_weights"])
        weights = np.repeat(by_fold.T, len(self.heads) // len(by_fold), axis=1)
        yield Block(combine(self.result["rule"], probabilities, weights), np.empty((probabilities.shape[2], 0)))


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
    if config.study.combine:
        combined = [open_ensemble(folder, member, weights) for member in study.metrics["trials"][name]["members"]]
        first = combined[0]
        return CombinedEnsemble(study, name, first.config, first.network, first.heads, [], tuple(combined))
    network = _open_network(study, name, config, weights)
    protocol, here = study.split_of(name)["protocol"], workdir.trial_folder(folder, name)
    folds, seeds = range(len(protocol["test_images"])), range(config.seed, config.seed + config.study.seeds)
    heads = tuple((*divmod(fold, protocol["folds"]), seed) for fold in folds for seed in seeds)
    backbone = jax.device_put({kind: network.used(kind) for kind in ("params", "batch_stats")})
    if not sweep.has_epochs(config):
        workdir.verify(here, workdir.ESTIMATORS)
        members = [Member(backbone, estimators=classifiers.load(here / workdir.ESTIMATORS))]
        return Ensemble(study, name, config, network, heads, members)
    shapes = _shapes(config, network, len(study.classes))
    workdir.verify(here, workdir.PARAMETERS)
    expected = {f"{fold}/{path}": (len(seeds), *shape) for fold in folds for path, shape in shapes.items()}
    loaded = flatten_dict(checkpoints.load_arrays(here / workdir.PARAMETERS, expected), sep="/")
    parameters = {path: np.concatenate([loaded[f"{fold}/{path}"] for fold in folds]) for path in shapes}
    if config.train.mode == "frozen":
        members = [Member(backbone, jax.device_put(unflatten_dict(parameters, sep="/")))]
        return Ensemble(study, name, config, network, heads, members)
    untrained = flatten_dict({**backbone, "params": {"backbone": backbone["params"]}}, sep="/")
    members = []
    for number in range(len(heads)):
        trained = jax.device_put({path: values[number] for path, values in parameters.items()})
        tree = unflatten_dict(untrained | trained, sep="/")
        variables = {"params": tree["params"]["backbone"], "batch_stats": tree.get("batch_stats", {})}
        members.append(Member(variables, jax.tree.map(lambda leaf: leaf[None], tree["params"]["head"])))
    return Ensemble(study, name, config, network, heads, members)


def _shapes(config: ConfigDict, network: Network, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of what one run has trained, by "/"-joined names."""
    trained: Any
    if config.train.mode == "frozen":
        head, features = make_head(config, num_classes, network.sequence), jnp.zeros((1, network.feature_count))
        trained = jax.eval_shape(head.init, jax.random.key(0), features)["params"]
    else:
        state = FineTuner(config, network, num_classes, make_mesh(config)).abstract
        trained = {"params": state.eval_params, "batch_stats": state.batch_stats}
    return {path: leaf.shape for path, leaf in flatten_dict(trained, sep="/").items()}


def _open_network(study: Study, name: str, config: ConfigDict, weights: str) -> Network:
    """Returns the backbone of a trial with the weights that the study used."""
    used = study.metrics["trials"][name]["weights"]
    if config.weights.name == store.RANDOM.name:
        (network,) = open_networks([config])
        if network.weights.sha256 != used["sha256"]:
            fix = "use the versions in its environment.json, or run the study again"
            raise WorkdirError(f"{study.folder}: this version of JAX draws other random weights; {fix}")
        return network
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
