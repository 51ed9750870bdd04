"""Adam, RMSprop and the exponential decay are Keras's, to rounding."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alljax.config import default_config
from alljax.training import optim

GOLDENS = np.load(Path(__file__).with_name("keras_optimizers.npz"))
START = np.linspace(-1, 1, 16).astype(np.float32)


def trajectory(optimizer: optax.GradientTransformation) -> np.ndarray:
    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    params = jnp.asarray(START)
    _, states = jax.jit(lambda g: jax.lax.scan(step, (params, optimizer.init(params)), g))(GOLDENS["gradients"])
    return np.asarray(states)[9::10]


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
@pytest.mark.parametrize("staircase", [False, True])
def test_a_thousand_steps_equal_keras(name: str, staircase: bool) -> None:
    config = default_config()
    config.train.update(optimizer=name, learning_rate=1e-3, decay_steps=90, staircase=staircase)
    golden = GOLDENS[f"{name}_{'staircase' if staircase else 'continuous'}"]
    np.testing.assert_allclose(trajectory(optim.make_optimizer(config)), golden, rtol=0, atol=1e-6)


def test_the_goldens_tell_epsilon_apart() -> None:
    """The comparison above would notice Optax's own placement of epsilon."""
    schedule = optax.exponential_decay(1e-3, 90, 0.95)
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam mixes dtypes
        theirs = trajectory(optax.adam(schedule, eps=1e-7))
    assert np.abs(theirs - GOLDENS["adam_continuous"]).max() > 1e-4


def test_the_papers_learning_rates() -> None:
    """Facts, section 2: after 10, 50 and 100 epochs of 267 steps."""
    schedule = optim.make_schedule(default_config())
    rates = [float(schedule(267 * epochs)) for epochs in (10, 50, 100)]
    np.testing.assert_allclose(rates, [8.59e-5, 4.67e-5, 2.18e-5], rtol=2e-3)
