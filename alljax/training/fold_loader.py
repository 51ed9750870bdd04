"""The image batches of one fine-tuning run, placed on the devices."""

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.special import log_softmax

from alljax.data.loader import ImageBatch, ImageSource, Sampler, load_batches
from alljax.training.sampling import FoldRows, batch_size, epoch_order, steps_per_epoch
from alljax.training.sharding import Mesh
from alljax.training.step import SHUFFLE, Batch


class FoldLoader:
    """Batches of the images of one fold, padded to a multiple of the devices.

    The order of an epoch depends on the key and the epoch only, as in the frozen mode, so a run can resume at any step.
    `has_validation` is false where the test rows are used for the curves.
    """

    def __init__(self, config: ConfigDict, images: ImageSource, fold: FoldRows, key: jax.Array, mesh: Mesh) -> None:
        """Draws the order of all epochs from the key of the run; `images` are those of the complete data set."""
        self._images, self._mesh = images, mesh
        self._batch_size = batch_size(config, fold)
        shard = jax.process_index(), jax.process_count()
        multiple = mesh.device_count * config.train.accumulation_steps
        self._sampler = partial(Sampler, batch_size=self._batch_size, shard=shard, multiple=multiple)
        self.train_count = int(fold.train_count)
        self.steps_per_epoch = steps_per_epoch(config, fold)
        self._test = np.asarray(fold.test)[: int(fold.test_count)]
        self._validation = np.asarray(fold.validation)[: int(fold.validation_count)]
        self.has_validation = not np.array_equal(self._validation, self._test)
        shuffle, epochs = jax.random.fold_in(key, SHUFFLE), jnp.arange(config.train.epochs)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(shuffle, epochs)
        orders = _orders(keys, fold, jnp.asarray(images.labels), config.train.sampling == "balanced")
        self._orders = np.asarray(orders)[:, : self.train_count]

    def train(self, step: int) -> Generator[Batch, None, None]:
        """Yields the training batches from a step, counted from 0, to the end of the last epoch."""
        with closing(load_batches(self._images, self._sampler(self._orders), start=step)) as batches:
            for batch in batches:
                yield self._place(batch)

    def test(self, logits: Callable[[Batch], np.ndarray]) -> np.ndarray:
        """Returns the logits float32 (U, C) of the test rows; `logits` gives those of a placed batch."""
        return self._predict(logits, self._test)

    def validate(self, logits: Callable[[Batch], np.ndarray]) -> tuple[float, float]:
        """Returns mean cross-entropy and accuracy of the validation rows."""
        labels, log_p = self._images.labels[self._validation], log_softmax(self._predict(logits, self._validation), 1)
        losses = -log_p[np.arange(len(labels)), labels]
        return float(losses.mean(dtype=np.float64)), float((log_p.argmax(1) == labels).mean())

    def _predict(self, logits: Callable[[Batch], np.ndarray], rows: np.ndarray) -> np.ndarray:
        parts = []
        for number, batch in enumerate(load_batches(self._images, self._sampler(rows))):
            count = min(self._batch_size, len(rows) - number * self._batch_size)
            parts.append(logits(self._place(batch))[:count])
        return np.concatenate(parts)

    def _place(self, batch: ImageBatch) -> Batch:
        positions = np.arange(len(batch.mask), dtype=np.int32) + jax.process_index() * len(batch.mask)
        arrays: Any = batch.images, batch.labels, batch.mask, positions
        return self._mesh.shard(Batch(*arrays))


_orders = jax.jit(jax.vmap(epoch_order, (0, None, None, None)), static_argnums=3)
