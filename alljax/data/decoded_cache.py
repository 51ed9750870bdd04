"""Decoded images in host or device memory, where they fit."""

import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from numpy.typing import NDArray

from alljax import progress
from alljax.data.loader import ImageReader, ImageSource, Mask, Rows, Sampler, load_batches
from alljax.errors import ConfigError

_CHUNK = 32  # images that one thread decodes at a time


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """All images of a data set as squares of one size, in memory.

    Attributes:
        images: uint8 (N, S, S, 3), a NumPy array, or a JAX array on the device.
        labels: int32 (N,).
    """

    images: Any
    labels: NDArray[np.int32]

    def take(self, rows: Rows, mask: Mask) -> Any:
        """Returns uint8 (B, S, S, 3) in the same memory; zeros where the mask is false."""
        if isinstance(self.images, np.ndarray):
            taken = np.zeros((len(rows), *self.images.shape[1:]), np.uint8)
            taken[mask] = self.images[rows[mask]]
            return taken
        import jax

        return _gather()(self.images, jax.device_put(np.where(mask, rows, len(self.images))))


@cache
def _gather() -> Any:
    import jax
    import jax.numpy as jnp

    # Rows past the end give zeros.
    return jax.jit(lambda images, rows: jnp.take(images, rows, axis=0, mode="fill", fill_value=0))


def cache_images(setting: str, reader: ImageReader, workers: int = 0) -> ImageSource:
    """Returns a source for images that are read several times, decoded once where they fit in memory.

    Args:
        setting: ``data.cache``, see `choose_memory`.
        reader: the images.
        workers: processes that decode; 0 for threads of this process.

    Raises:
        ConfigError: the images do not fit in the memory that the setting names.
        DataError: an image that cannot be read.
    """
    memory, why = choose_memory(setting, reader)
    logging.info(why)
    if memory == "none":
        return reader
    decoded = np.empty((len(reader.labels), reader.image_size, reader.image_size, 3), np.uint8)
    with progress.bar("decode", len(decoded), "images") as update:
        for batch in load_batches(reader, Sampler(np.arange(len(decoded)), _CHUNK), workers):
            decoded[batch.rows[batch.mask]] = batch.images[batch.mask]
            update(int(batch.mask.sum()))
    if memory == "host":
        return DecodedImages(decoded, reader.labels)
    import jax

    return DecodedImages(jax.device_put(decoded), reader.labels)


def choose_memory(setting: str, reader: ImageReader) -> tuple[str, str]:
    """Chooses none, host or device memory for decoded images, and returns a message that says why.

    ``auto`` chooses the device where the images fill at most a quarter of its free memory (parameters and activations
    need the rest), else the host where they fill at most half of its free memory, else none.

    Args:
        setting: ``data.cache``: auto, none, host or device.
        reader: the images.

    Raises:
        ConfigError: the images do not fit in the memory that the setting names.
    """
    side, number = reader.image_size, len(reader.labels)
    size = number * side * side * 3
    what = f"{number:,} images of {side} × {side} pixels, {_bytes(size)},"
    if setting == "none":
        return "none", f"{what} are decoded at every access (data.cache=none)"
    # The memory of a CPU device is that of the host; images for another device are collected on the host first.
    free = {"host": host_memory(), "device": device_memory() or math.inf}
    if setting == "auto":
        if size > free["host"] / 2:
            return "none", f"{what} are decoded at every access: {_bytes(free['host'])} are free on the host"
        memory = "device" if size <= free["device"] / 4 < math.inf else "host"
        return memory, f"{what} are cached on the {memory}, where {_bytes(free[memory])} are free"
    for memory in dict.fromkeys(("host", setting)):
        if size > free[memory]:
            raise ConfigError(
                f"data.cache={setting}: {what} do not fit, {_bytes(free[memory])} are free on the {memory}"
            )
    return setting, f"{what} are cached on the {setting} (data.cache={setting})"


def host_memory(root: Path = Path("/")) -> int:
    """Returns the bytes of host memory that this process can still allocate within its control group (Slurm, Docker).

    Args:
        root: the folder that contains proc and sys.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        table = dict(line.split(":", 1) for line in lines)
        free = int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min([free, *_group_memory(root)])


def _group_memory(root: Path) -> list[int]:
    """Returns the free bytes of each control group (version 2) of this process that has a memory limit."""
    try:
        path = (root / "proc/self/cgroup").read_text().strip().rpartition("0::")[2]
    except OSError:
        return []
    top, free = root / "sys/fs/cgroup", []
    folder = top / path.strip("/")
    for group in (folder, *folder.parents):
        try:
            limit = int((group / "memory.max").read_text())
            table = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            # The kernel frees inactive file pages on demand.
            free.append(limit - int((group / "memory.current").read_text()) + int(table["inactive_file"]))
        except (OSError, KeyError, ValueError):  # no such file, or no limit ("max")
            continue
    return free


def device_memory() -> int | None:
    """Returns the free bytes of the first device; None where it is the CPU or does not report them."""
    import jax

    device = jax.local_devices()[0]
    stats = None if device.platform == "cpu" else device.memory_stats()
    if not stats or "bytes_limit" not in stats:
        return None
    return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))


def _bytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
