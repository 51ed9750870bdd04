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
from numpy.typing import NDArray

from alljax import cache, files, progress
from alljax import config as configs
from alljax.data.dataset import Dataset
from alljax.data.images import READING_VERSION
from alljax.data.inspection import read_ahead
from alljax.data.loader import ImageBatch, ImageReader, Sampler, device_memory, load_batches
from alljax.data.readers import as_dataset
from alljax.errors import ConfigError, WorkdirError
from alljax.features.extractors import SIZE, VERSION, Extractor
from alljax.models.head import POOLINGS
from alljax.training import distributed
from alljax.training.network import Network

Source = Network | Extractor  # where features come from
_Result = TypeVar("_Result")


def extract_features(backbone: Network, images: Any, batch_size: int | None = None) -> NDArray[np.float32]:
    """Returns the features of images, float32 (N, D), as ``alljax features`` computes them, bit by bit.

    They are stored in the cache by the content of the images: the same call, or a study, reads them from there.

    Args:
        backbone: From `alljax.load_backbone`; it resizes and scales the images as its weights expect.
        images: RGB images, uint8 (N, H, W, 3), or a list of (H, W, 3) of any sizes; a file, folder, zip or CSV, or a
            list of them; or a data set of `alljax.open_dataset`, whose order the features have.
        batch_size: Images per step, by default 16.

    Raises:
        DataError: Arrays of another type or shape, no images, or one that cannot be read.

    >>> backbone = alljax.load_backbone("efficientnet_lite0", weights="random", stage="stage1", image_size=64)
    >>> alljax.extract_features(backbone, np.zeros((2, 100, 80, 3), np.uint8)).shape
    (2, 16)
    """
    settings = {} if batch_size is None else {"features.batch_size": batch_size}
    config, dataset = configs.load_config(**settings), as_dataset(images)
    hashes = read_ahead(lambda record: hashlib.sha256(dataset.read(record)).hexdigest(), dataset.records)
    with contextlib.closing(hashes):
        extractor = FeatureExtractor(config, dataset, tuple(digest.result() for digest in hashes))
    return np.array(extractor.load(backbone))


def open_sources(config: ConfigDict, network: Network | None) -> tuple[Source, ...]:
    """Returns the sources whose features, side by side, are those of a frozen trial; a backbone is the `network`."""
    names = config.features.extractor
    return tuple(network if name == "backbone" and network else Extractor.of(name, config) for name in names)


def sequence_of(config: ConfigDict, sources: Sequence[Source]) -> tuple[int, int] | None:
    """Returns the steps and the values per step of the features of a trial; None where they are no sequence."""
    complete = set(config.features.select) <= {"standardize"}
    return sources[0].sequence if len(sources) == 1 and complete else None


def image_reader(dataset: Dataset, source: Source) -> ImageReader:
    """Returns the images of a data set at the size of a network."""
    if isinstance(source, Extractor):
        return ImageReader(dataset, SIZE, masked=source.config.preprocessing.cell == "masked")
    settings = source.preprocessing
    masked = settings.cell == "masked"
    return ImageReader(dataset, settings.image_size, settings.interpolation, settings.antialias, masked)


