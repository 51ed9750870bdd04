"""Optimizers, Adam, RMSprop and SGD as Keras computes them, learning rate schedules and layer groups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from alljax.config import compile_pattern
from alljax.errors import ConfigError

# Keras's defaults, which the paper used.
BETA_1, BETA_2, RHO, EPSILON = 0.9, 0.999, 0.9, 1e-7

# Settings of ``train`` that are arguments of compiled functions.
NUMBERS = ("learning_rate", "decay_steps", "decay_rate", "momentum", "weight_decay", "clip_norm", "focal_gamma")

Hyperparameters = Mapping[str, Any]
"""`NUMBERS` and ``total_steps``, the optimizer steps of a run, as float32 arrays (), or (R,) for R runs."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained in the same way."""

    pattern: str  # regular expression that fully matches their "/"-joined paths, such as ``backbone/block5/.*``
    rate: float  # factor on the learning rate; 0 for frozen parameters
    decay: float = 1.0  # factor on the weight decay
    from_epoch: int = 0  # first epoch, counted from 0, in which they are trained


Groups = Mapping[str, ParameterGroup]  # path of a parameter → its layer group


def hyperparameters_of(config: ConfigDict, total_steps: int) -> Hyperparameters:
    """Returns the numbers of a config."""
    numbers = {name: config.train[name] for name in NUMBERS} | {"total_steps": total_steps}
    return {name: np.float32(number) for name, number in numbers.items()}


def scale_by_adam() -> optax.GradientTransformation:
    """Returns Adam's direction as in Keras: √(1−β₂ᵗ)/(1−β₁ᵗ)·m / (√v + ε) (Kingma & Ba 2015, end of section 2)."""

    def update(gradients: Any, state: optax.ScaleByAdamState, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        steps = optax.safe_increment(state.count)
        mean = optax.tree.update_moment(gradients, state.mu, BETA_1, 1)
        square = optax.tree.update_moment_per_elem_norm(gradients, state.nu, BETA_2, 2)
        step = steps.astype(jnp.float32)
        correction = jnp.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
        updates = jax.tree.map(lambda m, v: correction * m / (jnp.sqrt(v) + EPSILON), mean, square)
        return updates, optax.ScaleByAdamState(steps, mean, square)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)  # which adds ε to the corrected moment


def learning_rate(config: ConfigDict, hyperparameters: Hyperparameters, step: Any) -> Any:
    """Returns the learning rate of a step, counted from 0; all arguments but the config may be traced.

    ``exponential``: ``learning_rate · decay_rate ** (step / decay_steps)``, the exponent rounded down with
    ``train.staircase``: Keras's ``ExponentialDecay``.  ``cosine``: half a cosine from ``learning_rate`` to 0 at the
    last step (Loshchilov & Hutter 2016, arXiv 1608.03983, without restarts).  During the first ``train.warmup_steps``
    it is multiplied by (step + 1) / warmup_steps.
    """
    train, step, rate = config.train, jnp.asarray(step, jnp.float32), jnp.asarray(hyperparameters["learning_rate"])
    if train.schedule == "exponential":  # optax's requires a static decay rate
        exponent = step / hyperparameters["decay_steps"]
        rate = rate * hyperparameters["decay_rate"] ** (jnp.floor(exponent) if train.staircase else exponent)
    elif train.schedule == "cosine":
        progress = jnp.minimum(step / hyperparameters["total_steps"], 1.0)
        rate = rate * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return rate * jnp.minimum((step + 1) / train.warmup_steps, 1.0) if train.warmup_steps else rate


