"""Adam, RMSprop and the exponential decay are Keras's, to rounding."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alljax.config import default_config
from alljax.training import optimizers

GOLDENS = np.load(Path(__file__).with_name("keras_optimizers.npz"))
START = np.linspace(-1, 1, 16).astype(np.float32)


def trajectory(optimizer: optax.GradientTransformation, columns: slice = slice(None)) -> np.ndarray:
    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    params, gradients = jnp.asarray(START[columns]), GOLDENS["gradients"][:, columns]
    _, states = jax.jit(lambda g: jax.lax.scan(step, (params, optimizer.init(params)), g))(gradients)
    return np.asarray(states)[9::10]


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
@pytest.mark.parametrize("staircase", [False, True])
def test_a_thousand_steps_equal_keras(name: str, staircase: bool) -> None:
    config = default_config()
    config.train.update(optimizer=name, learning_rate=1e-3, decay_steps=90, staircase=staircase)
    golden = GOLDENS[f"{name}_{'staircase' if staircase else 'continuous'}"]
    np.testing.assert_allclose(trajectory(optimizers.make_optimizer(config, 1000)), golden, rtol=0, atol=1e-6)


def test_the_goldens_tell_epsilon_apart() -> None:
    """The comparison above would notice Optax's own placement of epsilon."""
    schedule = optax.exponential_decay(1e-3, 90, 0.95)
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam mixes dtypes
        theirs = trajectory(optax.adam(schedule, eps=1e-7))
    assert np.abs(theirs - GOLDENS["adam_continuous"]).max() > 1e-4


def test_the_papers_learning_rates() -> None:
    """Facts, section 2: after 10, 50 and 100 epochs of 267 steps."""
    schedule = optimizers.make_schedule(default_config(), 26_700)
    rates = [float(schedule(267 * epochs)) for epochs in (10, 50, 100)]
    np.testing.assert_allclose(rates, [8.59e-5, 4.67e-5, 2.18e-5], rtol=2e-3)


def settings(**train: object) -> object:
    config = default_config()
    config.train.update(**train)
    return config


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        ({"schedule": "cosine"}, optax.cosine_decay_schedule(1e-4, 200)),
        (
            {"schedule": "piecewise", "boundaries": ((50, 0.1), (120, 0.5))},
            optax.piecewise_constant_schedule(1e-4, {50: 0.1, 120: 0.5}),
        ),
        ({"schedule": "constant"}, optax.constant_schedule(1e-4)),
        ({"schedule": "constant", "warmup_steps": 10}, lambda step: 1e-4 * min((step + 1) / 10, 1)),
        ({"schedule": "cosine", "warmup_steps": 1}, optax.cosine_decay_schedule(1e-4, 200)),
    ],
)
def test_schedules(settings: dict, reference: optax.Schedule) -> None:
    schedule = jax.jit(lambda step, total: optimizers.make_schedule(settings(**settings), total)(step))
    got = [float(schedule(step, 200)) for step in range(0, 210, 7)]
    np.testing.assert_allclose(got, [float(reference(step)) for step in range(0, 210, 7)], rtol=1e-5, atol=1e-11)


@pytest.mark.parametrize("name", ["exponential", "cosine", "piecewise", "constant"])
def test_the_optimizer_takes_every_schedule(name: str) -> None:
    config = settings(
        optimizer="sgd", momentum=0.0, schedule=name, boundaries=((2, 0.5),), warmup_steps=2, learning_rate=1.0
    )
    optimizer, params = optimizers.make_optimizer(config, 10), jnp.ones(1)
    state, rates = optimizer.init(params), []
    for _ in range(3):
        updates, state = jax.jit(optimizer.update)(jnp.ones(1), state, params)
        rates.append(-float(updates[0]))
    schedule = optimizers.make_schedule(config, 10)
    np.testing.assert_allclose(rates, [float(schedule(step)) for step in range(3)], rtol=1e-6)
    assert rates[0] < rates[1]


def test_sgd_with_momentum_is_optax_s() -> None:
    ours = optimizers.make_optimizer(settings(optimizer="sgd", schedule="constant", learning_rate=0.1), 1000)
    np.testing.assert_allclose(trajectory(ours), trajectory(optax.sgd(0.1, momentum=0.9)), rtol=1e-6)


def test_lamb_is_optax_s_but_for_the_place_of_epsilon() -> None:
    ours = optimizers.make_optimizer(
        settings(optimizer="lamb", schedule="constant", learning_rate=1e-2, weight_decay=0.1), 1000
    )
    large = slice(12, None)  # gradients far above epsilon
    with jax.numpy_dtype_promotion("standard"):
        theirs = trajectory(optax.lamb(1e-2, eps=0.0, weight_decay=0.1), large)
    np.testing.assert_allclose(trajectory(ours, large), theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_weight_decay_is_decoupled(name: str) -> None:
    """Without a gradient a parameter shrinks by rate · decay of itself, whatever the moments."""
    optimizer = optimizers.make_optimizer(
        settings(optimizer=name, schedule="constant", learning_rate=0.1, weight_decay=0.01), 10
    )
    params = jnp.asarray(START)
    updates, _ = optimizer.update(jnp.zeros_like(params), optimizer.init(params), params)
    np.testing.assert_allclose(updates, -0.1 * 0.01 * START, rtol=1e-6)


def test_clipping_by_the_norm_of_all_gradients() -> None:
    optimizer = optimizers.make_optimizer(
        settings(optimizer="sgd", schedule="constant", learning_rate=1.0, clip_norm=1.0, momentum=0.0), 10
    )
    gradients = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([0.0, 4.0])}
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    np.testing.assert_allclose(updates["a"], [-0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [0, -0.8], rtol=1e-6)


def test_groups_have_their_own_rate_and_decay_and_may_rest() -> None:
    config = settings(optimizer="adam", schedule="constant", learning_rate=0.1, weight_decay=0.5)
    optimizer = optimizers.make_optimizer(
        config, 10, {"slow": 0.1, "fast": 1.0}, {"slow": 0.0, "fast": 1.0}, {"a": "slow", "b": "fast"}
    )
    params = {"a": jnp.array([1.0]), "b": jnp.array([1.0])}
    state = optimizer.init(params)
    only_b, state = optimizer.update({"b": jnp.array([1.0])}, state, params)
    assert set(only_b) == {"b"}
    np.testing.assert_allclose(only_b["b"], [-0.1 * (1 + 0.5)], rtol=1e-5)
    both, _ = optimizer.update({"a": jnp.array([1.0]), "b": jnp.array([1.0])}, state, params)
    np.testing.assert_allclose(both["a"], [-0.1 * 0.1], rtol=1e-5)  # its first step: moments start now


def test_the_rate_goes_on_while_a_group_rests() -> None:
    config = settings(optimizer="sgd", momentum=0.0, schedule="cosine", learning_rate=1.0)
    optimizer = optimizers.make_optimizer(config, 4, {"g": 1.0, "h": 1.0}, {"g": 1.0, "h": 1.0}, {"a": "g", "b": "h"})
    params = {"a": jnp.array([1.0]), "b": jnp.array([1.0])}
    _, state = optimizer.update({"b": jnp.array([1.0])}, optimizer.init(params), params)
    updates, _ = optimizer.update({"a": jnp.array([1.0])}, state, params)
    np.testing.assert_allclose(updates["a"], [-0.5 * (1 + np.cos(np.pi / 4))], rtol=1e-6)
