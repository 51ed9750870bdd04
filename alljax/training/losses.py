"""Classification losses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

Loss = Callable[[jax.Array], jax.Array]
"""Logits (B, C) → the loss of each class (B, C) if it were the label."""


def make_loss(config: ConfigDict, focal_gamma: jax.Array | float) -> Loss:
    """Returns ``train.loss`` of an image, for each class as if it were the label, in nats.

    - ``cross_entropy``: −log p.
    - ``focal``: (1 − p)^γ times that (Lin et al. 2017, arXiv 1708.02002).

    With ``train.label_smoothing`` ε it is (1 − ε) times the loss of the class plus ε times the mean of the
    losses of all classes (Szegedy et al. 2015, arXiv 1512.00567).

    Args:
        config: ``train`` is read.
        focal_gamma: γ.
    """
    focal, smoothing = config.train.loss == "focal", config.train.label_smoothing

    def loss(logits: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(logits)
        # 1 − p from expm1 is exact near p = 1, where a plain difference has no gradient left.
        losses = -log_p * (jnp.maximum(-jnp.expm1(log_p), 1e-7) ** focal_gamma) if focal else -log_p
        return (1 - smoothing) * losses + smoothing * losses.mean(1, keepdims=True) if smoothing else losses

    return loss


def weighted_loss(
    loss: Loss, logits: jax.Array, targets: jax.Array, mask: jax.Array, class_weights: jax.Array
) -> jax.Array:
    """Returns Σ mask · target · class_weight · loss over images and classes, ().

    Args:
        loss: from `make_loss`.
        logits: float32 (B, C).
        targets: float32 (B, C), the share of each class.
        mask: bool (B,), False for padding.
        class_weights: float32 (C,).
    """
    return jnp.sum(loss(logits) * targets * class_weights[None] * mask.astype(jnp.float32)[:, None])
