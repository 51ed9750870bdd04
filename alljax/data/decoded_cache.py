"""Decoded images in host or device memory, where they fit."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from numpy.typing import NDArray

from alljax import files, progress
from alljax.data.loader import ImageReader, ImageSource, Mask, Rows, Sampler, load_batches
from alljax.errors import ConfigError

_CHUNK = 32  # images that one thread decodes at a time


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """All images of a data set in memory: uint8 (N, S, S, 3), a NumPy array, or a JAX array on the device."""

    images: Any
    labels: NDArray[np.int32]

    def take(self, rows: Rows, mask: Mask) -> Any:
        """Returns uint8 (B, S, S, 3) in the same memory; zeros where the mask is false."""
        if isinstance(self.images, np.ndarray):
            return np.where(mask[:, None, None, None], self.images[rows], 0)
        return _gather(self.images, jax.device_put(np.where(mask, rows, len(self.images))))


_gather = jax.jit(partial(jnp.take, axis=0, mode="fill", fill_value=0))  # rows past the end give zeros


def cache_images(setting: str, reader: ImageReader) -> ImageSource:
    """Returns a source of the images, which are decoded once where they fit in the memory of `choose_memory`."""
    memory = choose_memory(setting, reader)
    if memory == "none":
        return reader
    decoded = np.empty((len(reader.labels), reader.image_size, reader.image_size, 3), np.uint8)
    with progress.bar("decode", len(decoded), "images") as update:
        for batch in load_batches(reader, Sampler(np.arange(len(decoded)), _CHUNK)):
            decoded[batch.rows[batch.mask]] = batch.images[batch.mask]
            update(int(batch.mask.sum()))
    return DecodedImages(decoded if memory == "host" else jax.device_put(decoded), reader.labels)


def choose_memory(setting: str, reader: ImageReader) -> str:
    """Returns none, host or device for the setting ``data.cache``, and logs the choice.

    ``auto`` chooses the device where the images fill at most a quarter of its free memory (parameters and activations
    need the rest), else the host where they fill at most half of its free memory, else none.
    """
    images, side = len(reader.labels), reader.image_size
    size = images * side * side * 3
    what = f"{images:,} images of {side} × {side} pixels ({size / 1e9:,.2f} GB)"
    # The memory of a CPU device is that of the host; images for another device are collected on the host first.
    host, device = files.host_memory(), device_memory()
    free = host if setting == "host" or device is None else min(host, device)
    if setting in ("host", "device") and size > free:
        raise ConfigError(f"data.cache={setting}: {what} do not fit, {free / 1e9:,.2f} GB are free")
    memory = setting
    if setting == "auto":
        memory = "device" if device is not None and size <= device / 4 else "host"
        memory = "none" if size > host / 2 else memory
    place = "decoded at every access" if memory == "none" else f"cached in {memory} memory"
    logging.info(f"{what} are {place} (data.cache={setting}; {host / 1e9:,.1f} GB are free on the host)")
    return memory


def device_memory() -> int | None:
    """Returns the free bytes of the first device; None where it does not report them, as the CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
