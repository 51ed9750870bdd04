"""The losses, against independent formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, softmax

from alljax.config import default_config
from alljax.training.step import Loss, make_loss, sums, weighted

LOGITS = np.random.default_rng(0).normal(0, 3, (40, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 40).astype(np.int32)


def of(**train: object) -> Loss:
    config = default_config()
    config.train.update(**train)
    return make_loss(config)


def own(loss: Loss) -> np.ndarray:
    return np.asarray(loss(jnp.asarray(LOGITS)))[np.arange(40), LABELS]


def test_cross_entropy_is_optax_s() -> None:
    expected = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(own(of()), expected, rtol=1e-5, atol=1e-6)


def test_label_smoothing_is_optax_s() -> None:
    targets = optax.smooth_labels(jax.nn.one_hot(jnp.asarray(LABELS), 3), 0.2)
    expected = optax.softmax_cross_entropy(jnp.asarray(LOGITS), targets)
    np.testing.assert_allclose(own(of(label_smoothing=0.2)), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_the_paper_s(gamma: float) -> None:
    rows = np.arange(40)
    exact = LOGITS.astype(np.float64)
    expected = -((1 - softmax(exact, 1)[rows, LABELS]) ** gamma) * log_softmax(exact, 1)[rows, LABELS]
    np.testing.assert_allclose(own(of(loss="focal", focal_gamma=gamma)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("logit", [0.0, 30.0, 200.0])
def test_focal_loss_has_a_gradient_where_the_network_is_sure(logit: float) -> None:
    gradient = jax.grad(lambda x: of(loss="focal")(jnp.stack([x, 0.0 * x])[None])[0, 0])(jnp.asarray(logit))
    assert np.isfinite(gradient)


def test_weights_masks_and_shared_targets() -> None:
    targets = jax.nn.softmax(jnp.asarray(np.random.default_rng(2).normal(size=(40, 3)), jnp.float32))
    mask, weights = jnp.arange(40) < 31, jnp.array([0.5, 1.0, 4.0])
    got = weighted(of(), jnp.asarray(LOGITS), targets, mask, weights)
    by_hand = -(log_softmax(LOGITS.astype(np.float64), 1) * np.asarray(targets) * np.asarray(weights))[:31].sum()
    np.testing.assert_allclose(got, by_hand, rtol=1e-5)


def test_sums_leave_padding_out() -> None:
    counted = sums(jnp.asarray(LOGITS), jnp.asarray(LABELS), jnp.arange(40) < 7)
    assert int(counted.count) == 7
    assert int(counted.correct) == (LOGITS.argmax(1) == LABELS)[:7].sum()
    np.testing.assert_allclose(counted.loss, -log_softmax(LOGITS, 1)[np.arange(7), LABELS[:7]].sum(), rtol=1e-5)
