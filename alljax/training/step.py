"""TrainState, the losses, and the pure training and evaluation steps of both modes."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

FIRST, ORDER, VIEWS, RESTING = range(4)
"""What a run's key is folded with: first parameters, order of the cells, views or augmentation, dropout."""

Loss = Callable[[jax.Array], jax.Array]
"""Logits (B, C) to the loss of each class (B, C)."""


@flax.struct.dataclass
class TrainState:
    """All that changes while a network learns; arrays only.

    Attributes:
        params: the trainable parameters.
        opt_state: the optimizer's state for them.
        step: int32 (), optimizer steps done.
        batch_stats: stored statistics of the backbone's normalization layers; empty for a head alone.
        average: moving average of `params`; empty where none is kept.
    """

    params: Any
    opt_state: optax.OptState
    step: jax.Array
    batch_stats: Any = flax.struct.field(default_factory=dict)
    average: Any = flax.struct.field(default_factory=dict)


@flax.struct.dataclass
class Sums:
    """Exact sums over cells, so that a mean over batches is the mean over cells.

    Attributes:
        loss: summed cross-entropy, unweighted, in nats.
        correct: how many cells were classified correctly.
        count: how many cells there were; padding does not count.
    """

    loss: jax.Array
    correct: jax.Array
    count: jax.Array

    @classmethod
    def zero(cls) -> "Sums":
        """Returns sums over no cell."""
        return cls(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))

    def __add__(self, other: "Sums") -> "Sums":
        return jax.tree.map(jnp.add, self, other)


def sums(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Sums:
    """Sums loss and hits of a batch.

    The paper's binary cross-entropy on two softmax units and one-hot labels *is* the
    categorical cross-entropy computed here: −½[log p + log(1 − p′)] with p′ = 1 − p.

    Args:
        logits: float32 (B, C).
        labels: int32 (B,).
        mask: bool (B,), False for padding.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    weight = mask.astype(jnp.float32)
    hits = (logits.argmax(-1) == labels).astype(jnp.float32)
    return Sums(jnp.sum(losses * weight), jnp.sum(hits * weight), jnp.sum(weight))


def make_loss(config: ConfigDict) -> Loss:
    """Returns ``train.loss`` of a cell, for each class as if it were the label, in nats.

    - ``cross_entropy``: −log p.
    - ``focal``: (1 − p)^γ times that, γ = ``train.focal_gamma`` (Lin et al. 2017, arXiv 1708.02002).

    With ``train.label_smoothing`` ε it is (1 − ε) times the loss of the class plus ε times the mean of the
    losses of all classes (Szegedy et al. 2015, arXiv 1512.00567).
    """
    focal, gamma = config.train.loss == "focal", config.train.focal_gamma
    smoothing = config.train.label_smoothing

    def loss(logits: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(logits)
        # 1 − p from expm1 is exact near p = 1, where a plain difference has no gradient left.
        losses = -log_p * (jnp.maximum(-jnp.expm1(log_p), 1e-7) ** gamma) if focal else -log_p
        return (1 - smoothing) * losses + smoothing * losses.mean(1, keepdims=True) if smoothing else losses

    return loss


def cell_keys(key: jax.Array, step: jax.Array, positions: jax.Array) -> jax.Array:
    """Returns a key for each cell of a batch, (B,).

    They depend on the cell's position in the *global* batch, so that one device and eight draw alike.

    Args:
        key: of the run.
        step: int32 ().
        positions: int32 (B,).
    """
    return jax.vmap(lambda position: jax.random.fold_in(jax.random.fold_in(key, step), position))(positions)


def train_step(
    apply: Callable[[Any], jax.Array],
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    labels: jax.Array,
    mask: jax.Array,
    class_weights: jax.Array,
) -> tuple[TrainState, Sums]:
    """Returns the state of a head after one step, and the sums of the batch before it.

    The loss is Σ mask · class_weight · loss / Σ mask: a short batch is the mean over the cells it
    holds, as in Keras.

    Args:
        apply: parameters to the batch's logits (B, C).
        loss: from `make_loss`.
        optimizer: from `optim.make_optimizer`.
        state: before the step.
        labels: int32 (B,).
        mask: bool (B,), False for padding; at least one True.
        class_weights: float32 (C,), 1 where classes weigh the same.
    """

    def mean_loss(params: Any) -> tuple[jax.Array, Sums]:
        logits = apply(params)
        total = weighted(loss, logits, jax.nn.one_hot(labels, logits.shape[1]), mask, class_weights)
        return total / jnp.sum(mask.astype(jnp.float32)), sums(logits, labels, mask)

    gradients, batch = jax.grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1, state.batch_stats, state.average), batch


def weighted(loss: Loss, logits: jax.Array, targets: jax.Array, mask: jax.Array, class_weights: jax.Array) -> jax.Array:
    """Returns Σ mask · target · class_weight · loss over cells and classes, ().

    Args:
        loss: from `make_loss`.
        logits: float32 (B, C).
        targets: float32 (B, C), the share of each class.
        mask: bool (B,), False for padding.
        class_weights: float32 (C,).
    """
    return jnp.sum(loss(logits) * targets * class_weights[None] * mask.astype(jnp.float32)[:, None])