def make_optimizer(
    config: ConfigDict, hyperparameters: Hyperparameters, step: Any, group_of: Groups | None = None
) -> optax.GradientTransformation:
    """Returns the update of one step, counted from 0, by ``train.optimizer`` with schedule, weight decay and clipping.

    Weight decay is decoupled from the gradient (Loshchilov & Hutter 2017, arXiv 1711.05101). With groups, all is flat.
    """
    clip = (optax.clip_by_global_norm(hyperparameters["clip_norm"]),) if config.train.clip_norm else ()
    parts = config, hyperparameters, -learning_rate(config, hyperparameters, step)
    return optax.chain(*clip, _by_path(*parts, group_of) if group_of else _scaled(*parts, ParameterGroup(".*", 1.0)))


def _scaled(
    config: ConfigDict, hyperparameters: Hyperparameters, rate: Any, group: ParameterGroup
) -> optax.GradientTransformation:
    """Returns the update of a layer group at one step, whose negative learning rate is `rate`.

    SGD is Keras's: v ← momentum · v − rate · gradient is added to the parameter, so that v keeps the rates of its
    gradients. RMSprop is Keras 3's: gradient / √(v + ε), v a running mean of the squared gradient that starts at 0.
    """
    name, decay = config.train.optimizer, hyperparameters["weight_decay"] * np.float32(group.decay)
    parts, scale = [scale_by_adam()], [optax.scale(group.rate), optax.scale(rate)]
    if name == "rmsprop":
        parts = [optax.scale_by_rms(RHO, EPSILON, initial_scale=0.0, eps_in_sqrt=True)]
    elif name == "sgd":
        parts, scale = [optax.scale(rate), optax.trace(hyperparameters["momentum"])], scale[:1]
        decay = decay * rate
    if config.train.weight_decay * group.decay:
        parts.append(optax.add_decayed_weights(decay))
    return optax.chain(*parts, *scale)


def _by_path(
    config: ConfigDict, hyperparameters: Hyperparameters, rate: Any, group_of: Groups
) -> optax.GradientTransformation:
    """Returns an update whose state is one per parameter: those of `optax.partition` need all gradients."""
    update_of = {path: _scaled(config, hyperparameters, rate, group) for path, group in group_of.items()}

    def init(params: Any) -> dict[str, optax.OptState]:
        return {path: update_of[path].init(leaf) for path, leaf in params.items()}

    def update(gradients: Any, states: Any, params: Any = None) -> tuple[Any, dict[str, optax.OptState]]:
        updates, states = dict(gradients), dict(states)
        for path, gradient in gradients.items():
            updates[path], states[path] = update_of[path].update(gradient, states[path], params[path])
        return updates, states

    return optax.GradientTransformation(init, update)


def assign(paths: Iterable[str], entries: Sequence[Any]) -> dict[str, ParameterGroup]:
    """Returns the layer group of each parameter by its path, which matches exactly one of ``train.groups``."""
    groups = [ParameterGroup(*entry) for entry in entries or (("head/.*", 1.0), ("backbone/.*", 0.0))]
    patterns = [compile_pattern("train.groups", group.pattern, repeats=4) for group in groups]
    group_of: dict[str, ParameterGroup] = {}
    for path in paths:
        matched = [group for group, pattern in zip(groups, patterns, strict=True) if pattern.fullmatch(path)]
        if not matched:
            raise ConfigError(f"train.groups: no pattern matches {path}; add a group, with rate 0 to freeze it")
        if len(matched) > 1:
            names = " and ".join(group.pattern for group in matched)
            raise ConfigError(f"train.groups: {path} is matched by {names}; change the patterns so that one matches")
        group_of[path] = matched[0]
    if unused := sorted(group.pattern for group in groups if group not in group_of.values()):
        stages = sorted({"/".join(path.split("/")[:2]) for path in group_of})
        raise ConfigError(f"train.groups: {unused[0]!r} matches no parameter; they start with {', '.join(stages)}")
    return group_of


def trainable(group_of: Groups, epoch: int) -> frozenset[str]:
    """Returns the paths of the parameters that are trained in an epoch, counted from 0."""
    return frozenset(path for path, group in group_of.items() if group.rate > 0 and group.from_epoch <= epoch)
