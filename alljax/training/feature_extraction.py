"""The backbone once: features of every image, kept under a hash of all that they depend on."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alljax import files
from alljax.data import augmentation
from alljax.data.images import READING_VERSION
from alljax.data.loader import ImageSource, batches
from alljax.models.head import pool
from alljax.progress import Update
from alljax.training.network import Network

VIEWS = {"none": 1, "dihedral": augmentation.VIEWS}
"""How many views of an image the choices of ``features.augment`` stand for; the first is the image itself."""


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
        return [pool(stages[network.stage], network.pool) for network in networks]

    return extract


def feature_blocks(
    networks: Sequence[Network], source: ImageSource, batch_size: int, views: str, workers: int = 0
) -> Iterator[list[np.ndarray]]:
    """Yields float32 (b, V, D), for each network, of b records at a time, in the order of the records.

    Args:
        networks: make the features; they differ in ``stage`` and ``pool`` only.
        source: the images at the networks' size; each is read once, its views are made on the device.
        batch_size: images through the backbone at once; the last block may be shorter.
        views: ``"none"``, the image as it is, or ``"dihedral"``, the eight of `augment.dihedral`.
        workers: processes that read and decode; 0 for threads.
    """
    extract, turn = make_extractor(networks), jax.jit(jax.vmap(augmentation.dihedral, (0, None)))
    variables = jax.device_put(networks[0].variables)
    for batch in batches(source, batch_size, workers):
        images = jnp.asarray(batch.images)
        of_views = [extract(variables, turn(images, view)) for view in range(VIEWS[views])]
        yield [np.stack(of_network, 1)[batch.mask] for of_network in zip(*of_views, strict=True)]


def compute_features(
    network: Network, source: ImageSource, batch_size: int, advance: Update, views: str, workers: int = 0
) -> np.ndarray:
    """Returns float32 (N, V, D) in memory; the arguments are those of `feature_blocks`.

    Args:
        network: makes the features.
        source: the images at the network's size.
        batch_size: images through the backbone at once.
        advance: told of each image.
        views: ``"none"`` or ``"dihedral"``.
        workers: processes that read and decode; 0 for threads.
    """
    # Filled in place: eight views of ten thousand images take most of a gigabyte.
    features, done = np.empty((len(source.labels), VIEWS[views], network.feature_count), np.float32), 0
    for (block,) in feature_blocks([network], source, batch_size, views, workers):
        features[done : done + len(block)] = block
        done += len(block)
        advance(len(block))
    return features


def features_key(network: Network, digests: tuple[str, ...], views: str) -> str:
    """Returns the hash of all that features depend on.

    The images' bytes and views, the backbone, its weights, the stage, the pooling, the preprocessing,
    the versions of the code that computes them, and the libraries and back end that round differently.
    """
    parts = {
        "images": digests,
        "views": views,
        "backbone": network.backbone.name,
        "weights": network.weights.sha256,
        "stage": network.stage,
        "pool": network.pool,
        "preprocessing": dataclasses.asdict(network.preprocessing),
        "versions of alljax": [network.backbone.version, READING_VERSION],
        "versions": [importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "pillow")],
        "platform": jax.default_backend(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_features(key: str, rows: int) -> np.ndarray | None:
    """Returns the stored features (rows, V, D), which stay on disk until they are read.

    None where there are none or they are damaged.
    """
    try:
        features = np.load(_path(key), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return features if features.ndim == 3 and len(features) == rows else None


def store_features(
    keys: Sequence[str], shapes: Sequence[tuple[int, int, int]], blocks: Iterable[list[np.ndarray]]
) -> None:
    """Keeps features (N, V, D) for now and the next run, written block by block: they need never be in memory at once.

    Args:
        keys: from `features_key`, of each network.
        shapes: (N, V, D) of each network.
        blocks: from `feature_blocks`.

    Raises:
        WorkdirError: the folder cannot be written, or the disk is full.
    """
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(files.atomic_write(_path(key), "wb")) for key in keys]
        for file, shape in zip(kept, shapes, strict=True):
            layout = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, layout)
        for block in blocks:
            for file, own in zip(kept, block, strict=True):
                file.write(np.ascontiguousarray(own, "<f4").tobytes())


def room() -> int:
    """Returns the bytes that are free where features are kept."""
    folder = files.cache_dir().absolute()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def lock(key: str) -> contextlib.AbstractContextManager[None]:
    """Waits until no other process computes the same features."""
    return files.file_lock(_path(key).with_suffix(".lock"))


def _path(key: str) -> Path:
    return files.cache_dir() / "features" / f"{key}.npy"
