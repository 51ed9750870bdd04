"""Training of heads on features that stay on disk: flattened activations of a data set can exceed the memory."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alljax.training.head_training import FoldData, HeadTrainer, batch_size, over_runs
from alljax.training.sampling import FoldRows, steps_per_epoch
from alljax.training.step import History, Metrics, Parameters, RunInputs, TrainState

BLOCK = 64 * 2**20
"""Bytes of features in memory at once."""


class StreamingHeadTrainer(HeadTrainer):
    """Makes the same steps on the same images in the same order as `HeadTrainer`.

    Features are read from a memory-mapped file (N, V, D) in blocks of equal shape, one while the device computes on
    the block before; the loop over epochs is on the host.
    """

    epochs_per_call = 1

    def train_epochs(  # type: ignore[override]
        self, state: TrainState, runs: RunInputs, data: FoldData, epochs: np.ndarray
    ) -> tuple[TrainState, History]:
        """Trains all runs for one epoch; takes the memory of the old state."""
        rows, views = data.rows, data.features.shape[1]
        flat, size = data.features.reshape(-1, self._num_features), batch_size(self._config, rows)
        orders = np.asarray(self._orders(runs.key, epochs[0], data.labels, rows, views))
        per_block = max(1, BLOCK // (len(orders) * size * flat.shape[1] * 4))
        per_block = min(per_block, steps_per_epoch(len(rows.train), size))
        num_steps = steps_per_epoch(int(rows.train_count), size)
        state = state.replace(metrics=_zeros_like(state.metrics))  # type: ignore[attr-defined]
        for first in range(0, num_steps, per_block):
            index = np.minimum(np.arange(first * size, (first + per_block) * size), orders.shape[1] - 1)
            chosen = orders[:, index]
            block = jax.device_put((flat[chosen.reshape(-1)].reshape(*chosen.shape, -1), data.labels[chosen // views]))
            state = self._train_block(state, runs, block, rows, first, min(per_block, num_steps - first))
        metrics = _zeros_like(state.metrics)
        for chosen, block, mask in _blocks(data.features, rows.validation, int(rows.validation_count)):
            metrics = self._validate_block(metrics, state.eval_params, block, data.labels[chosen], mask)
        return state, jax.tree.map(lambda mean: mean[None], History(*state.metrics.means, *metrics.means))

    def predict(self, params: Parameters, features: Any, rows: np.ndarray) -> np.ndarray:
        """See `HeadTrainer`; the probabilities of one block are in memory on the device at a time."""
        blocks = _blocks(features, rows, len(rows))
        found = [(self._predict(params, block, np.arange(len(block))), mask) for _, block, mask in blocks]
        return np.concatenate([np.asarray(probabilities)[:, mask] for probabilities, mask in found], axis=1)

    @functools.partial(jax.jit, static_argnums=(0, 5))
    def _orders(self, keys: jax.Array, epoch: jax.Array, labels: jax.Array, rows: FoldRows, views: int) -> jax.Array:
        return over_runs(lambda key: self.epoch_rows(key, epoch, labels, rows, views), keys)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _train_block(
        self, state: TrainState, runs: RunInputs, block: tuple[jax.Array, jax.Array], rows: FoldRows,
        first: Any, count: Any,
    ) -> TrainState:  # fmt: skip
        """Makes `count` steps of all runs on their features (R, M, D) and labels (R, M) in order."""

        def steps(state: TrainState, run: RunInputs, features: jax.Array, labels: jax.Array) -> TrainState:
            return self.train_steps(state, run, (features, labels, jnp.arange(len(labels))), rows, first, count)

        return over_runs(steps, state, runs, *block)

    @functools.partial(jax.jit, static_argnums=0)
    def _validate_block(
        self, metrics: Metrics, params: Parameters, block: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> Metrics:
        return metrics + over_runs(lambda head: Metrics.of(self.logits(head, block[:, 0]), labels, mask), params)


def _zeros_like(metrics: Metrics) -> Metrics:
    return jax.tree.map(jnp.zeros_like, metrics)


def _blocks(features: np.ndarray, rows: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields the first `count` rows, their features on view 0 (B, 1, D) and a mask (B,), padded to one shape."""
    size = min(max(1, BLOCK // (features.shape[2] * 4)), len(rows))
    for start in range(0, count, size):
        index = np.arange(start, start + size)
        chosen = rows[np.minimum(index, len(rows) - 1)]
        yield chosen, features[chosen, :1], index < count
