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
"""Name in configs → function from activations (B, H, W, C) to vectors (B, C), flattened (B, H · W · C) as in Keras."""


class Head(nn.Module):
    """Dense → ReLU → dropout → Dense, initialized as in Keras: Glorot uniform, zero bias."""

    hidden: int = 512  # width of the hidden layer, as in the paper
    classes: int = 2
    dropout: float = 0.0  # rate of the hidden units during training

    @nn.compact
    def __call__(self, features: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Maps float32 (B, D) to logits (B, classes); dropout uses a key (B,) per image, whatever its device."""
        initialize = nn.initializers.glorot_uniform()
        features = nn.relu(nn.Dense(self.hidden, kernel_init=initialize, name="dense")(features))
        if self.dropout and keys is not None:
            keep = 1 - self.dropout
            kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, (self.hidden,)))(keys)
            features = jnp.where(kept, features / keep, 0.0)
        return nn.Dense(self.classes, kernel_init=initialize, name="predictions")(features)
