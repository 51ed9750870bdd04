"""Features of every image: one pass through a backbone for all stages and poolings, computed once and stored."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from alljax import cache, files, progress
from alljax.data.dataset import Dataset
from alljax.data.images import READING_VERSION
from alljax.data.inspection import read_ahead
from alljax.data.loader import ImageBatch, ImageReader, Sampler, device_memory, load_batches
from alljax.errors import ConfigError, WorkdirError
from alljax.models.head import POOLINGS
from alljax.training import distributed
from alljax.training.network import Network

_Result = TypeVar("_Result")


def image_reader(dataset: Dataset, network: Network) -> ImageReader:
    """Returns the images of a data set at the size of a network."""
    settings = network.preprocessing
    masked = settings.cell == "masked"
    return ImageReader(dataset, settings.image_size, settings.interpolation, settings.antialias, masked)


class FeatureExtractor:
    """Features of networks, computed at their first use; those that differ in stage or pooling share one pass."""

    def __init__(
        self, config: ConfigDict, dataset: Dataset, digests: tuple[str, ...], networks: Iterable[Network] = ()
    ) -> None:
        """Computes nothing yet; `digests` are the SHA-256 of the images, and `networks` those that will be used."""
        self._config, self._dataset, self._digests = config, dataset, digests
        self._networks = dict.fromkeys(networks)  # a set in a certain order
        self._loaded: dict[Network, np.ndarray] = {}
        self._on_device: tuple[np.ndarray | None, Any] = None, None

    def load(self, network: Network) -> np.ndarray:
        """Returns float32 (N, D), memory-mapped; `ConfigError` if they cannot be stored.

        Several processes must request the same features in the same order: each computes a part of them.
        """
        self._networks[network] = None
        if network not in self._loaded:
            if mismatch := network.mismatch():
                logging.info(f"{network.backbone.name}: its weights expect another preprocessing: {mismatch}")
            features = self._stored(network)
            if features is not None:
                logging.info(f"features {network.backbone.name} are stored")
            self._loaded[network] = self._compute(network) if features is None else features
        return self._loaded[network]

    def load_for_training(self, network: Network, config: ConfigDict) -> Any:
        """Returns features as `load`: a JAX array on the device, or a NumPy array that is read block by block.

        ``features.memory=auto`` chooses the device where they fill at most a quarter of its free memory.
        """
        features, memory = self.load(network), config.features.memory
        if memory == "disk":
            return features
        if self._on_device[0] is features:
            return self._on_device[1]
        self._on_device = None, None  # frees the memory of other features
        free = device_memory() or files.host_memory()
        if memory == "auto" and features.nbytes > free / 4:
            sizes = f"{features.nbytes / 1e9:,.1f} GB do not fit beside the heads, {free / 1e9:,.1f} GB are free"
            logging.info(f"features are read from disk during training: {sizes}")
            return features
        self._on_device = features, jax.device_put(features)
        return self._on_device[1]

    def missing(self) -> dict[Network, list[Network]]:
        """Returns the passes that are still needed (see `_pass_of`), each with the networks that share it."""
        passes: dict[Network, list[Network]] = {}
        for network in self._networks:
            if distributed.any_process(not cache.exists(self._path(network))):
                passes.setdefault(_pass_of(network), []).append(network)
        return passes

    def _path(self, network: Network) -> Path:
        names = [network.backbone.name, network.stage, network.pool, feature_key(network, self._digests)]
        return files.cache_dir() / "features" / f"{'-'.join(filter(None, names))}.npy"

    def _stored(self, network: Network) -> np.ndarray | None:
        """Returns stored features, memory-mapped; None if they are missing or damaged in the cache of any process."""
        file = cache.open_intact(self._path(network))
        if distributed.any_process(file is None) or file is None:
            return None
        with file:
            return np.load(file.name, mmap_mode="r")

    def _compute(self, network: Network) -> np.ndarray:
        """Computes and stores the features of a network and of all others that share its pass."""
        path = self._path(_pass_of(network)).with_suffix(".lock")
        try:
            # A lock could make processes of one study on one host wait for each other forever.
            with files.file_lock(path) if jax.process_count() == 1 else contextlib.nullcontext():
                # None: another study has computed them in the meantime.
                if networks := self.missing().get(_pass_of(network)):
                    self._store(networks)
        except WorkdirError as error:
            advice = "ALLJAX_CACHE_DIR sets the folder, model.pool=average makes features small"
            raise ConfigError(f"{error}; {advice}") from error
        if (features := self._stored(network)) is None:
            raise ConfigError(f"{self._path(network)} was removed or damaged after it was written; start again")
        return features

    def _store(self, networks: Sequence[Network]) -> None:
        """Computes and stores features block by block: they need never be in memory at once."""
        paths = [self._path(network) for network in networks]
        shapes = [(len(self._digests), network.feature_count) for network in networks]
        cache.make_room(sum(4 * math.prod(shape) for shape in shapes))
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(cache.write(path)) for path in paths]
            for file, shape in zip(opened, shapes, strict=True):
                np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            blocks = feature_blocks(networks, image_reader(self._dataset, networks[0]), self._config)
            update = stack.enter_context(progress.bar(f"features {networks[0].backbone.name}", shapes[0][0], "images"))
            for block in stack.enter_context(contextlib.closing(blocks)):
                for file, features in zip(opened, block, strict=True):
                    file.write(np.ascontiguousarray(features, "<f4").tobytes())
                update(len(block[0]))
                distributed.check_together()


def feature_key(network: Network, digests: tuple[str, ...]) -> str:
    """Returns the hash of everything that features depend on; libraries and back ends round differently."""
    preprocessing = dataclasses.asdict(network.preprocessing)
    if network.preprocessing.cell == "keep":
        del preprocessing["cell"]  # features of earlier versions, which had no masks, are the same
    parts = {
        "images": digests,
        "backbone": network.backbone.name,
        "weights": network.weights.sha256,
        "stage": network.stage,
        "pool": network.pool,
        "preprocessing": preprocessing,
        "versions of alljax": [network.backbone.version, READING_VERSION],
        "versions": [importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "pillow")],
        "platform": jax.default_backend(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def feature_blocks(
    networks: Sequence[Network], source: ImageReader, config: ConfigDict
) -> Generator[list[np.ndarray], None, None]:
    """Yields float32 (b, D), for each network, of b images at a time, in the order of the images.

    Each image is read once.  A batch is sharded over all devices of all processes; each process decodes its part, and
    all get the result.
    """
    prepare, extract = make_extractor(tuple(networks))
    variables = prepare(networks[0].variables)
    count, size, shard = len(source.labels), config.features.batch_size, (jax.process_index(), jax.process_count())
    sampler = Sampler(np.arange(count, dtype=np.int32), size, shard, jax.device_count())

    def compute(batch: ImageBatch) -> list[np.ndarray]:
        return jax.device_get(extract(variables, batch.images))

    with (
        contextlib.closing(load_batches(source, sampler)) as batches,
        contextlib.closing(compute_ahead(compute, batches)) as computed,
    ):
        for start, features in zip(range(0, count, size), computed, strict=True):
            blocks = features.result()
            if jax.process_count() > 1:
                blocks = multihost_utils.process_allgather(blocks, tiled=True)
            yield [block[: min(size, count - start)] for block in blocks]


def compute_ahead(function: Callable[[Any], _Result], batches: Iterable[Any]) -> Generator[Future[_Result], None, None]:
    """Yields the futures of a function of batches, which several threads compute, one batch each.

    On a CPU one batch per core is faster than all cores on one batch; on a GPU the next batch is copied meanwhile.
    """
    return read_ahead(function, batches, min(files.cpu_cores(), files.THREADS) if jax.default_backend() == "cpu" else 2)


@functools.lru_cache(maxsize=1)
def make_extractor(
    networks: tuple[Network, ...],
) -> tuple[Callable[[Any], Any], Callable[[Any, np.ndarray], list[jax.Array]]]:
    """Returns two functions for networks that differ in ``stage`` and ``pool`` only.

    The first puts the variables on all local devices, prepared once for what computes them.  The second maps them and
    uint8 (B, S, S, 3) to float32 features (B, D) of each network, in one pass through the deepest; the images are
    sharded.  It is compiled.
    """
    first = networks[0]
    deepest = max((network.stage for network in networks), key=first.backbone.stages.index)
    module, on_cpu = first.backbone.module, jax.default_backend() == "cpu"
    replicated, sharded = local_sharding(), local_sharding("data")

    def prepare(variables: Any) -> Any:
        return jax.device_put(module.prepare(variables) if on_cpu else variables, replicated)

    def extract(variables: Any, images: jax.Array) -> list[jax.Array]:
        pixels: Any = first.preprocessing(images)
        compute = module.on_cpu if on_cpu else module.apply
        activations: Any = compute(variables, pixels, last=deepest)
        return [POOLINGS[network.pool](activations[network.stage]) for network in networks]

    specs = replicated.spec, sharded.spec
    compiled = jax.jit(jax.shard_map(extract, mesh=replicated.mesh, in_specs=specs, out_specs=sharded.spec))
    return prepare, lambda variables, images: compiled(variables, jax.device_put(images, sharded))


def local_sharding(*axes: str) -> NamedSharding:
    """Returns the sharding of an array over all devices of this process: ``"data"`` divides it, nothing copies it."""
    mesh = jax.make_mesh((jax.local_device_count(),), ("data",), devices=jax.local_devices())
    return NamedSharding(mesh, PartitionSpec(*axes))


def _pass_of(network: Network) -> Network:
    """Returns what networks that share a pass through a backbone have in common."""
    return dataclasses.replace(network, stage="", pool="")
