"""Frozen mode: training of classifier heads on features of a frozen backbone, which are computed once.

All runs of a fold, one per seed, make the steps of an epoch in one compiled call. Features are a JAX array, or a NumPy
array that is mapped from a file and read in blocks; both ways make the same steps.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import files, interrupts
from alljax.data.loader import device_memory
from alljax.models.head import Head, make_head
from alljax.training import step as steps
from alljax.training.optimizers import NUMBERS, Hyperparameters, hyperparameters_of, learning_rate
from alljax.training.sampling import FoldRows, batch_size, epoch_order, steps_per_epoch
from alljax.training.step import Batch, History, Metrics, Parameters, RunInputs, TrainState

BLOCK = 64 * 2**20  # bytes of features that are read from a file at once
Inputs = tuple[Any, Any, Any]  # features (M, D), their labels (M,) and rows in the order in which they are used


class FoldOutcome(NamedTuple):
    """What training on one fold yields for R runs (seeds), on the host."""

    params: Any  # nested, to be stored, with a leading axis R
    history: Any  # `History`; None without validation rows, and without epochs
    probabilities: Any  # float32 (R, U, C) of the test rows after the last epoch; padded, see `FoldRows.test_count`
    estimators: Any = ()  # R of scikit-learn, see `classifiers`
    selection: Any = None  # of the features, fitted before them


def compile_key(config: ConfigDict) -> str:
    """Returns the same text for configs whose heads are trained by the same compiled functions."""
    # Numbers are arguments; one that is 0 (no weight decay) removes its part of the computation.
    arguments = {"train.epochs", *(f"train.{name}" for name in NUMBERS if config.train[name])}
    read = ("train.", "model.hidden", "model.dropout", "classifier.")
    settings = configs.flatten(config).items()
    return repr([setting for setting in settings if setting[0].startswith(read) and setting[0] not in arguments])


def make_runs(keys: jax.Array, config: ConfigDict, fold: FoldRows) -> RunInputs:
    """Returns R runs on a fold, one per key."""
    numbers = hyperparameters_of(config, config.train.epochs * steps_per_epoch(config, fold))
    return RunInputs(keys, *jax.tree.map(lambda leaf: np.stack([leaf] * len(keys)), (fold.class_weights, numbers)))


@jax.jit
def select_runs(runs: RunInputs, rows: np.ndarray) -> RunInputs:
    """Returns the runs at `rows`, int (n,)."""
    return jax.tree.map(lambda leaf: leaf[rows], runs)


class HeadTrainer:
    """Trains the heads of R runs at a time on the features of one fold; equal trainers share compiled functions."""

    def __init__(
        self, config: ConfigDict, num_classes: int, num_features: int, sequence: tuple[int, int] | None = None
    ) -> None:
        """`sequence` is what `make_head` needs for an LSTM."""
        self._identity = compile_key(config), num_classes, num_features, sequence
        self._config, self._num_features = config, num_features
        self._head = make_head(config, num_classes, sequence)
        self._step = steps.make_train_step(config, functools.partial(_apply, self._head))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeadTrainer) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def train(
        self, epochs: Sequence[int], runs: RunInputs, features: Any, labels: np.ndarray, fold: FoldRows,
        update: Callable[[int, float], None],
    ) -> list[FoldOutcome]:  # fmt: skip
        """Returns the outcome after each number of epochs, ascending; without validation rows there are no curves.

        On an accelerator as many runs are trained side by side as fit into memory, on the CPU one. Features are float32
        (N, D), labels int32 (N,). `update` gets the number of epochs done and the mean accuracy on the validation rows.
        """
        size = 1 if jax.default_backend() == "cpu" else self.side_by_side
        if len(runs.key) > size:
            groups = np.array_split(np.arange(len(runs.key)), -(-len(runs.key) // size))
            parts = (select_runs(runs, group) for group in groups)
            outcomes = [self.train(epochs, part, features, labels, fold, update) for part in parts]
            return [jax.tree.map(lambda *leaves: np.concatenate(leaves), *each) for each in zip(*outcomes, strict=True)]
        state, history, found = self.init(runs.key), [], []
        num_steps = steps_per_epoch(self._config, fold)
        for epoch in range(epochs[-1]):
            state = self.train_epoch(state, runs, features, labels, fold, epoch)
            if fold.validation_count:
                rows = fold.validation, fold.validation_count
                validation, _ = self.evaluate(state.eval_params, features, labels, *rows)
                loss, accuracy = jax.device_get(state.metrics).means
                rate = np.asarray(self._rates(runs.hyperparameters, (epoch + 1) * num_steps - 1))
                history.append(History(rate, loss, accuracy, *validation.means))
            interrupts.check()
            update(len(runs.key), float(history[-1].val_accuracy.mean()) if history else np.nan)
            if epoch + 1 in epochs:
                _, probabilities = self.evaluate(state.eval_params, features, labels, fold.test)
                params = unflatten_dict(jax.device_get(state.eval_params), sep="/")
                curves = jax.tree.map(lambda *values: np.stack(values, 1), *history) if history else None
                found.append(FoldOutcome(params, curves, probabilities))
        return found

    @property
    def side_by_side(self) -> int:
        """The number of runs whose parameters, gradients and two moments fit into memory, at least 1."""
        memory, features = device_memory() or files.host_memory(), jnp.zeros((1, self._num_features))
        shapes = jax.eval_shape(self._head.init, jax.random.key(0), features)
        num_parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
        return max(1, memory // (4 * 4 * num_parameters))

    def init(self, keys: jax.Array) -> TrainState:
        """Returns the states of runs before the first step, (R, …)."""
        return self._first_states(_init(self._head, self._num_features, keys))

    @functools.partial(jax.jit, static_argnums=0)
    def _rates(self, hyperparameters: Hyperparameters, step: Any) -> jax.Array:
        """Returns the learning rate of each run at a step, (R,)."""
        return learning_rate(self._config, hyperparameters, step)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _first_states(self, params: Parameters) -> TrainState:
        return jax.vmap(functools.partial(steps.init_state, self._config))(params)

    def train_epoch(
        self, state: TrainState, runs: RunInputs, features: Any, labels: np.ndarray, fold: FoldRows, epoch: int
    ) -> TrainState:
        """Trains all runs for one epoch, counted from 0; takes the memory of the old state."""
        size, num_runs = batch_size(self._config, fold), len(runs.key)
        num_steps = steps_per_epoch(self._config, fold)
        orders = _orders(self._config.train.sampling == "balanced", runs.key, epoch, labels, fold)
        state = state.replace(metrics=Metrics.zero(num_runs))  # type: ignore[attr-defined]
        if isinstance(features, jax.Array):
            return self._train_steps(state, runs, (features, labels, orders), fold, 0, num_steps)
        per_block = max(1, BLOCK // (4 * num_runs * size * self._num_features))
        per_block = min(per_block, -(-len(fold.train) // size))
        padded = np.pad(orders, ((0, 0), (0, per_block * size)))
        for first in range(0, num_steps, per_block):
            inputs = _read(features, labels, padded[:, first * size : (first + per_block) * size])
            state = self._train_steps(state, runs, inputs, fold, first, min(per_block, num_steps - first))
        return state

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _train_steps(
        self, state: TrainState, runs: RunInputs, inputs: Inputs, fold: FoldRows, first: Any, count: Any
    ) -> TrainState:
        """Makes `count` steps of all runs on rows int (R, T), the first of which is step `first` of an epoch."""
        features, labels, orders = inputs
        size, parts = batch_size(self._config, fold), self._config.train.accumulation_steps
        positions = jnp.arange(-(-size // parts) * parts)  # padded, so that it can be divided into parts

        def train_steps(state: TrainState, run: RunInputs, order: jax.Array) -> TrainState:
            def step(number: jax.Array, state: TrainState) -> TrainState:
                index = number * size + positions
                mask = first * size + index < fold.train_count
                mask = mask & (positions < size) if parts > 1 else mask
                rows = order[jnp.minimum(index, len(order) - 1)]
                weights = None if fold.sample_weights is None else jnp.asarray(fold.sample_weights)[rows]
                return self._step(state, {}, Batch(features[rows], labels[rows], mask, positions, weights), run)

            return jax.lax.fori_loop(0, count, step, state)

        return over_runs(train_steps, state, runs, orders)

    def evaluate(
        self, params: Parameters, features: Any, labels: np.ndarray, rows: np.ndarray, count: int | None = None
    ) -> tuple[Metrics, np.ndarray]:
        """Returns the metrics (R,) of the first `count` of rows (n,), by default all, and probabilities (R, n, C)."""
        on_device = isinstance(features, jax.Array)
        size = len(rows) if on_device else min(max(1, BLOCK // (4 * self._num_features)), len(rows))
        blocks = np.pad(rows, (0, -len(rows) % size)).reshape(-1, size)
        masks = (np.arange(blocks.size) < (len(rows) if count is None else count)).reshape(blocks.shape)
        outputs = []
        for block, mask in zip(blocks, masks, strict=True):
            inputs = (features, labels, block) if on_device else _read(features, labels, block)
            outputs.append(_evaluate(self._head, params, inputs, mask))
        metrics, probabilities = zip(*jax.device_get(outputs), strict=True)
        return jax.tree.map(lambda *parts: sum(parts), *metrics), np.concatenate(probabilities, 1)[:, : len(rows)]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init(head: Head, num_features: int, keys: jax.Array) -> Parameters:
    """Returns the parameters of runs before the first step, (R, …)."""
    return over_runs(lambda key: flatten_dict(steps.init_head(head, num_features, key), sep="/"), keys)


@functools.partial(jax.jit, static_argnums=0)
def _orders(balanced: bool, keys: jax.Array, epoch: Any, labels: jax.Array, fold: FoldRows) -> jax.Array:
    """Returns the rows of an epoch in order, int32 (R, T), padding last."""

    def order(key: jax.Array) -> jax.Array:
        return epoch_order(jax.random.fold_in(jax.random.fold_in(key, steps.SHUFFLE), epoch), fold, labels, balanced)

    return over_runs(order, keys)


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(head: Head, params: Parameters, inputs: Inputs, mask: jax.Array) -> tuple[Metrics, jax.Array]:
    features, labels, rows = inputs

    def evaluate(params: Parameters) -> tuple[Metrics, jax.Array]:
        logits, _ = _apply(head, params, {}, features[rows], mask, None)
        return Metrics.of(logits, labels[rows], mask), jax.nn.softmax(logits)

    return over_runs(evaluate, params)


def _apply(
    head: Head, params: Parameters, batch_stats: Any, inputs: jax.Array, mask: jax.Array, keys: jax.Array | None
) -> tuple[jax.Array, Any]:
    logits: Any = head.apply({"params": unflatten_dict(dict(params), sep="/")}, inputs, keys)
    return logits, batch_stats


def _read(features: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Inputs:
    """Returns the features of `rows` only, (M, D)."""
    chosen = rows.reshape(-1)
    return features[chosen], labels[chosen], np.arange(len(chosen)).reshape(rows.shape)


def over_runs(function: Callable[..., Any], *arguments: Any) -> Any:
    """Maps a function over the leading axis of its arguments."""
    if jax.default_backend() == "cpu":  # several times faster than batches of small matrices
        return jax.lax.map(lambda run: function(*run), arguments)
    return jax.vmap(function)(*arguments)
