"""Pooling, and the classifier that is trained on the features of a backbone."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

POOLINGS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "average": lambda activation: jnp.mean(activation, axis=(1, 2)),
    "max": lambda activation: jnp.max(activation, axis=(1, 2)),
    "flatten": lambda activation: jnp.reshape(activation, (activation.shape[0], -1)),
}
"""Name in configs → function from the activation of a stage (B, H, W, C) to one feature vector per image.

The vectors are (B, C), or flattened (B, H · W · C) in the order height, width, channel, as in Keras.
"""


class Head(nn.Module):
    """Dense → ReLU → dropout → Dense, initialized as in Keras: Glorot uniform, zero bias."""

    hidden: int = 512  # width of the hidden layer, as in the paper
    classes: int = 2
    dropout: float = 0.0  # rate of the hidden units during training

    @nn.compact
    def __call__(self, features: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Maps pooled features, float32 (B, D), to logits (B, classes); the loss applies the softmax.

        The dropout keys (B,), one per image, make the masks independent of how a batch is distributed over devices;
        without keys (None) nothing is dropped.
        """
        initialize = nn.initializers.glorot_uniform()
        features = nn.relu(nn.Dense(self.hidden, kernel_init=initialize, name="dense")(features))
        if self.dropout and keys is not None:
            keep = 1 - self.dropout
            kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, (self.hidden,)))(keys)
            features = jnp.where(kept, features / keep, 0.0)
        return nn.Dense(self.classes, kernel_init=initialize, name="predictions")(features)
