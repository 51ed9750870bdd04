"""The classifiers (or fine-tuned networks) of a trial, one per fold and seed, which together classify images."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.data.dataset import Dataset
from alljax.data.loader import ImageBatch, Sampler, load_batches
from alljax.errors import WorkdirError
from alljax.evaluation.combination import combine
from alljax.features.selection import Selection
from alljax.models.head import POOLINGS, make_head
from alljax.study import results, sweep, workdir
from alljax.study.results import Study
from alljax.training import checkpoints, classifiers, feature_extraction
from alljax.training.classifiers import Classifier
from alljax.training.feature_extraction import Source, compute_ahead, image_reader, open_sources, sequence_of
from alljax.training.network import Network, open_networks
from alljax.weights import store


class Block(NamedTuple):
    """What an ensemble finds in n consecutive images of a data set."""

    probabilities: np.ndarray  # float32 (H, n, C) of each classifier
    features: np.ndarray  # float32 (n, D) before selection; of fine-tuned networks those of the first


class Member(NamedTuple):
    """Classifiers that use the same features: stacked heads on a backbone, or estimators of scikit-learn."""

    backbone: Any = None  # variables; of a frozen trial the same in all members
    selection: Selection | None = None
    heads: Any = None
    estimators: Sequence[Classifier] = ()


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The H classifiers (or fine-tuned networks) of a trial, with their parameters on the devices."""

    study: Study
    trial: str
    config: ConfigDict  # of the trial
    sources: tuple[Source, ...]  # of the features; of fine-tuned networks the untrained one
    heads: tuple[tuple[int, int, int], ...]  # repeat, fold and seed of each, in this order
    members: list[Member] = field(repr=False)  # one; of fine-tuned networks one each, of selections one per fold
    combined: "Sequence[Ensemble]" = ()  # the trials of a combined one

    @property
    def result(self) -> dict[str, Any]:
        """What the study stored for the trial, such as ``temperature`` and ``operating_points``."""
        return dict(self.study.metrics["trials"][self.trial])

    @property
    def network(self) -> Network | None:
        """The backbone; None where no features are those of one."""
        return next((source for source in self.sources if isinstance(source, Network)), None)

    @property
    def frozen(self) -> bool:
        """Whether all classifiers use the same features; those of combined trials do not."""
        return bool(self.members) and self.config.train.mode == "frozen"

    @cached_property
    def training_features(self) -> dict[str, np.ndarray]:
        """What `feature_space.distances` needs, of a frozen backbone."""
        folder = workdir.trial_folder(self.study.folder, self.trial)
        workdir.verify(folder, workdir.TRAINING_FEATURES)
        return checkpoints.load_arrays(folder / workdir.TRAINING_FEATURES)

    def predict(self, dataset: Dataset) -> Iterator[Block]:
        """Yields the predictions for all images in order; nothing is stored, labels are not used."""
        rows = np.arange(len(dataset.records), dtype=np.int32)
        size = min(self.config.features.batch_size, 1 << (len(rows) - 1).bit_length())  # few sizes are compiled
        sampler = Sampler(rows, size, multiple=jax.local_device_count())
        if self.frozen and self.network:
            _ = self._extract  # made once, before threads use it
        with contextlib.ExitStack() as stack:
            parts: list[Generator[Any]] = []
            for source in self.sources:
                if isinstance(source, Network):
                    parts.append(load_batches(image_reader(dataset, source), sampler))
                else:
                    parts.append(source.blocks(dataset, size))
                stack.enter_context(contextlib.closing(parts[-1]))
            blocks = compute_ahead(self._classify, zip(*parts, strict=True))
            for block in stack.enter_context(contextlib.closing(blocks)):
                yield block.result()

    def _classify(self, parts: tuple[Any, ...]) -> Block:
        """Returns the predictions for one batch, an `ImageBatch` or features of each source, without padding."""
        if self.frozen:
            read = [part if isinstance(part, np.ndarray) else self._extract(part) for part in parts]
            features = np.concatenate(read, axis=1)
            found = [(self._apply_member(member, features), features) for member in self.members]
        else:
            (batch,) = parts
            images = jax.device_put(batch.images, feature_extraction.local_sharding("data"))
            padded = [jax.device_get(self._apply(one.backbone, one.heads, images)) for one in self.members]
            found = [(probabilities[:, batch.mask], features[batch.mask]) for probabilities, features in padded]
        probabilities = np.concatenate([of_member for of_member, _ in found])
        if not np.isfinite(probabilities).all():
            folder = workdir.trial_folder(self.study.folder, self.trial)
            raise WorkdirError(f"{folder} predicts no numbers; its parameters are damaged, train it again")
        return Block(probabilities, found[0][1])

    @cached_property
    def _extract(self) -> Callable[[ImageBatch], np.ndarray]:
        """What maps images to the features of a frozen backbone; kept, since several ensembles can take turns."""
        network: Any = self.network
        prepare, extract = feature_extraction.make_extractor((network,))
        variables = prepare(self.members[0].backbone)
        return lambda batch: np.asarray(extract(variables, batch.images)[0])[batch.mask]

    def _apply_member(self, member: Member, features: np.ndarray) -> np.ndarray:
        """Returns the probabilities (S, n, C) of features (n, D) by the S classifiers of a member."""
        if member.selection:
            features = member.selection.transform(features)
        if member.estimators:
            return np.stack([classifier.probabilities(features) for classifier in member.estimators])
        missing = self.config.features.batch_size - len(features)  # equal batches compile once
        return np.asarray(self._apply_heads(member.heads, np.pad(features, ((0, missing), (0, 0)))))[:, : len(features)]

    @partial(jax.jit, static_argnums=0)
    def _apply(self, variables: Any, heads: Any, images: Any) -> tuple[jax.Array, jax.Array]:
        """Returns probabilities (H, B, C) of stacked heads on a backbone, and its features (B, D)."""
        network: Any = self.network
        pixels = network.preprocessing(images).astype(self.config.train.compute)
        stages: Any = network.backbone.module.apply(variables, pixels, last=network.stage)
        features = POOLINGS[network.pool](stages[network.stage]).astype(jnp.float32)
        return self._apply_heads(heads, features), features

    @partial(jax.jit, static_argnums=0)
    def _apply_heads(self, heads: Any, features: jax.Array) -> jax.Array:
        head = make_head(self.config, len(self.study.classes), sequence_of(self.config, self.sources))
        logits = jax.lax.map(lambda params: head.apply({"params": params}, features), heads)
        return jax.nn.softmax(logits)


