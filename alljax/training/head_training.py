"""Frozen mode: training of classifier heads on features of a frozen backbone.

A frozen backbone gives the same features in every epoch, so they are computed once (feature_extraction.py).  All runs
of a fold (seeds, and trials that differ in numbers only) are one compiled call per few epochs: a `lax.scan` over
epochs of a loop over steps, mapped over runs.  A run of few epochs is the beginning of a run of many.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.data import decoded_cache
from alljax.models.head import Head
from alljax.training import step as steps
from alljax.training.optimizers import NUMBERS, Hyperparameters
from alljax.training.sampling import FoldRows, epoch_order, steps_per_epoch
from alljax.training.step import Batch, FoldOutcome, History, Metrics, Parameters, RunInputs, TrainState


@flax.struct.dataclass
class FoldData:
    """What the runs of a fold learn from.

    Attributes:
        features: float32 (N, V, D), V views of each image: a JAX array, or a NumPy array that is read block by block.
        labels: int32 (N,).
        rows: the fold.
    """

    features: Any
    labels: Any
    rows: FoldRows


def compile_key(config: ConfigDict) -> str:
    """Returns the same text for configs whose heads are trained by the same compiled functions.

    Such configs may differ in what is an argument: numbers of the optimizer, epochs, features and folds.  A number
    that is 0 (no weight decay, no clipping) removes its part of the computation.
    """
    arguments = {"train.epochs", *(f"train.{name}" for name in NUMBERS)}
    settings = {key: value for key, value in configs.flatten(config).items() if key not in arguments}
    static = {key: value for key, value in settings.items() if key.startswith(("train.", "model.hidden", "model.drop"))}
    return f"{static} {[name for name in NUMBERS if config.train[name]]}"


def make_runs(keys: jax.Array, trials: Sequence[ConfigDict], rows: FoldRows) -> RunInputs:
    """Returns the runs of some trials, R in all, on a fold that determines their number of steps."""
    inputs = []
    for config in trials:
        steps = steps_per_epoch(int(rows.train_count), batch_size(config, rows))
        inputs.append((rows.class_weights, Hyperparameters.of(config, config.train.epochs * steps)))
    return RunInputs(keys, *jax.tree.map(lambda *of_runs: np.stack(of_runs), *inputs))


class HeadTrainer:
    """Trains the heads of R runs at a time on the features of one fold.

    Trainers with equal `compile_key` and shapes are equal and share their compiled functions, so that folds, seeds,
    learning rates and trials do not compile again.  Heads are trained on random views and tested on view 0, the
    unchanged image.

    Attributes:
        num_parameters: of one head.
        epochs_per_call: maximum number of epochs in one compiled call, so that progress is visible.
    """

    epochs_per_call = 10

    def __init__(self, config: ConfigDict, num_classes: int, num_features: int) -> None:
        """Compiles nothing yet.

        Args:
            config: ``train``, ``model.hidden`` and ``model.dropout`` are read.
            num_classes: C.
            num_features: D.
        """
        self._identity = type(self), compile_key(config), num_classes, num_features
        self._config, self._num_features = config, num_features
        self._head = Head(config.model.hidden, num_classes, config.model.dropout)
        self._step = steps.make_train_step(config, self._apply)
        self.num_parameters = (num_features + 1) * config.model.hidden + (config.model.hidden + 1) * num_classes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeadTrainer) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def train(
        self, epochs: Sequence[int], runs: RunInputs, data: FoldData, divisor: int = 0,
        update: Callable[[int, str], None] = lambda epochs, note: None,
    ) -> list[FoldOutcome]:  # fmt: skip
        """Returns the outcome after each number of epochs.

        As many runs are trained side by side as fit into memory with parameters and two moments; the states of one
        group are freed before the next group starts.

        Args:
            epochs: ascending.
            runs: R runs.
            data: of the fold.
            divisor: number of epochs that divides all `epochs`; 0 for the greatest.  The last bits of the history
                depend on how many epochs are compiled into one call.
            update: called with the number of epochs done, over all runs, and a note.
        """
        memory = decoded_cache.device_memory() or decoded_cache.host_memory()
        side_by_side = max(1, memory // (4 * 3 * self.num_parameters))
        groups = np.array_split(np.arange(len(runs.key)), -(-len(runs.key) // side_by_side))
        outcomes = []
        for group in groups:
            selected = runs if len(groups) == 1 else jax.tree.map(lambda leaf, group=group: leaf[group], runs)
            outcomes.append(list(self._train(epochs, selected, data, divisor or int(np.gcd.reduce(epochs)), update)))
        return [_concatenate(of_groups) for of_groups in zip(*outcomes, strict=True)]

    def _train(
        self, epochs: Sequence[int], runs: RunInputs, data: FoldData, divisor: int, update: Callable[[int, str], None]
    ) -> Iterator[FoldOutcome]:
        stride = max(count for count in range(1, min(divisor, self.epochs_per_call) + 1) if divisor % count == 0)
        state, parts = self.init(runs.key), []
        for last in range(stride, epochs[-1] + 1, stride):
            state, history = self.train_epochs(state, runs, data, np.arange(last - stride, last))
            parts.append(jax.device_get(history))
            update(stride * len(runs.key), f"validation accuracy {parts[-1].val_accuracy[-1].mean():.3f}")
            if last in epochs:
                probabilities = self.predict(state.eval_params, data.features, data.rows.test)
                params = unflatten_dict(jax.device_get(state.eval_params), sep="/")
                yield FoldOutcome(params, jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts), probabilities)

    @functools.partial(jax.jit, static_argnums=0)
    def init(self, keys: jax.Array) -> TrainState:
        """Returns the states of runs before the first step, (R, …)."""

        def init(key: jax.Array) -> TrainState:
            key = jax.random.fold_in(key, steps.INIT)
            params = self._head.init(key, jnp.zeros((1, self._num_features)))["params"]
            return steps.init_state(self._config, flatten_dict(params, sep="/"))

        return over_runs(init, keys)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def train_epochs(
        self, state: TrainState, runs: RunInputs, data: FoldData, epochs: jax.Array
    ) -> tuple[TrainState, History]:
        """Trains all runs for the epochs of these numbers, from 0; takes the memory of the old state."""
        views, rows = data.features.shape[1], data.rows
        flat, labels = data.features.reshape(-1, self._num_features), jnp.repeat(data.labels, views)
        num_steps = steps_per_epoch(rows.train_count, batch_size(self._config, rows))

        def train_epoch(state: TrainState, run: RunInputs, epoch: jax.Array) -> TrainState:
            order = self.epoch_rows(run.key, epoch, data.labels, rows, views)
            state = state.replace(metrics=Metrics.zero())  # type: ignore[attr-defined]
            return self.train_steps(state, run, (flat, labels, order), rows, 0, num_steps)

        def epoch(state: TrainState, number: jax.Array) -> tuple[TrainState, History]:
            state = over_runs(lambda state, run: train_epoch(state, run, number), state, runs)
            mask = jnp.arange(len(rows.validation)) < rows.validation_count
            inputs, targets = flat[jnp.asarray(rows.validation) * views], jnp.asarray(data.labels)[rows.validation]
            validation = over_runs(
                lambda params: Metrics.of(self.logits(params, inputs), targets, mask), state.eval_params
            )
            return state, History(*state.metrics.means, *validation.means)

        return jax.lax.scan(epoch, state, epochs)

    def train_steps(
        self, state: TrainState, run: RunInputs, inputs: tuple[jax.Array, jax.Array, jax.Array], rows: FoldRows,
        first: Any, count: Any,
    ) -> TrainState:  # fmt: skip
        """Makes `count` steps of one run, the first of which is step `first` of an epoch.

        Args:
            state: of one run.
            run: its key and hyperparameters.
            inputs: features (M, D), their labels (M,) and the order in which the steps read them, int (T,).
            rows: the fold.
            first: int32 ().
            count: int32 ().
        """
        features, labels, order = inputs
        size, parts = batch_size(self._config, rows), self._config.train.accumulation_steps
        positions = jnp.arange(-(-size // parts) * parts)  # padded, so that it can be divided into parts

        def step(number: jax.Array, state: TrainState) -> TrainState:
            index = number * size + positions
            mask = first * size + index < rows.train_count
            mask = mask & (positions < size) if parts > 1 else mask
            chosen = order[jnp.minimum(index, len(order) - 1)]
            batch = Batch(features[chosen], labels[chosen], mask, positions)
            return self._step(state, {}, batch, run)

        return jax.lax.fori_loop(0, count, step, state)

    def epoch_rows(self, key: jax.Array, epoch: jax.Array, labels: Any, rows: FoldRows, views: int) -> jax.Array:
        """Returns the rows of features (N·V, D) of one epoch of a run in order, int32 (T,), padding last."""
        order_key, view_key = (
            jax.random.fold_in(jax.random.fold_in(key, stream), epoch) for stream in (steps.SHUFFLE, steps.AUGMENT)
        )
        order = epoch_order(order_key, rows, jnp.asarray(labels), self._config.train.sampling == "balanced")
        return order * views + jax.random.randint(view_key, order.shape, 0, views)

    def predict(self, params: Parameters, features: Any, rows: np.ndarray) -> np.ndarray:
        """Returns the probabilities of rows on view 0, float32 (R, n, C).

        Args:
            params: flat, (R, …).
            features: (N, V, D).
            rows: int (n,).
        """
        return np.asarray(self._predict(params, features, rows))

    @functools.partial(jax.jit, static_argnums=0)
    def _predict(self, params: Parameters, features: jax.Array, rows: jax.Array) -> jax.Array:
        inputs = features.reshape(-1, self._num_features)[jnp.asarray(rows) * features.shape[1]]
        return jax.nn.softmax(over_runs(lambda head: self.logits(head, inputs), params))

    def logits(self, params: Parameters, inputs: jax.Array) -> jax.Array:
        """Returns the logits of one head, float32 (B, C)."""
        return self._apply(params, {}, inputs, jnp.ones(len(inputs), bool), None)[0]

    def _apply(
        self, params: Parameters, batch_stats: Any, inputs: jax.Array, mask: jax.Array, keys: jax.Array | None
    ) -> tuple[jax.Array, Any]:
        del mask
        logits: Any = self._head.apply({"params": unflatten_dict(dict(params), sep="/")}, inputs, keys)
        return logits, batch_stats


def over_runs(function: Callable[..., Any], *arguments: Any) -> Any:
    """Maps a function over the leading axis of its arguments: vectorized on an accelerator, in sequence on a CPU.

    XLA's CPU back end multiplies batches of small matrices three to four times more slowly than one matrix at a
    time; a GPU is only filled by several runs at once.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda run: function(*run), arguments)
    return jax.vmap(function)(*arguments)


def batch_size(config: ConfigDict, rows: FoldRows) -> int:
    """Returns the batch size, at most the number of training rows."""
    return min(config.train.batch_size, len(rows.train))


def _concatenate(groups: Sequence[FoldOutcome]) -> FoldOutcome:
    """Joins the outcomes of groups of runs along the axis of runs."""
    params = jax.tree.map(lambda *parts: np.concatenate(parts), *[group.params for group in groups])
    history = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *[group.history for group in groups])
    return FoldOutcome(params, history, np.concatenate([group.probabilities for group in groups]))
