"""Losses against independent formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, softmax

from alljax.config import default_config
from alljax.training.losses import Loss, make_loss, weighted_loss

LOGITS = np.random.default_rng(0).normal(0, 3, (40, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 40).astype(np.int32)


def loss_of(gamma: float = 2.0, **train: object) -> Loss:
    config = default_config()
    config.train.update(**train)
    return make_loss(config, gamma)


def of_labels(loss: Loss) -> np.ndarray:
    return np.asarray(loss(jnp.asarray(LOGITS)))[np.arange(40), LABELS]


def test_label_smoothing_equals_optax() -> None:
    targets = optax.smooth_labels(jax.nn.one_hot(jnp.asarray(LABELS), 3), 0.2)
    expected = optax.softmax_cross_entropy(jnp.asarray(LOGITS), targets)
    np.testing.assert_allclose(of_labels(loss_of(label_smoothing=0.2)), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_equals_the_published_formula(gamma: float) -> None:
    rows = np.arange(40)
    exact = LOGITS.astype(np.float64)
    expected = -((1 - softmax(exact, 1)[rows, LABELS]) ** gamma) * log_softmax(exact, 1)[rows, LABELS]
    np.testing.assert_allclose(of_labels(loss_of(gamma, loss="focal")), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("logit", [0.0, 30.0, 200.0])
def test_gradient_of_focal_loss_is_finite_for_confident_predictions(logit: float) -> None:
    loss = loss_of(loss="focal")
    gradient = jax.grad(lambda x: loss(jnp.stack([x, 0.0 * x])[None])[0, 0])(jnp.asarray(logit))
    assert np.isfinite(gradient)


def test_class_weights_mask_and_soft_targets() -> None:
    targets = jax.nn.softmax(jnp.asarray(np.random.default_rng(2).normal(size=(40, 3)), jnp.float32))
    mask, weights = jnp.arange(40) < 31, jnp.array([0.5, 1.0, 4.0])
    total = weighted_loss(loss_of(), jnp.asarray(LOGITS), targets, mask, weights)
    expected = -(log_softmax(LOGITS.astype(np.float64), 1) * np.asarray(targets) * np.asarray(weights))[:31].sum()
    np.testing.assert_allclose(total, expected, rtol=1e-5)
