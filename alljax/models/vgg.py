"""VGG16 (Simonyan & Zisserman 2014, arXiv 1409.1556, configuration D)."""

from collections import OrderedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from alljax.errors import ConfigError
from alljax.models.layers import Convolution, symmetric_padding
from alljax.models.normalization import Batch

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""(number of convolutions, channels) of each block."""

CLASSIFIER_SIDE = 7
"""Pixels a side that the classifier's first layer reads: images of 224 pixels, halved five times."""


class Block(nn.Module):
    """3×3 convolutions with ReLU, then a 2×2 maximum that halves the sides (an odd last row is dropped)."""

    convolutions: int
    features: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌊H/2⌋, ⌊W/2⌋, features)."""
        for number in range(1, self.convolutions + 1):
            images = nn.relu(
                Convolution(self.features, 3, padding=symmetric_padding(1), use_bias=True, name=f"conv{number}")(images)
            )
        halved: jax.Array = nn.max_pool(images, (2, 2), (2, 2), symmetric_padding(0))
        return halved


class Classifier(nn.Module):
    """The three fully connected layers, on the last block flattened in the order height, width, channel."""

    @nn.compact
    def __call__(self, flat: jax.Array) -> jax.Array:
        """Maps (B, 25088) to logits (B, 1000)."""
        hidden = nn.relu(nn.Dense(4096, name="fc1")(flat))
        hidden = nn.relu(nn.Dense(4096, name="fc2")(hidden))
        return nn.Dense(1000, name="predictions")(hidden)


class VGG16(nn.Module):
    """VGG16: five blocks and the 1000-way ImageNet classifier.

    Stages: ``block1`` … ``block5``, each after its pooling (what Keras calls
    ``block5_pool`` and torchvision ``features``).
    """

    def setup(self) -> None:  # noqa: D102 - Flax's hook
        for number, (convolutions, features) in enumerate(BLOCKS, start=1):
            setattr(self, f"block{number}", Block(convolutions, features))
        self.classifier = Classifier()

    def __call__(
        self, images: jax.Array, last: str | None = None, batch: Batch | None = None
    ) -> OrderedDict[str, jax.Array]:
        """Returns the activations of all stages, in order.

        Args:
            images: float32 or bfloat16 (B, H, W, 3), preprocessed as the weights ask; at least 32 pixels a side.
            last: the stage to stop at; the ones after it are not computed.
            batch: without effect, VGG16's blocks have no statistics; all backbones take it.

        Returns:
            Stage name → activation (B, h, w, channels).
        """
        activations: OrderedDict[str, jax.Array] = OrderedDict()
        for number in range(1, len(BLOCKS) + 1):
            name = f"block{number}"
            images = activations[name] = checkpoint_name(getattr(self, name)(images), "stage")
            if name == last:
                break
        return activations

    def logits(self, images: jax.Array) -> jax.Array:
        """Returns the ImageNet logits (B, 1000) of preprocessed images (B, 224, 224, 3).

        Raises:
            ConfigError: the images are of another size, which the classifier cannot read.
        """
        activation = self(images)["block5"]
        if activation.shape[1:3] != (CLASSIFIER_SIDE, CLASSIFIER_SIDE):
            raise ConfigError(
                f"VGG16's ImageNet classifier reads images of 224 x 224 pixels, these have "
                f"{images.shape[1]} x {images.shape[2]}: set image_size to 224"
            )
        return self.classifier(jnp.reshape(activation, (activation.shape[0], -1)))