@dataclass(frozen=True, eq=False)
class CombinedEnsemble(Ensemble):
    """Each head combines those of the members of the same fold and seed; `config` and `network` are of the first."""

    def predict(self, dataset: Dataset) -> Iterator[Block]:
        """Yields the predictions for all images at once, without features."""
        found = [[block.probabilities for block in member.predict(dataset)] for member in self.combined]
        probabilities = np.stack([np.concatenate(blocks, axis=1) for blocks in found])
        by_fold = np.array(self.result["member_weights"])
        weights = np.repeat(by_fold.T, len(self.heads) // len(by_fold), axis=1)
        yield Block(combine(self.result["rule"], probabilities, weights), np.empty((probabilities.shape[2], 0)))


def open_ensemble(folder: Path, trial: str = "", weights: str = "") -> Ensemble:
    """Reads a trial of a finished study, by default the best; `weights` is the file or folder of moved weights."""
    study = results.read_study(folder)
    name = study.find(trial)
    config = configs.vary(configs.default_config(), study.settings(name))
    if not config.study.checkpoints:
        raise WorkdirError(f"{folder} has no parameters (study.checkpoints=False); run the study with them")
    if config.study.combine:
        combined = [open_ensemble(folder, member, weights) for member in study.metrics["trials"][name]["members"]]
        first = combined[0]
        return CombinedEnsemble(study, name, first.config, first.sources, first.heads, [], combined)
    network: Any = _open_network(study, name, config, weights) if sweep.has_backbone(config) else None
    protocol, here = study.split_of(name)["protocol"], workdir.trial_folder(folder, name)
    folds, seeds = range(len(protocol["test_images"])), range(config.seed, config.seed + config.study.seeds)
    heads = tuple((*divmod(fold, protocol["folds"]), seed) for fold in folds for seed in seeds)
    backbone = jax.device_put({kind: network.used(kind) for kind in ("params", "batch_stats")}) if network else None
    if config.train.mode == "finetune":
        members = _read_networks(here, folds, len(seeds), backbone)
        return Ensemble(study, name, config, (network,), heads, members)
    sources = open_sources(config, network)
    members = _read_pipelines(here, config, sources, backbone, folds, len(study.classes))
    return Ensemble(study, name, config, sources, heads, members)


def _read_pipelines(
    folder: Path, config: ConfigDict, sources: Sequence[Source], backbone: Any, folds: range, num_classes: int
) -> list[Member]:
    """Returns the classifiers of a frozen trial: one member, or one per fold where features are selected."""
    seeds, selections = config.study.seeds, dict[int, Selection]()
    if config.features.select:
        workdir.verify(folder, workdir.SELECTIONS)
        stored = checkpoints.load_arrays(folder / workdir.SELECTIONS)
        selections = {fold: Selection(stored[str(fold)]) for fold in folds}
    if not sweep.has_epochs(config):
        workdir.verify(folder, workdir.ESTIMATORS)
        loaded = classifiers.load(folder / workdir.ESTIMATORS)
        parts = {fold: loaded[seeds * fold : seeds * (fold + 1)] for fold in folds}
        return [Member(backbone, selections.get(fold), estimators=part) for fold, part in parts.items()]
    head, expected = make_head(config, num_classes, sequence_of(config, sources)), dict[str, tuple[int, ...]]()
    for fold in folds:
        features: Any = np.zeros((1, sum(source.feature_count for source in sources)), np.float32)
        features = selections[fold].transform(features) if selections else features
        shapes = flatten_dict(jax.eval_shape(head.init, jax.random.key(0), features)["params"], sep="/")
        expected |= {f"{fold}/{path}": (seeds, *leaf.shape) for path, leaf in shapes.items()}
    workdir.verify(folder, workdir.PARAMETERS)
    params, members = checkpoints.load_arrays(folder / workdir.PARAMETERS, expected), []
    for group in [[fold] for fold in folds] if selections else [folds]:
        stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(params[str(fold)] for fold in group))
        members.append(Member(backbone, selections.get(group[0]), jax.device_put(stacked)))
    return members


