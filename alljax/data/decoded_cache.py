"""Decoded images that stay, in host memory or on the device, where they fit."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alljax.data.loader import Images, Mask, Rows, Source, batches
from alljax.errors import ConfigError
from alljax.progress import Advance, ignore

_CHUNK = 32  # images that a thread decodes at a time


@dataclass(frozen=True, eq=False)
class Decoded:
    """All images of a set as squares of one size, in memory.

    Attributes:
        images: uint8 (N, S, S, 3), one a record: a NumPy array, or a JAX array on the device.
        labels: int32 (N,).
    """

    images: Any
    labels: NDArray[np.int32]

    def take(self, rows: Rows, mask: Mask) -> Any:
        """Returns uint8 (B, S, S, 3), where the images are; zeros where the mask is false."""
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

    # A row past the end gives zeros.
    return jax.jit(lambda images, rows: jnp.take(images, rows, axis=0, mode="fill", fill_value=0))


def choose(setting: str, images: Images) -> tuple[str, str]:
    """Decides where the decoded images stay, from their size and the memory that is free now.

    ``auto`` takes the device where they fill at most a quarter of its free memory (parameters and
    activations come yet), else the host where they fill at most half of its, else none.

    Args:
        setting: ``data.cache``: auto, none, host or device.
        images: the set.

    Returns:
        none, host or device, and a line that says so and why.

    Raises:
        ConfigError: they cannot stay where they should.
    """
    side, number = images.image_size, len(images.labels)
    size = number * side * side * 3
    what = f"{number:,} images of {side} × {side} pixels, {_bytes(size)},"
    if setting == "none":
        return "none", f"{what} are decoded each time they are read (data.cache=none)"
    host, device = host_memory(), device_memory()
    if setting != "auto":
        # Even those for the device are gathered on the host first.
        for place, free in {"host": host, setting: host if setting == "host" else device}.items():
            if free is not None and size > free:
                raise ConfigError(f"data.cache={setting}: {what} do not fit, {_bytes(free)} are free on the {place}")
        return setting, f"{what} stay decoded on the {setting} (data.cache={setting})"
    if size > host / 2:
        return "none", f"{what} are decoded each time they are read: {_bytes(host)} are free on the host"
    if device is not None and size <= device / 4:
        return "device", f"{what} stay decoded on the device, where {_bytes(device)} are free"
    return "host", f"{what} stay decoded on the host, where {_bytes(host)} are free"


def keep(images: Images, place: str, advance: Advance = ignore, workers: int = 0, threads: int | None = None) -> Source:
    """Returns what gives the images from now on: itself, or all of them decoded.

    Args:
        images: the set.
        place: none, host or device.
        advance: told of each image decoded.
        workers: processes that decode; 0 for threads of this process.
        threads: of this process; two a core unless told.

    Raises:
        DataError: an image that cannot be read.
    """
    if place == "none":
        return images
    decoded = np.empty((len(images.labels), images.image_size, images.image_size, 3), np.uint8)
    for batch in batches(images, _CHUNK, workers, threads):
        decoded[batch.rows[batch.mask]] = batch.images[batch.mask]
        advance(int(batch.mask.sum()))
    if place == "host":
        return Decoded(decoded, images.labels)
    import jax

    return Decoded(jax.device_put(decoded), images.labels)


def host_memory(root: Path = Path("/")) -> int:
    """Returns how many bytes this process can still take, within what its control group (Slurm's, Docker's) allows.

    Args:
        root: below which proc and sys lie.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        table = dict(line.split(":", 1) for line in lines)
        free = int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min([free, *_group_memory(root)])


def _group_memory(root: Path) -> list[int]:
    """Returns the free bytes of each memory control group around this process, of version 1 or 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    free = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers == "memory":
            top, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        elif not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "")
        else:
            continue
        folder = top / path.strip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(top):
                free += _free(group, *names)
    return free


def _free(group: Path, limit: str, used: str, prefix: str) -> list[int]:
    try:
        table = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        droppable = int(table[f"{prefix}inactive_file"])  # read files that the kernel still holds
        return [int((group / limit).read_text()) - int((group / used).read_text()) + droppable]
    except (OSError, KeyError, ValueError):  # no such group seen from here, or no limit: "max"
        return []


def device_memory() -> int | None:
    """Returns the free bytes of the first device; None where it does not tell or is the host itself."""
    import jax

    device = jax.local_devices()[0]
    stats = None if device.platform == "cpu" else device.memory_stats()
    if not stats or "bytes_limit" not in stats:
        return None
    return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))


def _bytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
