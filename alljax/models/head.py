"""The classifier that is trained on a backbone's features."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alljax.errors import ConfigError

POOLINGS = ("average", "max", "flatten")


def pool(activation: jax.Array, method: str) -> jax.Array:
    """Makes one feature vector an image of a stage's activation.

    Args:
        activation: (B, H, W, C).
        method: ``"average"`` or ``"max"`` over all pixels; ``"flatten"`` keeps
            every pixel, in the order height, width, channel (Keras's).

    Returns:
        (B, C), or (B, H · W · C) flattened.

    Raises:
        ConfigError: the method is none of the three.
    """
    match method:
        case "average":
            return jnp.mean(activation, axis=(1, 2))
        case "max":
            return jnp.max(activation, axis=(1, 2))
        case "flatten":
            return jnp.reshape(activation, (activation.shape[0], -1))
    raise ConfigError(f"unknown pooling {method!r}: choose one of {', '.join(POOLINGS)}")


class Head(nn.Module):
    """Dense(512) → ReLU → dropout → Dense(classes), initialized as Keras does: Glorot uniform, zero bias.

    Attributes:
        hidden: width of the hidden layer (the paper's is 512).
        classes: number of logits.
        dropout: share of the hidden units that rest while the head learns; the others are scaled up.
    """

    hidden: int = 512
    classes: int = 2
    dropout: float = 0.0

    @nn.compact
    def __call__(self, features: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Maps pooled features (B, D) to logits (B, classes); softmax belongs to the loss.

        Args:
            features: float32 (B, D).
            keys: one a cell, (B,): which units rest is drawn for each cell by itself, so that it does
                not depend on how a batch is spread over devices; None: nobody rests.
        """
        initialize = nn.initializers.glorot_uniform()
        features = nn.relu(nn.Dense(self.hidden, kernel_init=initialize, name="dense")(features))
        if self.dropout and keys is not None:
            keep = 1 - self.dropout
            drawn = jax.vmap(lambda key: jax.random.bernoulli(key, keep, (self.hidden,)))(keys)
            features = jnp.where(drawn, features / keep, 0.0)
        return nn.Dense(self.classes, kernel_init=initialize, name="predictions")(features)
