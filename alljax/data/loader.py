"""Records to decoded, resized, shuffled, padded and sharded batches, read ahead by Grain's threads or processes."""

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

from alljax.data import pixels, resize
from alljax.data.dataset import Dataset
from alljax.data.images import threads_to_use
from alljax.errors import ConfigError, DataError

Rows = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """Images as the device gets them; all of it is zero where the mask is false.

    Attributes:
        images: uint8 (B, S, S, 3), RGB; on the device where they are kept there.
        labels: int32 (B,).
        rows: int32 (B,), the images' places among the records.
        mask: bool (B,), false where a batch is padded.
    """

    images: Any
    labels: NDArray[np.int32]
    rows: Rows
    mask: Mask


class Source(Protocol):
    """Where batches get their pixels: `Images`, or `alljax.data.decoded_cache.Decoded`."""

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label of each record, int32 (N,)."""

    def take(self, rows: Rows, mask: Mask) -> Any:
        """Returns uint8 (B, S, S, 3); zeros where the mask is false."""


@dataclass(frozen=True)
class Images:
    """The images of a set as squares of one size, decoded whenever they are asked for.

    Attributes:
        dataset: the records.
        image_size: side S in pixels.
        interpolation: nearest, box, bilinear, hamming, bicubic or lanczos.
        antialias: see `alljax.data.resize.resize`.

    Raises:
        ConfigError: no such interpolation.
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
        for place in np.flatnonzero(mask):
            found, blue_first = pixels.read(self.dataset, self.dataset.records[rows[place]])
            squared = images[place, ..., ::-1] if blue_first else images[place]
            resize.resize(found, squared, self.interpolation, self.antialias)
        return images


@dataclass(frozen=True, eq=False)
class Order:
    """Which rows each batch holds: a pure function of the batch's number.

    Each epoch takes every row once.  Batches do not reach from one epoch into the next: the last one of
    an epoch is padded.  Of each global batch a host gets one contiguous part, so that the hosts together
    see the same batches however many they are.

    Attributes:
        rows: places among the records, int (N,); or (E, N), the order of each epoch, drawn already.
        batch_size: rows of a global batch.
        seed: draws the order of each epoch; None leaves `rows` as they stand.
        epochs: how many; None for no end.
        shard: this host's number and the number of hosts.
        multiple: a global batch is padded to a multiple of this number, of devices for example.

    Raises:
        ConfigError: the global batch cannot be shared evenly.
    """

    rows: NDArray[np.integer[Any]]
    batch_size: int
    seed: int | None = None
    epochs: int | None = 1
    shard: tuple[int, int] = (0, 1)
    multiple: int = 1

    def __post_init__(self) -> None:
        index, hosts = self.shard
        if not 0 <= index < hosts:
            raise ConfigError(f"shard {index} of {hosts}: shards are numbered from 0 to {hosts - 1}")
        if self.batch_size < 1 or self._padded % hosts:
            raise ConfigError(
                f"a batch of {self._padded} images cannot be shared evenly by {hosts} processes; "
                f"set train.batch_size to a multiple of {hosts}"
            )

    @property
    def count(self) -> int:
        """Rows in an epoch, N."""
        return self.rows.shape[-1]

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the short one among them."""
        return -(-self.count // self.batch_size)

    @property
    def _padded(self) -> int:
        return -(-self.batch_size // self.multiple) * self.multiple

    def __len__(self) -> int:
        """Returns the number of batches; the largest possible one where epochs do not end."""
        if self.epochs is None:
            return sys.maxsize if self.count else 0
        return self.steps_per_epoch * self.epochs

    def batch(self, number: int) -> tuple[Rows, Mask]:
        """Returns this host's rows of a batch, zero where the mask, which comes with them, is false."""
        epoch, step = divmod(number, self.steps_per_epoch)
        index, hosts = self.shard
        share = self._padded // hosts
        places = np.arange(index * share, (index + 1) * share)
        mask = places < min(self.batch_size, self.count - step * self.batch_size)
        places = places[mask] + step * self.batch_size
        if self.seed is not None:
            places = _permutation(self.seed, epoch, self.count)[places]
        rows = np.zeros(share, np.int32)
        rows[mask] = (self.rows if self.rows.ndim == 1 else self.rows[epoch])[places]
        return rows, mask


