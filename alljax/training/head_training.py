"""The frozen mode: whole head runs as one compiled function.

A frozen backbone gives the same features every epoch, so they are computed once
(features.py).  A head run, epochs × steps, is then one `lax.scan`; the runs of several seeds, and of
settings that are only numbers, are one compiled call; and a short run is the beginning of a long one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax.models.head import Head
from alljax.training import step as steps_
from alljax.training.fold import Fold, steps_per_epoch
from alljax.training.optimizers import Hyperparameters
from alljax.training.sampling import epoch_order
from alljax.training.step import AUGMENT, INIT, SHUFFLE, Batch, Metrics, TrainState


@flax.struct.dataclass
class Curves:
    """One row an epoch, one column a run: float32 (E, R).

    Train values are the means over the cells of the epoch as the head saw them (before
    each step), as Keras reports them; validation values are those at the end of the epoch.
    """

    train_loss: jax.Array
    train_accuracy: jax.Array
    val_loss: jax.Array
    val_accuracy: jax.Array


@flax.struct.dataclass
class HeadRuns:
    """What training gives, for R runs: seeds, or settings and seeds.

    Attributes:
        params: the heads' parameters, with a leading axis R.
        curves: per epoch.
        probabilities: float32 (R, U, C), of the fold's test rows at the end; rows past
            `Fold.test_count` are padding.
    """

    params: Any
    curves: Curves
    probabilities: jax.Array


class HeadFunctions(NamedTuple):
    """The frozen mode in three functions, from `make_heads` or `streamed.make_heads`; R runs side by side.

    Attributes:
        start: keys (R,), numbers {name: (R,)}, a row of features (1, D) → the states before the first step.
        epochs: states, keys, numbers, features, labels, fold, epoch numbers (E,) → states and `Curves` of E rows.
        test: params, features, labels, fold → probabilities (R, U, C).
        longest: epochs in one call at most, so that somebody who waits sees it go on.
    """

    start: Callable[..., TrainState]
    epochs: Callable[..., tuple[TrainState, Curves]]
    test: Callable[..., jax.Array]
    longest: int


def train_heads(
    heads: HeadFunctions, budgets: Sequence[int], keys: jax.Array, numbers: Any, features: Any, labels: jax.Array,
    fold: Fold, watch: Callable[[Curves], None] = lambda curves: None, stride: int = 0,
) -> Iterator[HeadRuns]:  # fmt: skip
    """Yields the runs as they are after each budget of epochs: short ones are the beginning of the longest.

    A key decides everything random of its run: the head's first parameters, the order of the cells
    in each epoch and which view of each cell is shown in it, epoch by epoch, so that ten epochs are
    the first ten of a hundred.  They are trained in strides that divide all budgets, so that one
    compiled function serves all of them.

    Features may also be (N·V, D), the V views of a cell one after the other (`compute_features`):
    V follows from the number of labels.  Heads learn from views drawn at random and are tested on
    view 0, the image as it is, so that their numbers stay comparable with those of heads that have
    seen nothing else.

    Args:
        heads: from `make_heads`, or `streamed.make_heads` for features on disk.
        budgets: epochs, ascending.
        keys: one a run, (R,).
        numbers: the settings in which the runs differ, (R,) each (see `optim.numbers`); empty where in none.
        features: float32 (N·V, D).
        labels: int32 (N,).
        fold: which rows are learned from and tested.
        watch: called on the host with the curves of each stride.
        stride: epochs that divide all budgets; 0 for the most that do.  At most ``heads.longest`` are taken.
    """
    whole = stride or math.gcd(*budgets)
    stride = max(epochs for epochs in range(1, min(whole, heads.longest) + 1) if whole % epochs == 0)
    states = heads.start(keys, numbers, jnp.zeros((1, features.shape[1])))
    parts: list[Curves] = []
    for last in range(stride, budgets[-1] + 1, stride):
        states, curves = heads.epochs(states, keys, numbers, features, labels, fold, jnp.arange(last - stride, last))
        parts.append(jax.device_get(curves))
        watch(parts[-1])
        if last in budgets:
            so_far = jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts)
            params = unflatten_dict(states.params, sep="/")
            yield HeadRuns(params, so_far, heads.test(states.params, features, labels, fold))


def make_train(config: ConfigDict, classes: int) -> Callable[[jax.Array, jax.Array, jax.Array, Fold], HeadRuns]:
    """Returns ``train(keys (R,), features (N·V, D), labels (N,), fold)``: `train_heads` with one budget.

    Args:
        config: its ``train`` and ``model`` are read.
        classes: number of classes.
    """
    heads = make_heads(config, classes)

    def train(keys: jax.Array, features: jax.Array, labels: jax.Array, fold: Fold) -> HeadRuns:
        numbers = stack([config] * len(keys), fold)
        return next(train_heads(heads, (config.train.epochs,), keys, numbers, features, labels, fold))

    return train


def stack(configs: Sequence[ConfigDict], fold: Fold) -> Hyperparameters:
    """Returns the hyperparameters of R runs, (R,) each."""
    of_runs = []
    for config in configs:
        steps = steps_per_epoch(int(fold.train_count), min(config.train.batch_size, len(fold.train)))
        of_runs.append(Hyperparameters.of(config, config.train.epochs * steps))
    return jax.tree.map(lambda *numbers: jnp.stack(numbers), *of_runs)


def make_heads(config: ConfigDict, classes: int) -> HeadFunctions:
    """Returns the compiled functions for features in the device's memory: E epochs × steps are one `lax.scan`.

    Args:
        config: its ``train`` and ``model`` are read; what `optim.numbers` names comes as arguments.
        classes: number of classes.
    """
    steps = make_steps(config, classes)

    def learn(
        state: TrainState, key: jax.Array, numbers: Any, epoch: jax.Array, features: jax.Array, labels: jax.Array,
        fold: Fold,
    ) -> tuple[TrainState, Metrics]:  # fmt: skip
        """One epoch of one run."""
        batch_size, views = steps.batch_size(fold), len(features) // len(labels)
        shown = shown_rows(key, epoch, fold, labels, views, config.train.sampling == "balanced")

        def step(number: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            place = number * batch_size + jnp.arange(batch_size)
            rows, mask = shown[jnp.minimum(place, len(shown) - 1)], place < fold.train_count
            return steps.learn(carry, key, numbers, features[rows], labels[rows // views], mask, fold)

        return jax.lax.fori_loop(0, steps_per_epoch(fold.train_count, batch_size), step, (state, Metrics.zero()))

    @jax.jit
    def epochs(
        states: TrainState, keys: jax.Array, numbers: Any, features: jax.Array, labels: jax.Array, fold: Fold,
        epoch_numbers: jax.Array,
    ) -> tuple[TrainState, Curves]:  # fmt: skip
        views = len(features) // len(labels)

        def validate(params: Any) -> Metrics:
            mask = jnp.arange(len(fold.validation)) < fold.validation_count
            return Metrics.of(steps.logits(params, features[fold.validation * views]), labels[fold.validation], mask)

        def epoch(states: TrainState, number: jax.Array) -> tuple[TrainState, Curves]:
            def one(state: TrainState, key: jax.Array, own: Hyperparameters) -> tuple[TrainState, Metrics]:
                return learn(state, key, own, number, features, labels, fold)

            states, learned = over_runs(one, states, keys, numbers)
            return states, make_curves(learned, over_runs(validate, states.params))

        return jax.lax.scan(epoch, states, epoch_numbers)

    @jax.jit
    def test(params: Any, features: jax.Array, labels: jax.Array, fold: Fold) -> jax.Array:
        rows = fold.test * (len(features) // len(labels))
        return jax.nn.softmax(over_runs(lambda one: steps.logits(one, features[rows]), params))

    return HeadFunctions(steps.start, epochs, test, longest=10)


class Steps(NamedTuple):
    """What features in memory and on disk share, from `make_steps`.

    Attributes:
        start: keys (R,), numbers {name: (R,)}, a row of features (1, D) → the states before the first step.
        learn: (state, sums), key, numbers, features (B, D), labels (B,), mask (B,), fold → both after a step.
        logits: params, features (B, D) → (B, C).
        batch_size: fold → cells a step.
    """

    start: Callable[..., TrainState]
    learn: Callable[..., tuple[TrainState, Metrics]]
    logits: Callable[[Any, jax.Array], Any]
    batch_size: Callable[[Fold], int]


def make_steps(config: ConfigDict, classes: int) -> Steps:
    """Returns one step of one run, and what comes before and after it.

    Args:
        config: its ``train`` and ``model`` are read.
        classes: number of classes.
    """
    head = Head(config.model.hidden, classes, config.model.dropout)

    def batch_size(fold: Fold) -> int:
        return min(config.train.batch_size, len(fold.train))  # more places than cells stay empty

    def apply(
        params: Any, batch_stats: Any, inputs: jax.Array, mask: jax.Array, keys: jax.Array | None
    ) -> tuple[jax.Array, Any]:
        logits: Any = head.apply({"params": unflatten_dict(params, sep="/")}, inputs, keys)
        return logits, batch_stats

    step = steps_.make_train_step(config, apply)

    def start(key: jax.Array, row: jax.Array) -> TrainState:
        params = head.init(jax.random.fold_in(key, INIT), row)["params"]
        return steps_.init_state(config, flatten_dict(params, sep="/"))

    def learn(
        carry: tuple[TrainState, Metrics], key: jax.Array, numbers: Any, features: jax.Array,
        labels: jax.Array, mask: jax.Array, fold: Fold,
    ) -> tuple[TrainState, Metrics]:  # fmt: skip
        state = carry[0].replace(metrics=carry[1])  # type: ignore[attr-defined]
        batch = Batch(features, labels, mask, jnp.arange(len(mask)))
        state = step(state, {}, batch, fold.class_weights, key, numbers)
        return state, state.metrics

    return Steps(
        jax.jit(lambda keys, numbers, row: over_runs(lambda key: start(key, row), keys)),
        learn,
        lambda params, features: apply(params, {}, features, jnp.ones(len(features), bool), None)[0],
        batch_size,
    )


def shown_rows(
    key: jax.Array, epoch: jax.Array, fold: Fold, labels: jax.Array, views: int, balanced: bool
) -> jax.Array:
    """Returns the rows of features (N·V, D) that a run is shown in an epoch, in order, padding last.

    Args:
        key: of the run.
        epoch: int32 (), from 0.
        fold: of the run.
        labels: int32 (N,).
        views: V.
        balanced: see `order.epoch_order`.
    """
    order_key, views_key = (jax.random.fold_in(jax.random.fold_in(key, stream), epoch) for stream in (SHUFFLE, AUGMENT))
    order = epoch_order(order_key, fold, labels, balanced)
    return order * views + jax.random.randint(views_key, order.shape, 0, views)


def make_curves(learned: Metrics, validated: Metrics) -> Curves:
    """Returns the means of one epoch, (R,) each."""
    return Curves(
        learned.loss / learned.count,
        learned.correct / learned.count,
        validated.loss / validated.count,
        validated.correct / validated.count,
    )


def over_runs(function: Callable[..., Any], *arguments: Any) -> Any:
    """Maps `function` over the leading axis of its arguments: together on an accelerator, in turn on a CPU.

    XLA's CPU back end multiplies batches of small matrices three to four times more slowly than
    one matrix at a time; a GPU is only filled by several runs at once.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda each: function(*each), arguments)
    return jax.vmap(function)(*arguments)