class FeatureExtractor:
    """Features of images, computed at their first use; networks that differ in stage or pooling share one pass."""

    def __init__(
        self, config: ConfigDict, dataset: Dataset, digests: tuple[str, ...], sources: Iterable[Source] = ()
    ) -> None:
        """Computes nothing yet; `digests` are the SHA-256 of the images, and `sources` those that will be used."""
        self._config, self._dataset, self._digests = config, dataset, digests
        self._sources = dict.fromkeys(sources)  # a set in a certain order
        self._loaded: dict[tuple[Source, ...], np.ndarray] = {}
        self._on_device: tuple[np.ndarray | None, Any] = None, None

    def load(self, *sources: Source) -> np.ndarray:
        """Returns float32 (N, D), memory-mapped if of one source; all processes request the same in the same order."""
        if sources not in self._loaded:
            found = [self._load(source) for source in sources]
            self._loaded[sources] = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        return self._loaded[sources]

    def _load(self, source: Source) -> np.ndarray:
        self._sources[source] = None
        if isinstance(source, Network) and (mismatch := source.mismatch()):
            logging.info(f"{source.name}: its weights expect another preprocessing: {mismatch}")
        if (features := self._stored(source)) is not None:
            logging.info(f"features {source.name} are stored")
            return features
        path = self._path(_pass_of(source)).with_suffix(".lock")
        try:
            # A lock could make processes of one study on one host wait for each other forever.
            with files.file_lock(path) if jax.process_count() == 1 else contextlib.nullcontext():
                # None: another study has computed them in the meantime.
                if sources := self.missing().get(_pass_of(source)):
                    self._store(sources)
        except WorkdirError as error:
            advice = "ALLJAX_CACHE_DIR sets the folder, model.pool=average makes features small"
            raise ConfigError(f"{error}; {advice}") from error
        if (features := self._stored(source)) is None:
            raise ConfigError(f"{self._path(source)} was removed or damaged after it was written; start again")
        return features

    def load_for_training(self, config: ConfigDict, *sources: Source) -> Any:
        """Returns features as `load`: a JAX array where they fill at most a quarter of the memory, or those on disk."""
        features, memory = self.load(*sources), config.features.memory
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

    def missing(self) -> dict[Source, list[Source]]:
        """Returns the passes that are still needed (see `_pass_of`), each with the sources that share it."""
        passes: dict[Source, list[Source]] = {}
        for source in self._sources:
            if distributed.any_process(not cache.exists(self._path(source))):
                passes.setdefault(_pass_of(source), []).append(source)
        return passes

    def _path(self, source: Source) -> Path:
        names = [source.name, *((source.stage, source.pool) if isinstance(source, Network) else ())]
        names.append(feature_key(source, self._digests))
        return files.cache_dir() / "features" / f"{'-'.join(filter(None, names))}.npy"

    def _stored(self, source: Source) -> np.ndarray | None:
        """Returns stored features, memory-mapped; None if they are missing or damaged in the cache of any process."""
        file = cache.open_intact(self._path(source))
        if distributed.any_process(file is None) or file is None:
            return None
        with file:
            return np.load(file.name, mmap_mode="r")

    def blocks(self, sources: Sequence[Source]) -> Generator[list[np.ndarray], None, None]:
        """Yields the features (b, D) of each source of one pass, of b images at a time."""
        first, networks = sources[0], [source for source in sources if isinstance(source, Network)]
        if isinstance(first, Network):
            return feature_blocks(networks, image_reader(self._dataset, first), self._config)
        return ([block] for block in first.blocks(self._dataset, self._config.features.batch_size))

    def _store(self, sources: Sequence[Source]) -> None:
        """Computes and stores features block by block: they need never be in memory at once."""
        paths = [self._path(source) for source in sources]
        shapes = [(len(self._digests), source.feature_count) for source in sources]
        cache.make_room(sum(4 * math.prod(shape) for shape in shapes))
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(cache.write(path)) for path in paths]
            for file, shape in zip(opened, shapes, strict=True):
                np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            update = stack.enter_context(progress.bar(f"features {sources[0].name}", shapes[0][0], "images"))
            for block in stack.enter_context(contextlib.closing(self.blocks(sources))):
                for file, features in zip(opened, block, strict=True):
                    file.write(np.ascontiguousarray(features, "<f4").tobytes())
                update(len(block[0]))
                distributed.check_together()


def feature_key(source: Source, digests: tuple[str, ...]) -> str:
    """Returns the hash of everything that features depend on; libraries and back ends round differently."""
    parts: dict[str, Any] = {"images": digests, "backbone": source.name}
    if isinstance(source, Network):
        preprocessing = dataclasses.asdict(source.preprocessing)
        if source.preprocessing.cell == "keep":
            del preprocessing["cell"]  # features of earlier versions, which had no masks, are the same
        parts |= {"weights": source.weights.sha256, "stage": source.stage, "pool": source.pool}
        parts |= {"preprocessing": preprocessing, "platform": jax.default_backend()}
        version, libraries = source.backbone.version, ("jax", "jaxlib", "flax", "pillow")
    else:
        parts["settings"] = source.config.to_dict()
        version, libraries = VERSION, ("numpy", "scipy", "scikit-learn", "pillow")
    parts["versions of alljax"] = version, READING_VERSION
    parts["versions"] = [importlib.metadata.version(name) for name in libraries]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def feature_blocks(
    networks: Sequence[Network], source: ImageReader, config: ConfigDict
) -> Generator[list[np.ndarray], None, None]:
    """Yields float32 (b, D), for each network, of b images at a time: sharded over all devices of all processes."""
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
    """Yields the futures of a function of batches, which several threads compute, one batch each."""
    # On a CPU one batch per core is faster than all cores on one batch; on a GPU the next batch is copied meanwhile.
    return read_ahead(function, batches, min(files.cpu_cores(), files.THREADS) if jax.default_backend() == "cpu" else 2)


@functools.lru_cache(maxsize=1)
def make_extractor(
    networks: tuple[Network, ...],
) -> tuple[Callable[[Any], Any], Callable[[Any, np.ndarray], list[jax.Array]]]:
    """Returns two functions for networks that differ in ``stage`` and ``pool`` only; the second is compiled.

    The first puts variables on local devices. The second maps them and uint8 (B, S, S, 3) to float32 (B, D) of each.
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


def _pass_of(source: Source) -> Source:
    """Returns what networks that share a pass through a backbone have in common; other sources share none."""
    return dataclasses.replace(source, stage="", pool="") if isinstance(source, Network) else source