@lru_cache(maxsize=4)  # threads that read ahead stand in two epochs at once
def _permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    # Not Grain's shuffle: that of seed s in epoch e + 1 is that of seed s + 1 in epoch e, and on small sets it is
    # slow and measurably uneven.
    return np.random.default_rng((seed, epoch)).permutation(length)


class Loader(Iterator[Batch]):
    """Batches of a source in an order, whatever the number of threads and processes that read ahead.

    Close it, or leave its ``with`` block, when done before its end.
    """

    def __init__(self, source: Source, order: Order, workers: int = 0, threads: int | None = None) -> None:
        """Starts nothing yet: reading begins with the first batch.

        Args:
            source: gives the pixels.
            order: gives the rows.
            workers: processes that read and decode; 0 for threads of this process.
            threads: of this process; two a core unless told.
        """
        self._source, self._order = source, order
        self._workers, self._threads = workers, threads or threads_to_use()
        self._number = 0  # of the next batch
        self._reading: list[Any] = []  # once it has begun, the pixels of the batches from there on
        weakref.finalize(self, _end, self._reading)  # also at the interpreter's end, while Grain is still whole

    def __next__(self) -> Batch:
        """Returns the next batch.

        Raises:
            DataError: an image that cannot be read, or a worker process that was killed.
        """
        if self._number >= len(self._order):
            self.close()
            raise StopIteration
        if not self._reading:
            self._reading.append(self._open())
        try:
            images = next(self._reading[0])
        except BaseException as error:
            self.close()  # whoever asks again gets this batch, not the one after it
            if isinstance(error, RuntimeError) and "Worker process was terminated" in str(error):
                raise DataError(
                    "a worker process was killed (no memory left?); set data.workers=0 or a smaller train.batch_size"
                ) from error
            raise
        rows, mask = self._order.batch(self._number)
        self._number += 1
        return Batch(images, np.where(mask, self._source.labels[rows], 0), rows, mask)

    def get_state(self) -> dict[str, Any]:
        """Returns what `set_state` needs to go on after the batches given so far; JSON can hold it."""
        return {"next_batch": self._number, **self._fingerprint()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken, for any number of hosts, workers and threads.

        Raises:
            ConfigError: the state is of other batches.
        """
        for key, ours in self._fingerprint().items():
            if state.get(key) != ours:
                raise ConfigError(f"cannot go on in the batches: {key} was {state.get(key)} and is {ours} now")
        self.close()
        self._number = int(state["next_batch"])

    def close(self) -> None:
        """Ends the threads and processes."""
        _end(self._reading)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _fingerprint(self) -> dict[str, Any]:
        return {"rows": self._order.count, "batch_size": self._order.batch_size, "seed": self._order.seed}

    def _open(self) -> Iterator[Any]:
        """Returns the pixels of the batches from the next one on."""
        taken = partial(_taken, self._source, self._order)
        if not isinstance(self._source, Images):  # they wait in memory: nothing is gained by reading ahead
            return map(taken, count(self._number))
        import grain  # takes about a second, and not every command makes batches
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain asks for its flags before it starts a process

        numbers = grain.MapDataset.range(self._number, len(self._order))
        threads = 1 if self._workers else self._threads
        images = numbers.map(taken).to_iter_dataset(grain.ReadOptions(threads, prefetch_buffer_size=threads))
        # Through pipes: what is left in shared memory outlives the processes, and containers have little of it.
        images = grain.experimental.WithOptionsIterDataset(
            images, grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
        )
        processes = grain.MultiprocessingOptions(num_workers=self._workers)
        return iter(images.mp_prefetch(processes, worker_init_fn=_settle))


def _end(reading: list[Any]) -> None:
    while reading:
        each = reading.pop()
        if hasattr(each, "close"):
            each.close()


def _taken(source: Source, order: Order, number: int) -> Any:
    return source.take(*order.batch(number))


def _settle(worker: int, workers: int) -> None:
    """Makes a worker process end with its parent and leave signals to it, however the parent dies."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)

    def follow() -> None:
        if parent := parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def batches(source: Source, batch_size: int, workers: int = 0, threads: int | None = None) -> Iterator[Batch]:
    """Yields all images once, in the order of the records; the last batch is padded.

    Args:
        source: gives the pixels.
        batch_size: B.
        workers: as of `Loader`.
        threads: as of `Loader`.

    Raises:
        DataError: an image that cannot be read.
    """
    order = Order(np.arange(len(source.labels), dtype=np.int32), batch_size)
    with Loader(source, order, workers, threads) as loader:
        yield from loader