def _read_networks(folder: Path, folds: range, seeds: int, backbone: Any) -> list[Member]:
    """Returns the fine-tuned networks of a trial; what was not trained is that of the `backbone`."""
    workdir.verify(folder, workdir.PARAMETERS)
    params, members = checkpoints.load_arrays(folder / workdir.PARAMETERS), []
    original = flatten_dict({**backbone, "params": {"backbone": backbone["params"]}})
    for fold, seed in itertools.product(folds, range(seeds)):
        trained = {path: jax.device_put(leaf[seed]) for path, leaf in flatten_dict(params[str(fold)]).items()}
        tree = unflatten_dict(original | trained)
        variables = {"params": tree["params"]["backbone"], "batch_stats": tree.get("batch_stats", {})}
        members.append(Member(variables, None, jax.tree.map(lambda leaf: leaf[None], tree["params"]["head"])))
    return members


def _open_network(study: Study, name: str, config: ConfigDict, weights: str) -> Network:
    """Returns the backbone of a trial with the weights that the study used."""
    from alljax.study.exports import with_weight_file  # here, since a work folder opens another ensemble

    used, file = study.metrics["trials"][name]["weights"], Path("another version of JAX or of the backbone")
    if used["path"]:  # not random weights
        recorded = used["path"] if Path(used["path"]).is_file() else config.weights.path or used["path"]
        config = with_weight_file(configs.vary(config, {"weights.path": weights or recorded, "weights.name": ""}))
        file = Path(config.weights.path).expanduser()
        if file.is_dir():
            paths = (path for path in sorted(file.iterdir()) if path.suffix.lower() in store.SUFFIXES)
            file = next((path for path in paths if path.is_file() and store.digest(path) == used["sha256"]), file)
        if not file.is_file():
            problem = f"no weight file with the SHA-256 {used['sha256']}" if file.is_dir() else "no such file"
            raise WorkdirError(f"{file}: {problem}; give the study's weights with --weights=FILE or --weights=FOLDER")
        config = configs.vary(config, {"weights.path": str(file)})
    (network,) = open_networks([config])
    if used.get("version", network.backbone.version) != network.backbone.version:
        logging.warning(f"{network.name} or JAX has changed since the study; its results may differ")
    if network.weights.sha256 != used["sha256"]:
        raise WorkdirError(f"{file} does not give the weights of {study.folder}, whose SHA-256 is {used['sha256']}")
    return network
