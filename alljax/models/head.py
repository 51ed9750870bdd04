"""Pooling, and the classifier that is trained on the features of a backbone."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

POOLINGS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "average": lambda activation: jnp.mean(activation, axis=(1, 2)),
    "max": lambda activation: jnp.max(activation, axis=(1, 2)),
    "flatten": lambda activation: jnp.reshape(activation, (activation.shape[0], -1)),
    "cls": lambda tokens: tokens[:, 0, 0],
    "cls_mean": lambda tokens: jnp.concatenate([tokens[:, 0, 0], jnp.mean(tokens[:, 1:, 0], axis=1)], axis=1),
}
"""Name in configs → function from activations (B, H, W, C) to vectors (B, C), flattened (B, H · W · C) as in Keras.

``cls`` and ``cls_mean`` are for tokens (B, T, 1, C): the first one, the class token, and with the mean of the others.
"""


class Head(nn.Module):
    """Hidden units → dropout → Dense, initialized as in Keras (Glorot uniform, zero bias), an LSTM as in Flax."""

    hidden: int = 512  # number of hidden units, as in the paper
    classes: int = 2
    dropout: float = 0.0  # rate of the hidden units during training
    kind: str = "mlp"  # hidden units: Dense → ReLU; linear: the features; lstm: its last state over the features
    sequence: tuple[int, int] | None = None  # lstm: T steps of d features

    @nn.compact
    def __call__(self, features: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Maps float32 (B, D) to logits (B, classes); dropout uses a key (B,) per image, whatever its device."""
        initialize = nn.initializers.glorot_uniform()
        if self.kind == "mlp":
            features = nn.relu(nn.Dense(self.hidden, kernel_init=initialize, name="dense")(features))
        elif self.sequence:
            steps = features.reshape(features.shape[0], *self.sequence)
            states: Any = nn.RNN(nn.OptimizedLSTMCell(self.hidden, name="lstm"))(steps)
            features = states[:, -1]
        if self.dropout and keys is not None:
            keep = 1 - self.dropout
            kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, features.shape[1:]))(keys)
            features = jnp.where(kept, features / keep, 0.0)
        return nn.Dense(self.classes, kernel_init=initialize, name="predictions")(features)


def make_head(config: ConfigDict, classes: int, sequence: tuple[int, int] | None = None) -> Head:
    """Returns the head of a config; features (B, T · d) of an LSTM are sequences (T, d)."""
    kind = config.classifier.name
    return Head(config.model.hidden, classes, config.model.dropout, kind, sequence if kind == "lstm" else None)
