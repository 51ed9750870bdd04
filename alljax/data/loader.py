"""Records to decoded, resized, shuffled, padded and sharded batches, prefetched by Grain's threads or processes."""

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import count
from multiprocessing import parent_process
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alljax.data import resize
from alljax.data.dataset import Dataset
from alljax.data.images import load
from alljax.data.inspection import num_threads
from alljax.errors import ConfigError, DataError

Rows = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ImageBatch:
    """Images as the device receives them; all arrays are zero where the mask is false.

    Attributes:
        images: uint8 (B, S, S, 3), RGB; a device array where images are cached on the device.
        labels: int32 (B,).
        rows: int32 (B,), indices of the records.
        mask: bool (B,), false where a batch is padded.
    """

    images: Any
    labels: NDArray[np.int32]
    rows: Rows
    mask: Mask


class ImageSource(Protocol):
    """Gives pixels by row: `ImageReader`, or `alljax.data.decoded_cache.DecodedImages`."""

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label of each record, int32 (N,)."""

    def take(self, rows: Rows, mask: Mask) -> Any:
        """Returns uint8 (B, S, S, 3); zeros where the mask is false."""


@dataclass(frozen=True)
class ImageReader:
    """Images of a data set, decoded and resized to squares at every access.

    Attributes:
        dataset: the records.
        image_size: side S in pixels.
        interpolation: nearest, box, bilinear, hamming, bicubic or lanczos.
        antialias: see `alljax.data.resize.resize`.

    Raises:
        ConfigError: the interpolation is unknown.
    """

    dataset: Dataset
    image_size: int
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        resize.check(self.interpolation, self.antialias)

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """The label of each record, int32 (N,)."""
        return np.array([record.label for record in self.dataset.records], np.int32)

    def take(self, rows: Rows, mask: Mask) -> NDArray[np.uint8]:
        """Reads, decodes and resizes: uint8 (B, S, S, 3), zeros where the mask is false.

        Raises:
            DataError: an image that cannot be read.
        """
        images: NDArray[np.uint8] = np.zeros((len(rows), self.image_size, self.image_size, 3), np.uint8)
        for index in np.flatnonzero(mask):
            pixels = load(self.dataset, self.dataset.records[rows[index]])
            resize.resize(pixels, images[index], self.interpolation, self.antialias)
        return images


@dataclass(frozen=True, eq=False)
class Sampler:
    """The rows of each batch, a pure function of the batch number.

    Each epoch contains every row once.  The last batch of an epoch is padded; no batch spans two epochs.  Each process
    gets a contiguous part of each global batch, so that the global batches do not depend on the number of processes.

    Attributes:
        rows: record indices, int (N,); or (E, N), an order per epoch.
        batch_size: rows in a global batch.
        seed: shuffles each epoch; None keeps the order of `rows`.
        epochs: number of epochs; None for no end.
        shard: index of this process and number of processes.
        multiple: a global batch is padded to a multiple of this number, for example of the devices.

    Raises:
        ConfigError: the processes cannot share a global batch evenly.
    """

    rows: NDArray[np.integer[Any]]
    batch_size: int
    seed: int | None = None
    epochs: int | None = 1
    shard: tuple[int, int] = (0, 1)
    multiple: int = 1

    def __post_init__(self) -> None:
        processes = self.shard[1]
        if self._padded % processes:
            raise ConfigError(
                f"a batch of {self._padded} images cannot be shared evenly by {processes} processes; "
                f"set train.batch_size to a multiple of {processes}"
            )

    @property
    def count(self) -> int:
        """Number of rows in an epoch, N."""
        return self.rows.shape[-1]

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch, including the last, shorter batch."""
        return -(-self.count // self.batch_size)

    @property
    def _padded(self) -> int:
        return -(-self.batch_size // self.multiple) * self.multiple

    def __len__(self) -> int:
        """Returns the number of batches; `sys.maxsize` without an end."""
        if self.epochs is None:
            return sys.maxsize if self.count else 0
        return self.steps_per_epoch * self.epochs

    def batch(self, number: int) -> tuple[Rows, Mask]:
        """Returns the rows of this process in a batch and their mask; masked rows are zero."""
        epoch, step = divmod(number, self.steps_per_epoch)
        index, processes = self.shard
        share = self._padded // processes
        positions = np.arange(index * share, (index + 1) * share)
        mask = positions < min(self.batch_size, self.count - step * self.batch_size)
        positions = positions[mask] + step * self.batch_size
        if self.seed is not None:
            positions = _permutation(self.seed, epoch, self.count)[positions]
        rows = np.zeros(share, np.int32)
        rows[mask] = (self.rows if self.rows.ndim == 1 else self.rows[epoch])[positions]
        return rows, mask


@lru_cache(maxsize=4)  # prefetching threads work on up to two epochs
def _permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    # Grain's shuffle of seed s in epoch e + 1 equals that of seed s + 1 in epoch e, and is measurably uneven.
    return np.random.default_rng((seed, epoch)).permutation(length)


class Loader(Iterator[ImageBatch]):
    """Batches of a source, equal for every number of prefetching threads and processes.

    Close it, or leave its ``with`` block, to stop before the end.
    """

    def __init__(
        self,
        source: ImageSource,
        sampler: Sampler,
        workers: int = 0,
        start: int = 0,
    ) -> None:
        """Reading begins with the first batch.

        Args:
            source: the pixels.
            sampler: the rows.
            workers: processes that read and decode; 0 for threads of this process.
            start: number of the first batch.
        """
        self._source, self._sampler, self._workers = source, sampler, workers
        self._number = start  # of the next batch
        self._prefetched: list[Any] = []  # holds the iterator over pixels once reading has begun
        weakref.finalize(self, _close, self._prefetched)  # also before Grain is torn down at interpreter exit

    def __next__(self) -> ImageBatch:
        """Returns the next batch.

        Raises:
            DataError: an image that cannot be read, or a worker process that was killed.
        """
        if self._number >= len(self._sampler):
            self.close()
            raise StopIteration
        if not self._prefetched:
            self._prefetched.append(self._open())
        try:
            images = next(self._prefetched[0])
        except BaseException as error:
            self.close()  # the next call repeats this batch
            if isinstance(error, RuntimeError) and "Worker process was terminated" in str(error):
                raise DataError(
                    "a worker process was killed (out of memory?); set data.workers=0 or a smaller train.batch_size"
                ) from error
            raise
        rows, mask = self._sampler.batch(self._number)
        self._number += 1
        return ImageBatch(images, np.where(mask, self._source.labels[rows], 0), rows, mask)

    def close(self) -> None:
        """Ends threads and processes."""
        _close(self._prefetched)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self) -> Iterator[Any]:
        """Returns an iterator over the pixels of the next and all later batches."""
        take = partial(_take, self._source, self._sampler)
        if not isinstance(self._source, ImageReader):  # pixels in memory need no prefetching
            return map(take, count(self._number))
        import grain  # importing it takes about a second
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads its flags before it starts a process
        numbers = grain.MapDataset.range(self._number, len(self._sampler))
        threads = 1 if self._workers else num_threads()
        images = numbers.map(take).to_iter_dataset(grain.ReadOptions(threads, prefetch_buffer_size=threads))
        # Pipes instead of shared memory, which outlives killed processes and is small in containers.
        images = grain.experimental.WithOptionsIterDataset(
            images, grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
        )
        processes = grain.MultiprocessingOptions(num_workers=self._workers)
        return iter(images.mp_prefetch(processes, worker_init_fn=_follow_parent))


def batches(source: ImageSource, batch_size: int, workers: int = 0) -> Iterator[ImageBatch]:
    """Yields all images once in the order of the records; the last batch is padded.

    Args:
        source: the pixels.
        batch_size: B.
        workers: as in `Loader`.

    Raises:
        DataError: an image that cannot be read.
    """
    sampler = Sampler(np.arange(len(source.labels), dtype=np.int32), batch_size)
    with Loader(source, sampler, workers) as loader:
        yield from loader


def _close(prefetched: list[Any]) -> None:
    while prefetched:
        iterator = prefetched.pop()
        if hasattr(iterator, "close"):
            iterator.close()


def _take(source: ImageSource, sampler: Sampler, number: int) -> Any:
    return source.take(*sampler.batch(number))


def _follow_parent(worker: int, workers: int) -> None:
    """Makes a worker process ignore signals, which its parent handles, and end when its parent ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)

    def follow() -> None:
        if parent := parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
