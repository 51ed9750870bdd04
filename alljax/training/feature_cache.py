"""Features on disk, stored under a hash of everything that they depend on."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np

from alljax import files
from alljax.data.images import READING_VERSION
from alljax.errors import WorkdirError
from alljax.training.network import Network


def feature_key(network: Network, digests: tuple[str, ...], augment: str) -> str:
    """Returns the hash of everything that features depend on.

    The bytes and views of the images, the backbone, its weights, the stage, the pooling, the preprocessing, the
    versions of the code that computes them, and the libraries and back end that round differently.
    """
    parts = {
        "images": digests,
        "views": augment,
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
    """Returns stored features (rows, V, D), memory-mapped; None if they are missing or damaged."""
    try:
        features = np.load(_path(key), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return features if features.ndim == 3 and len(features) == rows else None


def store_features(
    keys: Sequence[str], shapes: Sequence[tuple[int, int, int]], blocks: Iterable[list[np.ndarray]]
) -> None:
    """Stores features (N, V, D) block by block: they need never be in memory at once.

    Args:
        keys: from `feature_key`, of each network.
        shapes: (N, V, D) of each network.
        blocks: features (b, V, D) of each network, of b images at a time.

    Raises:
        WorkdirError: the folder cannot be written, or the disk is full.
    """
    folder = files.cache_dir().absolute()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    size = sum(4 * n * v * d for n, v, d in shapes)
    if size > free:
        raise WorkdirError(f"the features take {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free on the disk")
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(files.atomic_write(_path(key), "wb")) for key in keys]
        for file, shape in zip(opened, shapes, strict=True):
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for block in blocks:
            for file, features in zip(opened, block, strict=True):
                file.write(np.ascontiguousarray(features, "<f4").tobytes())


def lock(key: str) -> contextlib.AbstractContextManager[None]:
    """Waits until no other process computes the same features."""
    return files.file_lock(_path(key).with_suffix(".lock"))


def _path(key: str) -> Path:
    return files.cache_dir() / "features" / f"{key}.npy"
