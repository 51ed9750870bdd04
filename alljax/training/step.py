"""TrainState and the pure training and evaluation steps."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

Apply = Callable[[Any, jax.Array], jax.Array]
"""Parameters and inputs (B, ...) to logits (B, C)."""


@flax.struct.dataclass
class TrainState:
    """All that changes while a network learns; arrays only.

    Attributes:
        params: the trainable parameters.
        opt_state: the optimizer's state for them.
        step: int32 (), optimizer steps done.
    """

    params: Any
    opt_state: optax.OptState
    step: jax.Array


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


def train_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    inputs: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    class_weights: jax.Array,
) -> tuple[TrainState, Sums]:
    """Returns the state after one step, and the sums of the batch before it.

    The loss is Σ mask · class_weight · cross-entropy / Σ mask: a short batch is the mean over
    the cells it holds, as in Keras.

    Args:
        apply: the network.
        optimizer: from `optim.make_optimizer`.
        state: before the step.
        inputs: (B, ...).
        labels: int32 (B,).
        mask: bool (B,), False for padding; at least one True.
        class_weights: float32 (C,), 1 where classes weigh the same.
    """

    def loss(params: Any) -> tuple[jax.Array, Sums]:
        logits = apply(params, inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels) * class_weights[labels]
        weight = mask.astype(jnp.float32)
        return jnp.sum(losses * weight) / jnp.sum(weight), sums(logits, labels, mask)

    gradients, batch = jax.grad(loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1), batch
