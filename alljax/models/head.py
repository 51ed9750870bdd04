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
    """Dense(512) → ReLU → Dense(classes), initialised as Keras does: Glorot uniform, zero bias.

    Attributes:
        hidden: width of the hidden layer (the paper's is 512).
        classes: number of logits.
    """

    hidden: int = 512
    classes: int = 2

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps pooled features (B, D) to logits (B, classes); softmax belongs to the loss."""
        initialise = nn.initializers.glorot_uniform()
        features = nn.relu(nn.Dense(self.hidden, kernel_init=initialise, name="dense")(features))
        return nn.Dense(self.classes, kernel_init=initialise, name="predictions")(features)
