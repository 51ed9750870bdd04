"""The frozen mode on features that stay on disk: flattened activations of a whole set are larger than a memory.

The same steps as in frozen.py on the same cells in the same order; what differs is that features come block by
block from a memory-mapped file, so that the epochs are a loop on the host instead of one `lax.scan`.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alljax.training.fold import Fold, steps_per_epoch
from alljax.training.head_training import Curves, HeadFunctions, make_curves, make_steps, shown_rows
from alljax.training.step import Metrics, TrainState

BLOCK = 64 * 2**20
"""Bytes of features that are in memory at once."""


def make_heads(config: ConfigDict, classes: int, block: int = BLOCK) -> HeadFunctions:
    """Returns what `frozen.make_heads` does, for features (N·V, D) in a memory-mapped file.

    Args:
        config: its ``train`` and ``model`` are read; what `optim.numbers` names comes as arguments.
        classes: number of classes.
        block: bytes of features that are in memory at once.
    """
    steps = make_steps(config, classes)

    def some_steps(
        carry: tuple[TrainState, Metrics], key: jax.Array, numbers: Any, features: jax.Array, labels: jax.Array,
        mask: jax.Array, fold: Fold,
    ) -> tuple[TrainState, Metrics]:  # fmt: skip
        """As many steps as the leading axis of features (K, B, D), labels and mask (K, B) has."""

        def step(carry: tuple[TrainState, Metrics], batch: Any) -> tuple[tuple[TrainState, Metrics], None]:
            return steps.learn(carry, key, numbers, *batch, fold), None

        return jax.lax.scan(step, carry, (features, labels, mask))[0]

    # The states before a block are not needed after it; with Adam they are three times the parameters.
    learn_block = jax.jit(some_steps, donate_argnums=0)
    rows_shown = jax.jit(shown_rows, static_argnums=(4, 5))
    logits_of = jax.jit(steps.logits)
    add_sums = jax.jit(lambda total, logits, labels: total + Metrics.of(logits, labels, jnp.ones(len(labels), bool)))

    def learn(
        state: TrainState, key: jax.Array, numbers: Any, epoch: jax.Array, features: np.ndarray,
        labels: np.ndarray, fold: Fold,
    ) -> tuple[TrainState, Metrics]:  # fmt: skip
        """One epoch of one run."""
        size, count, views = steps.batch_size(fold), int(fold.train_count), len(features) // len(labels)
        shown = np.asarray(
            rows_shown(key, epoch, fold, jnp.asarray(labels), views, config.train.sampling == "balanced")
        )
        places = np.arange(steps_per_epoch(count, size) * size).reshape(-1, size)
        rows = shown[np.minimum(places, len(shown) - 1)]
        carry = state, Metrics.zero()
        for piece in _pieces(len(rows), max(1, block // (size * features.shape[1] * 4))):
            own = rows[piece]
            parts = features[own.reshape(-1)].reshape(*own.shape, -1), labels[own // views], places[piece] < count
            carry = learn_block(carry, key, numbers, *map(jnp.asarray, parts), fold)
        return carry

    def each_block(params: Any, features: np.ndarray, rows: np.ndarray) -> Iterator[tuple[slice, jax.Array]]:
        for piece in _pieces(len(rows), max(1, block // (features.shape[1] * 4))):
            yield piece, logits_of(params, jnp.asarray(features[rows[piece]]))

    def validate(params: Any, features: np.ndarray, labels: np.ndarray, fold: Fold) -> Metrics:
        rows, total = np.asarray(fold.validation)[: int(fold.validation_count)], Metrics.zero()
        for piece, logits in each_block(params, features, rows * (len(features) // len(labels))):
            total = add_sums(total, logits, jnp.asarray(labels[rows[piece]]))
        return total

    def epochs(
        states: TrainState, keys: jax.Array, numbers: Any, features: np.ndarray, labels: Any, fold: Fold,
        epoch_numbers: jax.Array,
    ) -> tuple[TrainState, Curves]:  # fmt: skip
        runs, curves, on_host = _unstacked(states, len(keys)), [], np.asarray(labels)
        for epoch in epoch_numbers:
            learned, validated = [], []
            for run, key in enumerate(keys):
                own = jax.tree.map(lambda values, run=run: values[run], numbers)
                runs[run], total = learn(runs[run], key, own, epoch, features, on_host, fold)
                learned.append(total)
                validated.append(validate(runs[run].params, features, on_host, fold))
            curves.append(make_curves(_stacked(learned), _stacked(validated)))
        return _stacked(runs), _stacked(curves)

    def test(params: Any, features: np.ndarray, labels: Any, fold: Fold) -> jax.Array:
        rows = np.asarray(fold.test) * (len(features) // len(labels))
        of_runs = [
            jnp.concatenate([logits for _, logits in each_block(one, features, rows)])
            for one in _unstacked(params, len(jax.tree.leaves(params)[0]))
        ]
        return jax.nn.softmax(jnp.stack(of_runs))

    return HeadFunctions(steps.start, epochs, test, longest=1)


def _pieces(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _unstacked(tree: Any, runs: int) -> list[Any]:
    return [jax.tree.map(lambda leaf, run=run: leaf[run], tree) for run in range(runs)]


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
