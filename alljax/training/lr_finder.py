"""Which learning rate: short runs at many rates side by side, in one vmapped call."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.errors import ConfigError
from alljax.models.head import Head
from alljax.training import fine_tuning, parameter_groups
from alljax.training import step as steps
from alljax.training.feeding import Feed
from alljax.training.network import Network
from alljax.training.optimizers import Hyperparameters
from alljax.training.step import Batch, Metrics, TrainState

RATES = np.logspace(-6, 0, 13).astype(np.float32)
"""Two a decade from 1e-6 to 1."""


def sweep(
    config: ConfigDict,
    network: Network,
    classes: int,
    feed: Feed,
    class_weights: np.ndarray,
    key: jax.Array,
    steps_of_run: int,
    rates: np.ndarray = RATES,
) -> np.ndarray:
    """Returns the mean loss of each step at each constant rate, float32 (R, steps), in nats.

    All runs start alike and see the same batches; what never learns is computed once for all of them
    (after Smith 2015, arXiv 1506.01186, whose one run raises the rate; side by side each rate has its own).

    Args:
        config: ``model`` and ``train`` are read, but for its schedule and learning rate.
        network: the backbone with its parameters.
        classes: C.
        feed: gives the batches.
        class_weights: float32 (C,).
        key: of the run.
        steps_of_run: of each run.
        rates: float32 (R,).
    """
    plain = configs.vary(
        config,
        {"train.schedule": "constant", "train.learning_rate": 1.0, "train.warmup_steps": 0, "train.ema_decay": 0.0},
    )
    layer_groups = parameter_groups.read(plain.train.groups)
    head = Head(plain.model.hidden, classes, plain.model.dropout)
    parameters = fine_tuning.first_parameters(network, head, key)
    group_of = parameter_groups.assign(parameters, layer_groups)
    by_pattern = {group.pattern: group for group in layer_groups}
    of_path = {path: by_pattern[pattern] for path, pattern in group_of.items()}
    learning = parameter_groups.learning(group_of, layer_groups, 0)
    awake = {path: leaf for path, leaf in parameters.items() if path in learning}
    fixed = {path: leaf for path, leaf in parameters.items() if path not in learning}
    forward = fine_tuning.make_forward(plain, network, head, parameter_groups.normalization_layers(learning))

    step = steps.make_train_step(
        plain, forward, augment=fine_tuning.make_augmentation(plain), trainable=learning, group_of=of_path
    )

    def losses(rate: jax.Array, fixed: Any, awake: Any, cells: Batch) -> jax.Array:
        hyperparameters = Hyperparameters.of(plain, steps_of_run).replace(learning_rate=rate)  # type: ignore[attr-defined]

        def one(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            state = state.replace(metrics=Metrics.zero())  # type: ignore[attr-defined]
            state = step(state, fixed, batch, jnp.asarray(class_weights), key, hyperparameters)
            return state, state.metrics

        start = steps.init_state(plain, awake, network.used("batch_stats"), of_path)
        _, metrics = jax.lax.scan(one, start, cells)
        return metrics.loss / metrics.count

    batches = [jax.device_get(cells) for cells in itertools.islice(feed.training(0), steps_of_run)]
    stacked = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *batches)
    swept = jax.jit(jax.vmap(losses, in_axes=(0, None, None, None)))(jnp.asarray(rates), fixed, awake, stacked)
    return np.asarray(swept)


def best(losses: np.ndarray, rates: np.ndarray = RATES) -> float:
    """Returns the rate that `ends` lowest; one that diverged never does.

    Args:
        losses: (R, steps) from `sweep`.
        rates: (R,).

    Raises:
        ConfigError: all diverged.
    """
    reached = ends(losses)
    if not np.isfinite(reached).any():
        raise ConfigError(
            f"the loss is no number at any learning rate from {rates.min():.3g} to {rates.max():.3g}; set "
            "train.clip_norm, or look at preprocessing and train.groups"
        )
    return float(rates[np.nanargmin(np.where(np.isfinite(reached), reached, np.nan))])


def ends(losses: np.ndarray) -> np.ndarray:
    """Returns the mean loss over the last fifth of the steps, (R,).

    Args:
        losses: (R, steps) from `sweep`.
    """
    return losses[:, -max(losses.shape[1] // 5, 1) :].mean(1)
