"""The frozen regime: whole head runs as one compiled function.

A frozen backbone gives the same features every epoch, so they are computed once
(features.py).  A head run, epochs × steps, is then one `lax.scan`, and the runs of several
seeds are one vmapped call.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from alljax.data.splits import Split
from alljax.models.head import Head
from alljax.training import optim
from alljax.training.step import Apply, Sums, TrainState, sums, train_step


@flax.struct.dataclass
class Fold:
    """Which rows are learned from and which are tested, padded so that folds share a shape.

    Attributes:
        train: int32 (T,), the first `train_count` entries are rows of the training side.
        train_count: int32 ().
        test: int32 (U,), likewise.
        test_count: int32 ().
        class_weights: float32 (C,).
        mean: float32 (D,), subtracted from the features.
        scale: float32 (D,), the features are multiplied by it afterwards.
    """

    train: ArrayLike
    train_count: ArrayLike
    test: ArrayLike
    test_count: ArrayLike
    class_weights: ArrayLike
    mean: ArrayLike
    scale: ArrayLike


@flax.struct.dataclass
class Curves:
    """One row an epoch, one column a seed: float32 (E, R).

    Train values are the means over the cells of the epoch as the head saw them (before
    each step), as Keras reports them; test values are those at the end of the epoch.
    """

    train_loss: jax.Array
    train_accuracy: jax.Array
    test_loss: jax.Array
    test_accuracy: jax.Array


@flax.struct.dataclass
class HeadRuns:
    """What `make_train` returns, for R seeds.

    Attributes:
        params: the heads' parameters, with a leading axis R.
        curves: per epoch.
        probabilities: float32 (R, U, C), of the fold's test rows at the end; rows past
            `Fold.test_count` are padding.
    """

    params: Any
    curves: Curves
    probabilities: jax.Array


def make_train(
    config: ConfigDict, classes: int, on_epoch: Callable[[], None] | None = None
) -> Callable[[jax.Array, jax.Array, jax.Array, Fold], HeadRuns]:
    """Returns the compiled ``train(keys (R,), features (N, D), labels (N,), fold)``.

    A key decides everything random of its run: the head's first parameters and the order of the
    cells in each epoch, epoch by epoch, so that ten epochs are the first ten of a hundred.

    Args:
        config: its ``train`` and ``model.hidden`` are read.
        classes: number of classes.
        on_epoch: called on the host after each epoch of all R runs together.
    """
    head = Head(hidden=config.model.hidden, classes=classes)
    optimizer = optim.make_optimizer(config)
    batch_size = config.train.batch_size

    def epoch(state: TrainState, key: jax.Array, data: "_Rows") -> tuple[TrainState, Sums]:
        order = _shuffled(key, data.fold)

        def step(index: jax.Array, carry: tuple[TrainState, Sums]) -> tuple[TrainState, Sums]:
            state, total = carry
            place = index * batch_size + jnp.arange(batch_size)
            rows = order[jnp.minimum(place, len(order) - 1)]
            mask = place < data.fold.train_count
            state, batch = train_step(
                head_apply(head, data.fold), optimizer, state, data.features[rows], data.labels[rows], mask,
                data.fold.class_weights,
            )  # fmt: skip
            return state, total + batch

        steps = steps_per_epoch(data.fold.train_count, batch_size)
        return jax.lax.fori_loop(0, steps, step, (state, Sums.zero()))

    def train(keys: jax.Array, features: jax.Array, labels: jax.Array, fold: Fold) -> HeadRuns:
        data = _Rows(features, labels, fold)

        def init(key: jax.Array) -> TrainState:
            params = head.init(jax.random.fold_in(key, 0), features[:1])["params"]
            return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

        def all_seeds(states: TrainState, number: jax.Array) -> tuple[TrainState, Curves]:
            epoch_keys = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, 1), number))(keys)
            states, learned = jax.vmap(epoch, in_axes=(0, 0, None))(states, epoch_keys, data)
            tested = jax.vmap(_test, in_axes=(None, 0, None))(head, states.params, data)[1]
            if on_epoch is not None:
                jax.debug.callback(on_epoch)
            return states, Curves(
                learned.loss / learned.count,
                learned.correct / learned.count,
                tested.loss / tested.count,
                tested.correct / tested.count,
            )

        states, curves = jax.lax.scan(all_seeds, jax.vmap(init)(keys), jnp.arange(config.train.epochs))
        logits = jax.vmap(_test, in_axes=(None, 0, None))(head, states.params, data)[0]
        return HeadRuns(states.params, curves, jax.nn.softmax(logits))

    return jax.jit(train)


def steps_per_epoch(count: Any, batch_size: int) -> Any:
    """Returns the optimizer steps in one pass over `count` cells; a last, short batch is one of them."""
    return -(-count // batch_size)


@flax.struct.dataclass
class _Rows:
    features: jax.Array
    labels: jax.Array
    fold: Fold


def head_apply(head: Head, fold: Fold) -> Apply:
    """Returns the head on features scaled as the fold says: (params, (B, D)) → logits (B, C)."""

    def apply(params: Any, features: jax.Array) -> jax.Array:
        mean, scale = jnp.asarray(fold.mean), jnp.asarray(fold.scale)
        return head.apply({"params": params}, (features - mean[None]) * scale[None])

    return apply


def _test(head: Head, params: Any, data: _Rows) -> tuple[jax.Array, Sums]:
    fold = data.fold
    logits = head_apply(head, fold)(params, data.features[fold.test])
    mask = jnp.arange(len(fold.test)) < fold.test_count
    return logits, sums(logits, data.labels[fold.test], mask)


def _shuffled(key: jax.Array, fold: Fold) -> jax.Array:
    """Returns the training rows in a random order, padding last."""
    length = len(fold.train)
    draws = jax.random.uniform(key, (length,))
    return fold.train[jnp.argsort(jnp.where(jnp.arange(length) < fold.train_count, draws, 2.0))]


def make_folds(
    config: ConfigDict, features: np.ndarray, labels: np.ndarray, classes: int, splits: Sequence[Split]
) -> list[Fold]:
    """Returns one `Fold` a split, all of one shape.

    Args:
        config: ``train.class_weights`` and ``train.standardise`` are read.
        features: float32 (N, D).
        labels: int (N,).
        classes: number of classes.
        splits: rows learned from and tested.
    """
    longest_train = max(len(split.train) for split in splits)
    longest_test = max(len(split.test) for split in splits)
    folds = []
    for split in splits:
        weights = np.ones(classes, np.float32)
        if config.train.class_weights == "balanced":  # scikit-learn's: n / (classes · count)
            weights = (len(split.train) / (classes * np.bincount(labels[split.train], minlength=classes))).astype(
                np.float32
            )
        mean, scale = np.zeros(features.shape[1], np.float32), np.ones(features.shape[1], np.float32)
        if config.train.standardise:
            mean = features[split.train].mean(0, dtype=np.float64).astype(np.float32)
            deviation = features[split.train].std(0, dtype=np.float64)
            scale = (1 / np.where(deviation > 0, deviation, 1)).astype(np.float32)
        folds.append(
            Fold(
                np.pad(split.train.astype(np.int32), (0, longest_train - len(split.train))),
                np.int32(len(split.train)),
                np.pad(split.test.astype(np.int32), (0, longest_test - len(split.test))),
                np.int32(len(split.test)),
                weights,
                mean,
                scale,
            )
        )
    return folds
