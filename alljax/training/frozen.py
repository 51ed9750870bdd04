"""The frozen regime: whole head runs as one compiled function.

A frozen backbone gives the same features every epoch, so they are computed once
(features.py).  A head run, epochs × steps, is then one `lax.scan`, and the runs of several
seeds are one compiled call.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from sklearn.utils.class_weight import compute_class_weight

from alljax.data.splits import Split
from alljax.models.head import Head
from alljax.training import optim
from alljax.training.step import FIRST, ORDER, RESTING, VIEWS, Sums, TrainState, cell_keys, make_loss, sums, train_step


@flax.struct.dataclass
class Fold:
    """Which rows are learned from and which are tested, padded so that folds share a shape.

    Attributes:
        train: int32 (T,), the first `train_count` entries are rows of the training side.
        train_count: int32 ().
        test: int32 (U,), likewise.
        test_count: int32 ().
        validation: int32 (V,), likewise: the rows set aside for the curves, or the test rows where none are.
        validation_count: int32 ().
        class_weights: float32 (C,).
    """

    train: jax.Array
    train_count: jax.Array
    test: jax.Array
    test_count: jax.Array
    validation: jax.Array
    validation_count: jax.Array
    class_weights: jax.Array


@flax.struct.dataclass
class Curves:
    """One row an epoch, one column a seed: float32 (E, R).

    Train values are the means over the cells of the epoch as the head saw them (before
    each step), as Keras reports them; validation values are those at the end of the epoch.
    """

    train_loss: jax.Array
    train_accuracy: jax.Array
    val_loss: jax.Array
    val_accuracy: jax.Array


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

    A key decides everything random of its run: the head's first parameters, the order of the cells
    in each epoch and which view of each cell is shown in it, epoch by epoch, so that ten epochs are
    the first ten of a hundred.

    Features may also be (N·V, D), the V views of a cell one after the other (`compute_features`):
    V follows from the number of labels.  Heads learn from views drawn at random and are tested on
    view 0, the image as it is, so that their numbers stay comparable with those of heads that have
    seen nothing else.

    Args:
        config: its ``train`` and ``model.hidden`` are read.
        classes: number of classes.
        on_epoch: called on the host after each epoch of all R runs together.
    """
    head, loss = Head(config.model.hidden, classes, config.model.dropout), make_loss(config)
    epochs = jnp.arange(config.train.epochs)

    def apply(params: Any, features: jax.Array, keys: jax.Array | None = None) -> Any:
        return head.apply({"params": params}, features, keys)

    def train(keys: jax.Array, features: jax.Array, labels: jax.Array, fold: Fold) -> HeadRuns:
        batch_size = min(config.train.batch_size, len(fold.train))  # more places than cells stay empty
        optimizer = optim.make_optimizer(config, config.train.epochs * steps_per_epoch(fold.train_count, batch_size))
        views = len(features) // len(labels)

        def start(key: jax.Array) -> TrainState:
            params = head.init(jax.random.fold_in(key, FIRST), features[:1])["params"]
            return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

        def learn(
            state: TrainState, key: jax.Array, order_key: jax.Array, views_key: jax.Array
        ) -> tuple[TrainState, Sums]:
            """One epoch of one seed."""
            order = shuffled(order_key, fold)
            shown = order * views + jax.random.randint(views_key, order.shape, 0, views)

            def step(number: jax.Array, carry: tuple[TrainState, Sums]) -> tuple[TrainState, Sums]:
                place = number * batch_size + jnp.arange(batch_size)
                rows, mask = shown[jnp.minimum(place, len(order) - 1)], place < fold.train_count
                resting = cell_keys(jax.random.fold_in(key, RESTING), carry[0].step, jnp.arange(batch_size))

                def logits(params: Any) -> jax.Array:
                    return apply(params, features[rows], resting if head.dropout else None)

                state, batch = train_step(
                    logits, loss, optimizer, carry[0], labels[rows // views], mask, fold.class_weights
                )
                return state, carry[1] + batch

            return jax.lax.fori_loop(0, steps_per_epoch(fold.train_count, batch_size), step, (state, Sums.zero()))

        def validate(params: Any) -> Sums:
            logits = apply(params, features[fold.validation * views])
            mask = jnp.arange(len(fold.validation)) < fold.validation_count
            return sums(logits, labels[fold.validation], mask)

        def test(params: Any) -> jax.Array:
            return apply(params, features[fold.test * views])

        def epoch(states: TrainState, number: jax.Array) -> tuple[TrainState, Curves]:
            order_keys, views_keys = (
                jax.vmap(lambda key, stream=stream: jax.random.fold_in(jax.random.fold_in(key, stream), number))(keys)
                for stream in (ORDER, VIEWS)
            )
            states, learned = _over_seeds(learn, states, keys, order_keys, views_keys)
            validated = _over_seeds(validate, states.params)
            if on_epoch is not None:
                jax.debug.callback(on_epoch)
            return states, Curves(
                learned.loss / learned.count,
                learned.correct / learned.count,
                validated.loss / validated.count,
                validated.correct / validated.count,
            )

        states, curves = jax.lax.scan(epoch, _over_seeds(start, keys), epochs)
        return HeadRuns(states.params, curves, jax.nn.softmax(_over_seeds(test, states.params)))

    return jax.jit(train)


def steps_per_epoch(count: Any, batch_size: int) -> Any:
    """Returns the optimizer steps in one pass over `count` cells; a last, short batch is one of them."""
    return -(-count // batch_size)


def _over_seeds(function: Callable[..., Any], *arguments: Any) -> Any:
    """Maps `function` over the leading axis: together on an accelerator, in turn on a CPU.

    XLA's CPU back end multiplies batches of small matrices three to four times more slowly than
    one matrix at a time; a GPU is only filled by several seeds at once.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda each: function(*each), arguments)
    return jax.vmap(function)(*arguments)


def shuffled(key: jax.Array, fold: Fold) -> jax.Array:
    """Returns the training rows in a random order, padding last."""
    length = len(fold.train)
    draws = jax.random.uniform(key, (length,))
    return fold.train[jnp.argsort(jnp.where(jnp.arange(length) < fold.train_count, draws, 2.0))]


def make_folds(config: ConfigDict, labels: np.ndarray, classes: int, splits: Sequence[Split]) -> list[Fold]:
    """Returns one `Fold` a split, all of one shape.

    Args:
        config: ``train.class_weights`` is read.
        labels: int (N,).
        classes: number of classes.
        splits: rows learned from, tested, and set aside for validation; without these the validation curves are of
            the test rows, as in the paper.
    """
    watched = [split.validation if len(split.validation) else split.test for split in splits]
    trains, tests = [split.train for split in splits], [split.test for split in splits]

    def padded(sides: Sequence[np.ndarray]) -> Iterator[tuple[jax.Array, jax.Array]]:
        longest = max(map(len, sides))
        for rows in sides:
            yield jnp.asarray(np.pad(rows.astype(np.int32), (0, longest - len(rows)))), jnp.int32(len(rows))

    return [
        Fold(*train, *test, *validation, jnp.asarray(_class_weights(config, labels[split.train], classes)))
        for split, train, test, validation in zip(splits, padded(trains), padded(tests), padded(watched), strict=True)
    ]


def _class_weights(config: ConfigDict, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns float32 (C,): ones, or scikit-learn's ``balanced``, n / (classes · count)."""
    if config.train.class_weights == "none":
        return np.ones(classes, np.float32)
    return compute_class_weight("balanced", classes=np.arange(classes), y=labels).astype(np.float32)
