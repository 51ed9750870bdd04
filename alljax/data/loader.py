"""Records to decoded, resized, padded and sharded batches: read ahead in threads, or cached in memory."""

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from absl import logging
from numpy.typing import NDArray

from alljax import files, progress
from alljax.data.dataset import Dataset
from alljax.data.images import load, mask_cell, resize
from alljax.data.inspection import read_ahead

Rows = NDArray[np.int32]
Mask = NDArray[np.bool_]

_CHUNK = 32  # images that one thread decodes at a time before they are cached


@dataclass(frozen=True)
class ImageBatch:
    """Images as the device receives them; all arrays are zero where the mask is false, in padding."""

    images: NDArray[np.uint8]  # (B, S, S, 3), RGB
    labels: NDArray[np.int32]  # (B,)
    rows: Rows  # (B,), indices of the records
    mask: Mask  # (B,)


@dataclass(frozen=True, eq=False)
class ImageReader:
    """Images of a data set, decoded and resized (`alljax.data.images.resize`) to S × S pixels."""

    dataset: Dataset
    image_size: int
    interpolation: str = "bilinear"
    antialias: bool = True
    masked: bool = False  # see `alljax.data.images.mask_cell`
    cached: NDArray[np.uint8] | None = None  # all images, uint8 (N, S, S, 3), see `cache_images`

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label of each record, int32 (N,)."""
        return self.dataset.labels

    def take(self, rows: Rows, mask: Mask) -> NDArray[np.uint8]:
        """Returns uint8 (B, S, S, 3), zeros where the mask is false."""
        if self.cached is not None:
            return np.where(mask[:, None, None, None], self.cached[rows], np.uint8(0))
        images: NDArray[np.uint8] = np.zeros((len(rows), self.image_size, self.image_size, 3), np.uint8)
        for index in np.flatnonzero(mask):
            pixels = load(self.dataset, self.dataset.records[rows[index]])
            pixels = mask_cell(pixels) if self.masked else pixels
            resize(pixels, images[index], self.interpolation, self.antialias)
        return images


class Sampler:
    """The rows of each batch, a function of its number: of record indices, int (N,), or (E, N) for E epochs.

    Batches are padded to a `multiple`; each process, (index, number) in `shard`, gets a part of each global batch.
    """

    def __init__(
        self, rows: NDArray[np.integer[Any]], batch_size: int, shard: tuple[int, int] = (0, 1), multiple: int = 1
    ) -> None:
        padded, (process, processes) = -(-batch_size // multiple) * multiple, shard
        self._epochs, self._batch_size = np.atleast_2d(rows), batch_size
        self._steps_per_epoch = -(-self._epochs.shape[1] // batch_size)
        self._positions = np.arange(padded).reshape(processes, -1)[process]  # of this process in a batch

    def __len__(self) -> int:
        return self._steps_per_epoch * len(self._epochs)

    def batch(self, number: int) -> tuple[Rows, Mask]:
        """Returns the rows of this process in a batch and their mask; masked rows are zero."""
        epoch, step = divmod(number, self._steps_per_epoch)
        of_batch = self._epochs[epoch, step * self._batch_size :][: self._batch_size]
        mask = self._positions < len(of_batch)
        rows = np.zeros(len(mask), np.int32)
        rows[mask] = of_batch[self._positions[mask]]
        return rows, mask


def load_batches(source: ImageReader, sampler: Sampler, start: int = 0) -> Generator[ImageBatch, None, None]:
    """Yields the batches of a source, from number `start`, read ahead in threads, which end with the generator."""
    numbers = range(start, len(sampler))
    # More threads than cores would mostly wait for Python's lock.
    threads = min(max(2, files.cpu_cores()), files.THREADS)
    with closing(read_ahead(lambda number: source.take(*sampler.batch(number)), numbers, threads)) as pixels:
        for number, images in zip(numbers, pixels, strict=True):
            rows, mask = sampler.batch(number)
            yield ImageBatch(images.result(), np.where(mask, source.labels[rows], 0), rows, mask)


def cache_images(setting: str, reader: ImageReader) -> ImageReader:
    """Returns a reader of the images, which with ``auto`` are decoded once if they fill at most half of free memory."""
    shape, free = (len(reader.labels), reader.image_size, reader.image_size, 3), files.host_memory()
    cached = setting == "auto" and math.prod(shape) <= free / 2
    what = f"{shape[0]:,} images of {shape[1]} × {shape[1]} pixels ({math.prod(shape) / 1e9:,.2f} GB)"
    place = "cached in memory" if cached else "decoded at every access"
    logging.info(f"{what} are {place} (data.cache={setting}; {free / 1e9:,.1f} GB are free)")
    if not cached:
        return reader
    decoded = np.empty(shape, np.uint8)
    with progress.bar("decode", len(decoded), "images") as update:
        for batch in load_batches(reader, Sampler(np.arange(len(decoded)), _CHUNK)):
            decoded[batch.rows[batch.mask]] = batch.images[batch.mask]
            update(int(batch.mask.sum()))
    return replace(reader, cached=decoded)


def device_memory() -> int | None:
    """Returns the free bytes of the first device; None where it does not report them, as the CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
