"""The training step on a linear model and its losses, against formulas written out here."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, softmax

from alljax.config import default_config
from alljax.training.optimizers import hyperparameters_of
from alljax.training.step import (
    AUGMENT,
    Batch,
    RunInputs,
    TrainState,
    class_losses,
    init_state,
    make_eval_step,
    make_train_step,
)  # fmt: skip

SIZE, REAL = 8, 7
KEY = jax.random.key(3)
WEIGHTS = jnp.array([0.5, 2.0])
PARAMS = {
    "head/kernel": jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)), jnp.float32),
    "head/bias": jnp.ones(2),
}
LOGITS = np.random.default_rng(0).normal(0, 3, (40, 3)).astype(np.float32)


def batch() -> Batch:
    generator = np.random.default_rng(1)
    inputs, labels = generator.normal(size=(SIZE, 4)).astype(np.float32), generator.integers(0, 2, SIZE, np.int32)
    return Batch(jnp.asarray(inputs), jnp.asarray(labels), jnp.arange(SIZE) < REAL, jnp.arange(SIZE))


def apply(params: Any, batch_stats: Any, inputs: jax.Array, mask: jax.Array, keys: Any) -> tuple[jax.Array, Any]:
    return inputs @ params["head/kernel"] + params["head/bias"][None], batch_stats


def run(options: dict[str, Any] | None = None, steps: int = 1, **train: Any) -> TrainState:
    config = default_config()
    config.train.update(optimizer="sgd", momentum=0.0, schedule="constant", learning_rate=0.1)
    config.train.update(**train)
    step = jax.jit(make_train_step(config, apply, **(options or {})))
    state = init_state(config, PARAMS, group_of=(options or {}).get("group_of"))
    for _ in range(steps):
        state = step(state, {}, batch(), RunInputs(KEY, WEIGHTS, hyperparameters_of(config, 10)))
    return state


def one_hot() -> jax.Array:
    return jax.nn.one_hot(batch().labels, 2)


def expected_gradient(inputs: jax.Array, targets: jax.Array) -> Any:
    def loss(params: Any) -> jax.Array:
        log_p = jax.nn.log_softmax(apply(params, {}, inputs, None, None)[0])
        return -jnp.sum((log_p * targets * WEIGHTS[None])[:REAL]) / REAL

    return jax.grad(loss)(PARAMS)


def test_step_follows_the_gradient_of_the_weighted_mean() -> None:
    state = run()
    for path, gradient in expected_gradient(batch().inputs, one_hot()).items():
        np.testing.assert_allclose(state.params[path], PARAMS[path] - 0.1 * gradient, rtol=1e-5, atol=1e-6)
    assert int(state.step) == 1


def test_augmentation_gets_a_key_per_image() -> None:
    def augment(keys: jax.Array, inputs: jax.Array) -> jax.Array:
        return inputs + jax.vmap(lambda key: jax.random.normal(key, (4,)))(keys)

    stream = jax.random.fold_in(jax.random.fold_in(KEY, AUGMENT), 0)
    noise = jnp.stack([jax.random.normal(jax.random.fold_in(stream, position), (4,)) for position in range(SIZE)])
    gradient = expected_gradient(batch().inputs + noise, one_hot())["head/bias"]
    state = run({"augment": augment})
    np.testing.assert_allclose(state.params["head/bias"], PARAMS["head/bias"] - 0.1 * gradient, rtol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.15])
def test_moving_average_is_evaluated(decay: float) -> None:
    """Its decay is (1 + t) / (10 + t) in the first steps and never above the setting."""
    states = [run(steps=steps, ema_decay=decay) for steps in (1, 2)]
    average = PARAMS["head/bias"]
    for keep, state in zip((0.1, decay), states, strict=True):
        average = keep * average + (1 - keep) * state.params["head/bias"]
    expected = average if decay else states[1].params["head/bias"]
    np.testing.assert_allclose(states[1].eval_params["head/bias"], expected, rtol=1e-6)
    logits = make_eval_step(apply)(states[1], {}, batch())
    np.testing.assert_allclose(logits, apply(states[1].eval_params, {}, batch().inputs, None, None)[0], rtol=1e-6)


def losses(logits: Any, gamma: float = 2.0, **train: object) -> jax.Array:
    config = default_config()
    config.train.update(**train)
    return class_losses(config, jnp.asarray(logits), gamma)


def test_label_smoothing_equals_optax() -> None:
    found = losses(LOGITS, label_smoothing=0.2)
    for label in range(3):
        targets = optax.smooth_labels(jax.nn.one_hot(jnp.full(len(LOGITS), label), 3), 0.2)
        expected = optax.softmax_cross_entropy(jnp.asarray(LOGITS), targets)
        np.testing.assert_allclose(found[:, label], expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_equals_the_published_formula(gamma: float) -> None:
    exact = LOGITS.astype(np.float64)
    expected = -((1 - softmax(exact, 1)) ** gamma) * log_softmax(exact, 1)
    np.testing.assert_allclose(losses(LOGITS, gamma, loss="focal"), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("logit", [0.0, 30.0, 200.0])
def test_gradient_of_focal_loss_is_finite_for_confident_predictions(logit: float) -> None:
    gradient = jax.grad(lambda x: losses(jnp.stack([x, 0.0 * x])[None], loss="focal")[0, 0])(jnp.asarray(logit))
    assert np.isfinite(gradient)
