"""Optimizers, Adam, RMSprop and SGD as Keras computes them, and learning rate schedules."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from alljax.training.parameter_groups import Groups, ParameterGroup

# Keras's defaults, which the paper used.
BETA_1, BETA_2, RHO, EPSILON = 0.9, 0.999, 0.9, 1e-7

NUMBERS = ("learning_rate", "decay_steps", "decay_rate", "momentum", "weight_decay", "clip_norm", "focal_gamma")
"""Settings of ``train`` that are arguments of compiled functions."""


@flax.struct.dataclass
class Hyperparameters:
    """`NUMBERS` and the number of optimizer steps of a run, float32 arrays (), or (R,) for R runs."""

    learning_rate: jax.Array
    decay_steps: jax.Array
    decay_rate: jax.Array
    momentum: jax.Array
    weight_decay: jax.Array
    clip_norm: jax.Array
    focal_gamma: jax.Array
    total_steps: jax.Array

    @classmethod
    def of(cls, config: ConfigDict, total_steps: int) -> "Hyperparameters":
        """Returns the numbers of a config, as NumPy arrays."""
        numbers: Any = np.array([*(config.train[name] for name in NUMBERS), total_steps], np.float32)
        return cls(*numbers)


def scale_by_adam() -> optax.GradientTransformation:
    """Returns Adam's direction with epsilon where Keras puts it.

    Keras divides √(1−β₂ᵗ)/(1−β₁ᵗ)·m by √v + ε, so that ε acts on the *uncorrected* second moment (Kingma & Ba 2015, end
    of section 2); `optax.scale_by_adam` adds it to the corrected one (algorithm 1).
    """

    def update(
        gradients: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        del params
        steps = optax.safe_increment(state.count)
        mean = optax.tree.update_moment(gradients, state.mu, BETA_1, 1)
        square = optax.tree.update_moment_per_elem_norm(gradients, state.nu, BETA_2, 2)
        step = steps.astype(jnp.float32)
        correction = jnp.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
        updates = jax.tree.map(lambda m, v: correction * m / (jnp.sqrt(v) + EPSILON), mean, square)
        return updates, optax.ScaleByAdamState(steps, mean, square)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def learning_rate(config: ConfigDict, hyperparameters: Hyperparameters, step: Any) -> Any:
    """Returns the learning rate of a step, counted from 0; all arguments but the config may be traced.

    - ``exponential``: ``learning_rate · decay_rate ** (step / decay_steps)``, the exponent rounded down with
      ``train.staircase``: Keras's ``ExponentialDecay``.  It does not depend on the number of epochs, so the first
      epochs of a long run equal a short run.
    - ``cosine``: half a cosine from ``learning_rate`` to 0 at the last step (Loshchilov & Hutter 2016,
      arXiv 1608.03983, without restarts).
    - ``piecewise``: multiplied by the factor of each pair (step, factor) of ``train.boundaries`` that was reached.
    - ``constant``.

    During the first ``train.warmup_steps`` all of them are multiplied by (step + 1) / warmup_steps.
    """
    train, step, rate = config.train, jnp.asarray(step, jnp.float32), jnp.asarray(hyperparameters.learning_rate)
    if train.schedule == "exponential":  # optax's requires a static decay rate
        exponent = step / hyperparameters.decay_steps
        rate = rate * hyperparameters.decay_rate ** (jnp.floor(exponent) if train.staircase else exponent)
    elif train.schedule == "cosine":
        progress = jnp.minimum(step / hyperparameters.total_steps, 1.0)
        rate = rate * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    elif train.schedule == "piecewise":
        rate = optax.piecewise_constant_schedule(rate, dict(train.boundaries))(step)
    return rate * jnp.minimum((step + 1) / train.warmup_steps, 1.0) if train.warmup_steps else rate


def make_optimizer(
    config: ConfigDict, hyperparameters: Hyperparameters, step: Any, group_of: Groups | None = None
) -> optax.GradientTransformation:
    """Returns the update of one step, counted from 0, by ``train.optimizer`` with schedule, weight decay and clipping.

    Weight decay is decoupled from the gradient in all of them, as in Keras (Loshchilov & Hutter 2017,
    arXiv 1711.05101): ``train.weight_decay`` · parameter is added to the direction before the learning rate
    multiplies it.  Clipping by the global norm comes first and applies to gradients of trainable parameters only.

    A number that is 0 in the config is not part of the computation; the optimizer's state depends on no other number.
    With groups, gradients and parameters are flat; groups that are absent from the gradients stay as they are.
    """
    clip = (optax.clip_by_global_norm(hyperparameters.clip_norm),) if config.train.clip_norm else ()
    parts = config, hyperparameters, -learning_rate(config, hyperparameters, step)
    return optax.chain(*clip, _by_group(*parts, group_of) if group_of else _scaled(*parts, ParameterGroup(".*", 1.0)))


def _scaled(
    config: ConfigDict, hyperparameters: Hyperparameters, rate: Any, group: ParameterGroup
) -> optax.GradientTransformation:
    """Returns the update of a layer group at one step, whose negative learning rate is `rate`.

    SGD is Keras's: v ← momentum · v − rate · gradient is added to the parameter, so that v keeps the rates of its
    gradients.  RMSprop is Keras 3's: gradient / √(v + ε), v a running mean of the squared gradient that starts at 0, no
    momentum.  ``adamw`` equals ``adam``, whose weight decay is decoupled too.  LAMB is You et al. 2019,
    arXiv 1904.00962.
    """
    name, decay = config.train.optimizer, hyperparameters.weight_decay * np.float32(group.decay)
    parts, scale = [scale_by_adam()], [optax.scale(group.rate), optax.scale(rate)]
    if name == "rmsprop":
        parts = [optax.scale_by_rms(RHO, EPSILON, initial_scale=0.0, eps_in_sqrt=True)]
    elif name == "sgd":
        parts, scale = [optax.scale(rate), optax.trace(hyperparameters.momentum)], scale[:1]
        decay = decay * rate
    if config.train.weight_decay * group.decay:
        parts.append(optax.add_decayed_weights(decay))
    if name == "lamb":
        parts.append(optax.scale_by_trust_ratio())
    return optax.chain(*parts, *scale)


def _by_group(
    config: ConfigDict, hyperparameters: Hyperparameters, rate: Any, group_of: Groups
) -> optax.GradientTransformation:
    """Transforms each layer group separately; a group without gradients keeps its state.

    `optax.partition` needs gradients of all groups, and so a backward pass for frozen ones.
    """
    transformations = {group.pattern: _scaled(config, hyperparameters, rate, group) for group in group_of.values()}

    def select(tree: Mapping[str, jax.Array], name: str) -> dict[str, jax.Array]:
        return {path: leaf for path, leaf in tree.items() if group_of[path].pattern == name}

    def init(params: optax.Params) -> dict[str, optax.OptState]:
        return {name: transformation.init(select(params, name)) for name, transformation in transformations.items()}

    def update(
        gradients: optax.Updates, state: dict[str, optax.OptState], params: optax.Params | None = None
    ) -> tuple[optax.Updates, dict[str, optax.OptState]]:
        updates: dict[str, jax.Array] = {}
        state = dict(state)
        for name, transformation in transformations.items():
            if chosen := select(gradients, name):
                new, state[name] = transformation.update(chosen, state[name], select(params or {}, name))
                updates |= new
        return updates, state

    return optax.GradientTransformation(init, update)
