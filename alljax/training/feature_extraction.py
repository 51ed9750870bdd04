"""Features of every image: one pass through a backbone for all stages and poolings, computed once and stored."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from alljax import interrupts, progress
from alljax.data import augmentation, decoded_cache
from alljax.data.dataset import Dataset
from alljax.data.loader import ImageReader, ImageSource, Sampler, load_batches
from alljax.errors import ConfigError, WorkdirError
from alljax.models.head import POOLINGS
from alljax.training import distributed, feature_cache
from alljax.training.feature_cache import feature_key, load_features, store_features
from alljax.training.network import Network

VIEWS = {"none": 1, "dihedral": augmentation.VIEWS}
"""Number of views per image for each choice of ``features.augment``; the first is the image itself."""

Request = tuple[Network, str]
"""A network and ``features.augment``."""


class ImageSources:
    """The images at the size of each network; those that several networks share are decoded once."""

    def __init__(self, config: ConfigDict, dataset: Dataset, networks: Sequence[Network] = ()) -> None:
        """Decodes nothing yet.

        Args:
            config: ``data.cache`` and ``data.workers`` are read.
            dataset: the images.
            networks: that will be used.
        """
        self._config, self._dataset = config, dataset
        self._cached: dict[Any, ImageSource] = {}
        distinct = {id(network): network for network in networks}.values()
        self._num_networks = Counter(_image_settings(network) for network in distinct)

    def open(self, network: Network, several_times: bool = False) -> ImageSource:
        """Returns the images for a network, decoded and in memory if they are read several times and fit."""
        settings = _image_settings(network)
        if settings in self._cached:
            return self._cached[settings]
        reader = ImageReader(self._dataset, *settings)
        if not several_times and self._num_networks[settings] < 2:
            return reader
        self._cached[settings] = decoded_cache.cache_images(self._config.data.cache, reader, self._config.data.workers)
        return self._cached[settings]


class FeatureExtractor:
    """Gives the features of the networks of a study, computed when they are first requested.

    Networks that differ in stage and pooling only share one pass through the backbone.
    """

    def __init__(
        self, config: ConfigDict, requests: Iterable[Request], digests: tuple[str, ...], sources: ImageSources
    ) -> None:
        """Computes nothing yet.

        Args:
            config: ``features`` and ``data.workers`` are read.
            requests: all that will be requested.
            digests: SHA-256 of each image.
            sources: gives the images.
        """
        self._config, self._digests, self._sources = config, digests, sources
        self._requests = {feature_key(network, digests, augment): (network, augment) for network, augment in requests}
        self._loaded: dict[str, np.ndarray] = {}
        self._on_device: tuple[np.ndarray | None, Any] = None, None

    def load(self, network: Network, augment: str) -> np.ndarray:
        """Returns float32 (N, V, D), V views of each image, usually memory-mapped.

        Several processes must request the same features in the same order: each computes a part of them.

        Raises:
            ConfigError: they fit neither on disk nor in memory.
            DataError: an image that cannot be read.
        """
        key = feature_key(network, self._digests, augment)
        if key in self._loaded:
            return self._loaded[key]
        if mismatch := network.mismatch():
            logging.info(f"{network.backbone.name}: its weights expect another preprocessing: {mismatch}")
        features = self._stored(key)
        if features is None:
            features = self._compute(network, augment)
        else:
            count, views, width = features.shape
            of_views = f" of {views} views" if views > 1 else ""
            logging.info(f"features {network.backbone.name}: {count:,} × {width:,}{of_views} are stored")
        self._loaded[key] = features
        return features

    def load_for_training(self, network: Network, config: ConfigDict) -> Any:
        """Returns features as `load`: a JAX array on the device, or a NumPy array if they are to stay on disk."""
        features = self.load(network, config.features.augment)
        if reason := reason_to_stream(config.features.memory, features.nbytes):
            shape = f"{features.shape[0]:,} × {features.shape[2]:,}"
            logging.info(f"features {shape} are read from disk during training: {reason}")
            return features
        if self._on_device[0] is not features:
            self._on_device = None, None  # frees the memory of other features first
            self._on_device = features, jax.device_put(features)
        return self._on_device[1]

    def missing(self) -> list[tuple[list[Network], str]]:
        """Returns the passes that are still needed: networks that share one, and ``features.augment``."""
        passes: dict[str, tuple[list[Network], str]] = {}
        for key, (network, augment) in self._requests.items():
            if self._stored(key) is None:
                passes.setdefault(self._pass_key(network, augment), ([], augment))[0].append(network)
        return list(passes.values())

    def _stored(self, key: str) -> np.ndarray | None:
        """Returns stored features; None if they are missing in the cache of any process."""
        features = load_features(key, len(self._digests))
        return None if distributed.any_process(features is None) else features

    def _compute(self, network: Network, augment: str) -> np.ndarray:
        """Computes and stores the features of a network and of all others that share its pass."""
        key, same_pass = feature_key(network, self._digests, augment), self._pass_key(network, augment)
        single = jax.process_count() == 1  # else a lock could make processes on one host wait for each other forever
        try:
            with feature_cache.lock(same_pass) if single else contextlib.nullcontext():
                if self._stored(key) is None:  # else another study has computed them in the meantime
                    missing = {self._pass_key(networks[0], views): networks for networks, views in self.missing()}
                    self._store(missing[same_pass], augment)
                if (features := self._stored(key)) is not None:
                    return features
        except WorkdirError as error:
            size = 4 * len(self._digests) * VIEWS[augment] * network.feature_count
            advice = "ALLJAX_CACHE_DIR sets the folder"
            if not single or size > decoded_cache.host_memory() / 2:
                raise ConfigError(f"{error}; {advice}, model.pool=average makes features small") from error
            logging.info(f"the features are not stored: {error} ({advice})")
        return np.concatenate([block for (block,) in self._blocks([network], augment)])

    def _store(self, networks: Sequence[Network], augment: str) -> None:
        keys = [feature_key(network, self._digests, augment) for network in networks]
        shapes = [(len(self._digests), VIEWS[augment], network.feature_count) for network in networks]
        with contextlib.closing(self._blocks(networks, augment)) as blocks:
            store_features(keys, shapes, blocks)

    def _pass_key(self, network: Network, augment: str) -> str:
        """Returns the same text for networks whose features come from one pass through the backbone."""
        return feature_key(dataclasses.replace(network, stage="", pool=""), self._digests, augment)

    def _blocks(self, networks: Sequence[Network], augment: str) -> Generator[list[np.ndarray], None, None]:
        source = self._sources.open(networks[0])
        with progress.bar(f"features {networks[0].backbone.name}", len(source.labels), "images") as update:
            for block in feature_blocks(networks, source, self._config, augment):
                yield block
                interrupts.check(collective=True)
                update(len(block[0]))


def make_extractor(networks: Sequence[Network]) -> Callable[[Any, jax.Array], list[jax.Array]]:
    """Returns a compiled function: variables, uint8 (B, S, S, 3) → float32 features (B, D) of each network.

    Args:
        networks: that differ in ``stage`` and ``pool`` only; one pass through the deepest serves all.
    """
    first = networks[0]
    deepest = max((network.stage for network in networks), key=first.backbone.stages.index)

    @jax.jit
    def extract(variables: Any, images: jax.Array) -> list[jax.Array]:
        stages: Any = first.backbone.module.apply(variables, first.preprocessing(images), last=deepest)
        return [POOLINGS[network.pool](stages[network.stage]) for network in networks]

    return extract


def feature_blocks(
    networks: Sequence[Network], source: ImageSource, config: ConfigDict, augment: str
) -> Iterator[list[np.ndarray]]:
    """Yields float32 (b, V, D), for each network, of b images at a time, in the order of the images.

    A batch is sharded over all devices of all processes; each process decodes its part, and all get the result.
    A batch is read back after the next one has been dispatched.

    Args:
        networks: that differ in ``stage`` and ``pool`` only.
        source: the images at the networks' size; each is read once, its views are made on the device.
        config: ``features.batch_size``, the number of images in a pass, and ``data.workers`` are read.
        augment: ``"none"``, or ``"dihedral"`` for the eight views of `augmentation.dihedral`.
    """
    extract, turn = make_extractor(networks), jax.jit(jax.vmap(augmentation.dihedral, (0, None)))
    mesh = jax.make_mesh((jax.local_device_count(),), ("data",), devices=jax.local_devices())
    sharded, replicated = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    variables = jax.device_put(networks[0].variables, replicated)
    count, size, shard = len(source.labels), config.features.batch_size, (jax.process_index(), jax.process_count())
    rows = np.arange(count, dtype=np.int32)

    def collect(outputs: list[list[jax.Array]], start: int) -> list[np.ndarray]:
        blocks = [np.stack([np.asarray(view) for view in views], 1) for views in zip(*outputs, strict=True)]
        if jax.process_count() > 1:
            blocks = multihost_utils.process_allgather(blocks, tiled=True)
        return [block[: min(size, count - start)] for block in blocks]

    previous: tuple[list[list[jax.Array]], int] | None = None
    with closing(load_batches(source, Sampler(rows, size, shard, jax.device_count()), config.data.workers)) as batches:
        for number, batch in enumerate(batches):
            images = jax.device_put(batch.images, sharded)
            outputs = [extract(variables, turn(images, view)) for view in range(VIEWS[augment])]
            if previous is not None:
                yield collect(*previous)
            previous = outputs, number * size
    if previous is not None:
        yield collect(*previous)


def reason_to_stream(setting: str, size: int) -> str:
    """Returns why heads should read features of `size` bytes from disk; empty if they fit into memory.

    ``auto`` uses the device's memory where they fill at most a quarter of what is free: heads, the optimizer's state
    and gradients need memory too.

    Args:
        setting: ``features.memory``: auto, device or disk.
        size: in bytes.
    """
    if setting == "disk":
        return "features.memory=disk"
    free = decoded_cache.device_memory() or decoded_cache.host_memory()
    if setting == "device" or size <= free / 4:
        return ""
    return f"{size / 1e9:,.1f} GB do not fit beside the heads, {free / 1e9:,.1f} GB are free"


def _image_settings(network: Network) -> tuple[int, str, bool]:
    settings = network.preprocessing
    return settings.image_size, settings.interpolation, settings.antialias
