"""The batches of a run: which cells, in which order, on the devices."""

from collections.abc import Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.special import log_softmax

from alljax.data import loader
from alljax.data.loader import ImageSource, Loader, Sampler
from alljax.training import sharding
from alljax.training.fine_tuning import FineTuner
from alljax.training.sampling import FoldRows, epoch_order, steps_per_epoch
from alljax.training.step import SHUFFLE, Batch, TrainState


class Feed:
    """The cells of one run.

    The order of an epoch is a function of key and epoch alone, and the same as in the frozen mode, so
    that a run may go on from any step.

    Attributes:
        labels: int32 (N,).
        train_count: how many cells are learned from.
        steps_per_epoch: a last, short batch counts.
        test: rows tested.
        watched: rows of the validation curves; the tested ones where none are set aside.
        has_validation: whether validation rows are set aside.
    """

    def __init__(
        self, config: ConfigDict, source: ImageSource, fold: FoldRows, key: jax.Array, devices: sharding.Mesh
    ) -> None:
        """Draws the order of all epochs.

        Args:
            config: ``train.batch_size``, ``train.accumulation_steps``, ``train.epochs``, ``train.sampling`` and
                ``data.workers`` are read.
            source: gives images and labels.
            fold: the rows.
            key: of the run.
            devices: a batch is padded to a multiple of their number.

        Raises:
            ConfigError: a batch cannot be shared evenly by the processes.
        """
        self._source, self.labels, self._devices = source, source.labels, devices
        self._workers, self._size = config.data.workers, min(config.train.batch_size, len(fold.train))
        self._multiple = devices.device_count * config.train.accumulation_steps
        self.train_count = int(fold.train_count)
        self.steps_per_epoch = steps_per_epoch(self.train_count, self._size)
        self.test = np.asarray(fold.test)[: int(fold.test_count)]
        self.watched = np.asarray(fold.validation)[: int(fold.validation_count)]
        self.has_validation = not np.array_equal(self.watched, self.test)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            jax.random.fold_in(key, SHUFFLE), jnp.arange(config.train.epochs)
        )
        orders = _orders(keys, fold, jnp.asarray(self.labels), config.train.sampling == "balanced")
        self._orders = np.asarray(orders)[:, : self.train_count]

    def training(self, step: int) -> Generator[Batch, None, None]:
        """Yields the batches of the steps from `step` on to the last epoch's end."""
        order = self._order(self._orders, epochs=len(self._orders))
        with Loader(self._source, order, self._workers, start=step) as batches:
            for batch in batches:
                yield self._cells(batch)

    def logits(self, tuner: FineTuner, state: TrainState, rows: np.ndarray) -> np.ndarray:
        """Returns float32 (n, C) of these rows, in their order."""
        parts = []
        with Loader(self._source, self._order(rows)) as batches:
            for number, batch in enumerate(batches):
                count = min(self._size, len(rows) - number * self._size)
                parts.append(tuner.logits(state, self._cells(batch))[:count])
        return np.concatenate(parts)

    def validate(self, tuner: FineTuner, state: TrainState) -> tuple[float, float]:
        """Returns mean cross-entropy and accuracy of the watched rows."""
        labels, log_p = self.labels[self.watched], log_softmax(self.logits(tuner, state, self.watched), axis=1)
        own = log_p[np.arange(len(labels)), labels]
        return float(-own.mean(dtype=np.float64)), float((log_p.argmax(1) == labels).mean())

    def _order(self, rows: np.ndarray, epochs: int = 1) -> Sampler:
        shard = (jax.process_index(), jax.process_count())
        return Sampler(rows, self._size, epochs=epochs, shard=shard, multiple=self._multiple)

    def _cells(self, batch: loader.ImageBatch) -> Batch:
        """Puts this process's part of a global batch on its devices."""
        local = len(batch.mask)
        positions = np.arange(local, dtype=np.int32) + jax.process_index() * local
        arrays: tuple[Any, ...] = (batch.images, batch.labels, batch.mask, positions)
        return self._devices.shard(Batch(*arrays))


_orders = jax.jit(jax.vmap(epoch_order, (0, None, None, None)), static_argnums=3)
