"""DenseNet121 (Huang et al. 2017, arXiv 1608.06993, table 1)."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.layers import PYTORCH, BatchNorm, BatchNormContext, Conv
from alljax.models.resnet import stem

GROWTH, WIDTH = 32, 128  # channels that a layer adds, and inside a layer


class NormRelu(BatchNorm):
    """Batch normalization, then ReLU."""

    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to the same shape."""
        return nn.relu(super().__call__(images, context))


class Layer(nn.Module):
    """1×1 and 3×3 convolution, each after normalization and ReLU."""

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to the channels that are added, (B, H, W, 32)."""
        inner = Conv(WIDTH, 1, name="conv1")(NormRelu(PYTORCH, name="norm1")(images, context))
        return Conv(GROWTH, 3, name="conv2")(NormRelu(PYTORCH, name="norm2")(inner, context))


class Transition(nn.Module):
    """Normalization, ReLU, 2×2 average pooling, 1×1 convolution to half of the channels (which commute)."""

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌊H/2⌋, ⌊W/2⌋, C/2)."""
        count, height, width, channels = images.shape
        images = NormRelu(PYTORCH, name="norm")(images, context)[:, : height // 2 * 2, : width // 2 * 2]
        squares = images.reshape(count, height // 2, 2, width // 2, 2, channels)
        return Conv(channels // 2, 1, name="conv")(squares.mean((2, 4)))


class Block(nn.Module):
    """First a transition, if any; then layers, each of which has the outputs of all those before it as input."""

    layers: int
    transition: bool

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, h, w, c + 32 · layers)."""
        if self.transition:
            images = Transition(name="transition")(images, context)
        for number in range(1, self.layers + 1):
            images = jnp.concatenate([images, Layer(name=f"layer{number}")(images, context)], axis=-1)
        return images


class DenseNet121(StagedNetwork):
    """Stages: ``stem``, ``block1`` … ``block4`` (before the transitions), ``norm`` (with ReLU: what is pooled)."""

    widths: ClassVar = {"stem": 64, "block1": 256, "block2": 512, "block3": 1024, "block4": 1024, "norm": 1024}
    images_at_once: ClassVar = {"stem": 1, "block3": 4}

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = stem(PYTORCH)
        for number, layers in enumerate((6, 12, 24, 16), start=1):
            setattr(self, f"block{number}", Block(layers, transition=number > 1))
        self.norm = NormRelu(PYTORCH)


def _rules(layer: str) -> Rules:
    return {
        r"stem/(conv|norm)": r"features.\g<1>0",
        r"block(\d)/layer(\d+)/(conv|norm)(\d)": rf"features.denseblock\1.denselayer\2.{layer}",
        r"block(\d)/transition/(conv|norm)": lambda match: f"features.transition{int(match[1]) - 1}.{match[2]}",
        "norm": "features.norm5",
    }


# Of torchvision only the published file has the first names; what it saves has those of timm.
NAMES = r"features\.(conv0|norm0|denseblock\d+|transition\d+|norm5)\..*"
register(
    "densenet121",
    DenseNet121(),
    Layout("torchvision", "torch", "pytorch", _rules(r"\3.\4"), NAMES),
    Layout("timm", "torch", "pytorch", _rules(r"\3\4"), NAMES),
)
