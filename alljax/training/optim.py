"""Adam and RMSprop as Keras computes them, and the learning rate over the steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

# Keras's defaults, which the paper used. They are not knobs: nobody has varied them yet.
BETA_1, BETA_2, RHO, EPSILON = 0.9, 0.999, 0.9, 1e-7


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


def make_schedule(config: ConfigDict) -> optax.Schedule:
    """Returns the learning rate as a function of the step, counted from 0.

    ``learning_rate · decay_rate ** (step / decay_steps)``, the exponent rounded down
    when ``train.staircase``: Keras's ``ExponentialDecay``.  It does not know the number
    of epochs, so a short run is the beginning of a long one.
    """
    train = config.train
    return optax.exponential_decay(train.learning_rate, train.decay_steps, train.decay_rate, staircase=train.staircase)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Returns ``train.optimizer`` with its schedule.

    RMSprop is Keras 3's: gradient / √(v + ε), v a running mean of the squared gradient that
    starts at 0, no momentum.
    """
    directions = {
        "adam": scale_by_adam,
        "rmsprop": lambda: optax.scale_by_rms(RHO, EPSILON, initial_scale=0.0, eps_in_sqrt=True),
    }
    direction = directions[config.train.optimizer]()
    return optax.chain(direction, optax.scale_by_learning_rate(make_schedule(config)))
