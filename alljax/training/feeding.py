"""The batches of a run: which cells, in which order, on the devices."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.special import log_softmax

from alljax.training import frozen, mesh
from alljax.training.finetune import Cells
from alljax.training.frozen import Fold
from alljax.training.learner import Learner
from alljax.training.step import ORDER, TrainState


class Feed:
    """The cells of one run.

    The order of an epoch is a function of key and epoch alone, and the same as in the frozen regime, so
    that a run may go on from any step.

    Attributes:
        labels: int32 (N,).
        train_count: how many cells are learned from.
        steps_per_epoch: a last, short batch counts.
        test: rows tested.
        watched: rows of the validation curves; the tested ones where none are set aside.
        set_aside: whether validation rows are set aside.
    """

    def __init__(
        self,
        config: ConfigDict,
        pixels: np.ndarray,
        labels: np.ndarray,
        fold: Fold,
        key: jax.Array,
        devices: mesh.Jit | mesh.Pmap,
    ) -> None:
        """Reads what a fold holds.

        Args:
            config: ``train.batch_size`` and ``train.accumulate`` are read.
            pixels: uint8 (N, S, S, 3), all images of the set.
            labels: int32 (N,).
            fold: the rows.
            key: of the run.
            devices: a batch is padded to a multiple of their number.
        """
        self._pixels, self.labels, self._devices = pixels, labels, devices
        self._fold, self._key = fold, key
        self._size = min(config.train.batch_size, len(fold.train))
        multiple = devices.count * config.train.accumulate
        self._padded = -(-self._size // multiple) * multiple
        self.train_count = int(fold.train_count)
        self.steps_per_epoch = frozen.steps_per_epoch(self.train_count, self._size)
        self.test = np.asarray(fold.test)[: int(fold.test_count)]
        self.watched = np.asarray(fold.validation)[: int(fold.validation_count)]
        self.set_aside = not np.array_equal(self.watched, self.test)

    def training(self, step: int) -> Iterator[Cells]:
        """Yields the batches of the steps from `step` on, without end."""
        epoch, place = divmod(step, self.steps_per_epoch)
        while True:
            rows = self._order(epoch)
            for start in range(place * self._size, self.train_count, self._size):
                yield self._cells(rows[start : start + self._size])
            epoch, place = epoch + 1, 0

    def logits(self, learner: Learner, state: TrainState, rows: np.ndarray) -> np.ndarray:
        """Returns float32 (n, C) of these rows, in their order."""
        parts = [rows[start : start + self._size] for start in range(0, len(rows), self._size)]
        return np.concatenate([learner.logits(state, self._cells(part))[: len(part)] for part in parts])

    def validate(self, learner: Learner, state: TrainState) -> tuple[float, float]:
        """Returns mean cross-entropy and accuracy of the watched rows."""
        labels, log_p = self.labels[self.watched], log_softmax(self.logits(learner, state, self.watched), axis=1)
        own = log_p[np.arange(len(labels)), labels]
        return float(-own.mean(dtype=np.float64)), float((log_p.argmax(1) == labels).mean())

    def _order(self, epoch: int) -> np.ndarray:
        with jax.transfer_guard("allow"):  # a few bytes an epoch
            key = jax.random.fold_in(jax.random.fold_in(self._key, ORDER), epoch)
            return np.asarray(_shuffled(key, self._fold))[: self.train_count]

    def _cells(self, rows: np.ndarray) -> Cells:
        """Pads rows to a global batch and puts this process's part of it on the devices."""
        local = self._padded // jax.process_count()
        places = np.arange(local) + jax.process_index() * local
        real = places < len(rows)
        own = rows[places[real]]
        images = np.zeros((local, *self._pixels.shape[1:]), np.uint8)
        labels = np.zeros(local, np.int32)
        images[real], labels[real] = self._pixels[own], self.labels[own]
        batch: tuple[Any, ...] = (images, labels, real, places.astype(np.int32))
        return self._devices.spread(Cells(*batch))


_shuffled = jax.jit(frozen.shuffled)
