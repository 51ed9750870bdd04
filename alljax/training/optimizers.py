"""Optimizers, the first two as Keras computes them, and the learning rate over the steps."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

# Keras's defaults, which the paper used. They are not settings: nobody has varied them yet.
BETA_1, BETA_2, RHO, EPSILON = 0.9, 0.999, 0.9, 1e-7


NUMBERS = ("learning_rate", "decay_steps", "decay_rate", "momentum", "weight_decay", "clip_norm", "focal_gamma")
"""Settings of ``train`` that may be arrays inside a compiled function: runs that differ in them alone share it."""

Numbers = Mapping[str, jax.Array]
"""Some of `NUMBERS` by name, float32."""


def numbers(config: ConfigDict) -> dict[str, float]:
    """Returns those of `NUMBERS` that are not 0, by name; one that is 0 is left out of the computation."""
    return {name: float(config.train[name]) for name in NUMBERS if config.train[name]}


def stack(of_runs: Sequence[Mapping[str, float]]) -> dict[str, jax.Array]:
    """Returns the numbers of R runs, which have the same names, as float32 (R,) each."""
    return {name: jnp.asarray([one[name] for one in of_runs], jnp.float32) for name in of_runs[0]}


def put(config: ConfigDict, given: Numbers) -> Any:
    """Returns what reads like `config.train`, but with the arrays given in place of its numbers."""
    return SimpleNamespace(train=SimpleNamespace(**{**config.train, **given}))


class AdamState(NamedTuple):
    """Number of steps done, and the running moments of the gradient."""

    steps: jax.Array
    mean: optax.Params
    square: optax.Params


def scale_by_adam() -> optax.GradientTransformation:
    """Adam's direction with epsilon where Keras puts it.

    Keras divides √(1−β₂ᵗ)/(1−β₁ᵗ)·m by √v + ε, so that ε acts on the *uncorrected*
    second moment; `optax.scale_by_adam` adds it to the corrected one (Kingma & Ba,
    algorithm 1), or with ``eps_root`` under the root.  In the first steps on small
    gradients the two differ by far more than rounding.

    Source: Kingma & Ba 2015, the end of section 2; `keras.optimizers.Adam`.
    """

    def init(params: optax.Params) -> AdamState:
        return AdamState(jnp.zeros([], jnp.int32), optax.tree.zeros_like(params), optax.tree.zeros_like(params))

    def update(
        gradients: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        steps = optax.safe_increment(state.steps)
        mean = optax.tree.update_moment(gradients, state.mean, BETA_1, 1)
        square = optax.tree.update_moment_per_elem_norm(gradients, state.square, BETA_2, 2)
        step = steps.astype(jnp.float32)
        correction = jnp.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
        updates = jax.tree.map(lambda m, v: correction * m / (jnp.sqrt(v) + EPSILON), mean, square)
        return updates, AdamState(steps, mean, square)

    return optax.GradientTransformation(init, update)


def make_schedule(config: ConfigDict, total_steps: int | jax.Array) -> optax.Schedule:
    """Returns the learning rate as a function of the step, counted from 0.

    - ``exponential``: ``learning_rate · decay_rate ** (step / decay_steps)``, the exponent rounded down
      when ``train.staircase``: Keras's ``ExponentialDecay``.  It does not know the number of epochs, so a
      short run is the beginning of a long one.
    - ``cosine``: half a cosine from ``learning_rate`` to 0 at the last step (Loshchilov & Hutter 2016,
      arXiv 1608.03983, without restarts).
    - ``piecewise``: multiplied by the factor of each pair (step, factor) of ``train.boundaries`` that was reached.
    - ``constant``.

    During the first ``train.warmup_steps`` all of them are multiplied by (step + 1) / warmup_steps.

    Args:
        config: its ``train`` is read.
        total_steps: optimizer steps of the whole run; only ``cosine`` uses it.  May be traced.
    """
    train = config.train

    def exponential(step: Any) -> Any:  # optax's takes no traced decay rate
        passed = jnp.asarray(step, jnp.float32) / jnp.asarray(train.decay_steps, jnp.float32)
        rate = jnp.asarray(train.decay_rate, jnp.float32)
        return train.learning_rate * rate ** (jnp.floor(passed) if train.staircase else passed)

    def piecewise(step: Any) -> Any:
        factors = optax.piecewise_constant_schedule(train.learning_rate, dict(train.boundaries))
        return factors(jnp.asarray(step, jnp.float32))

    def cosine(step: Any) -> Any:
        share = jnp.minimum(jnp.asarray(step, jnp.float32) / jnp.asarray(total_steps, jnp.float32), 1.0)
        return train.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * share))

    schedules: dict[str, Callable[[], optax.Schedule]] = {
        "exponential": lambda: exponential,
        "cosine": lambda: cosine,
        "piecewise": lambda: piecewise,
        "constant": lambda: optax.constant_schedule(train.learning_rate),
    }
    schedule = schedules[train.schedule]()
    if not train.warmup_steps:
        return schedule
    return lambda step: schedule(step) * jnp.minimum((step + 1) / train.warmup_steps, 1.0)


def make_optimizer(
    config: ConfigDict,
    total_steps: int | jax.Array,
    rates: Mapping[str, float] | None = None,
    decays: Mapping[str, float] | None = None,
    group_of: Mapping[str, str] | None = None,
) -> optax.GradientTransformation:
    """Returns ``train.optimizer`` with its schedule, weight decay and clipping.

    Weight decay is decoupled from the gradient in all of them, as Keras does it (Loshchilov & Hutter
    2017, arXiv 1711.05101): ``train.weight_decay`` · parameter is added to the direction before the
    learning rate multiplies it.  Clipping by the global norm comes first and sees the gradients of
    trained parameters only.

    Args:
        config: its ``train`` is read.
        total_steps: optimizer steps of the whole run, for schedules that need them.
        rates: layer group → factor on the learning rate; None for one tree without groups.
        decays: layer group → factor on the weight decay.
        group_of: path of a parameter → its layer group.  Gradients and parameters are then flat
            dictionaries from path to array, and may leave out whole groups, which then stay as they are.
    """
    train = config.train
    if rates is None or decays is None or group_of is None:
        direction = make_direction(config, train.weight_decay)
    else:
        direction = by_group(
            {
                group: optax.chain(make_direction(config, train.weight_decay * decays[group]), optax.scale(rate))
                for group, rate in rates.items()
            },
            group_of,
        )
    clip = (optax.clip_by_global_norm(train.clip_norm),) if acts(train.clip_norm) else ()
    return optax.chain(*clip, direction, optax.scale_by_learning_rate(make_schedule(config, total_steps)))


def make_direction(config: ConfigDict, weight_decay: Any) -> optax.GradientTransformation:
    """Returns the update of one group before the learning rate multiplies it.

    RMSprop is Keras 3's: gradient / √(v + ε), v a running mean of the squared gradient that starts at
    0, no momentum.  ``adamw`` is ``adam``, whose weight decay is decoupled too; both names are known.
    LAMB is You et al. 2019, arXiv 1904.00962.
    """
    directions: dict[str, Callable[[], optax.GradientTransformation]] = {
        "adam": scale_by_adam,
        "adamw": scale_by_adam,
        "rmsprop": lambda: optax.scale_by_rms(RHO, EPSILON, initial_scale=0.0, eps_in_sqrt=True),
        "sgd": lambda: optax.trace(config.train.momentum),
        "lamb": scale_by_adam,
    }
    parts = [directions[config.train.optimizer]()]
    if acts(weight_decay):
        parts.append(optax.add_decayed_weights(weight_decay))
    if config.train.optimizer == "lamb":
        parts.append(optax.scale_by_trust_ratio())
    return optax.chain(*parts)


def acts(number: Any) -> bool:
    """Returns whether a number is not 0; an array inside a compiled function never is (see `numbers`)."""
    return isinstance(number, jax.Array) or bool(number)


def by_group(
    transformations: Mapping[str, optax.GradientTransformation], group_of: Mapping[str, str]
) -> optax.GradientTransformation:
    """Transforms each layer group on its own; a group without gradients keeps its state.

    Unlike `optax.partition` it takes gradients of some groups only, so that no backward pass is made
    for frozen ones, and a group that is unfrozen later starts its moments then.
    """

    def of(tree: Mapping[str, jax.Array], group: str) -> dict[str, jax.Array]:
        return {path: leaf for path, leaf in tree.items() if group_of[path] == group}

    def init(params: optax.Params) -> dict[str, optax.OptState]:
        return {group: each.init(of(params, group)) for group, each in transformations.items()}

    def update(
        gradients: optax.Updates, state: dict[str, optax.OptState], params: optax.Params | None = None
    ) -> tuple[optax.Updates, dict[str, optax.OptState]]:
        updates: dict[str, jax.Array] = {}
        state = dict(state)
        for group, each in transformations.items():
            if chosen := of(gradients, group):
                made, state[group] = each.update(chosen, state[group], of(params or {}, group))
                updates |= made
        return updates, state

    return optax.GradientTransformation(init, update)
