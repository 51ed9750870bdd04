"""ResNet50 (He et al. 2015, arXiv 1512.03385, table 1) in its two published variants.

The variants have the same layers but compute different functions; weights of one run in the other without an error
and give meaningless features:

- ``torchvision`` (and timm): the stride of a stage is in the 3×3 convolution of its first block, convolutions have
  no bias, ε is 1e-5.
- ``keras`` (and the original Caffe model): the stride is in the first 1×1 convolution, every convolution has a bias,
  ε is 1.001e-5.
"""

import re
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from alljax.models.backbones import StagedNetwork, register
from alljax.models.layers import BatchNorm, BatchNormContext, Conv, symmetric_padding
from alljax.models.layouts import Layout, Rules

Variant = Literal["torchvision", "keras"]

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""(number of blocks, channels inside a block) of each stage; the output has four times as many channels."""

WIDTHS = {"stem": 64} | {f"stage{number}": 4 * features for number, (_, features) in enumerate(STAGES, start=1)}

EPS = {"torchvision": 1e-5, "keras": 1.001e-5}
MOMENTUM = {"torchvision": 0.9, "keras": 0.99}


class ConvNorm(nn.Module):
    """Convolution and batch normalization of stem and shortcut."""

    features: int
    kernel_size: int
    stride: int
    variant: Variant

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        images = _conv(self.variant, self.features, self.kernel_size, self.stride, "conv")(images)
        return _norm(self.variant, "norm")(images, context)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, added to the input or to its projection (`project`)."""

    features: int
    stride: int
    project: bool
    variant: Variant

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, 4 · features)."""
        conv, norm = partial(_conv, self.variant), partial(_norm, self.variant)
        shortcut = images
        if self.project:
            projection = ConvNorm(4 * self.features, 1, self.stride, self.variant, name="shortcut")
            shortcut = projection(images, context)
        stride1, stride2 = (self.stride, 1) if self.variant == "keras" else (1, self.stride)
        inner = nn.relu(norm("norm1")(conv(self.features, 1, stride1, "conv1")(images), context))
        inner = nn.relu(norm("norm2")(conv(self.features, 3, stride2, "conv2")(inner), context))
        inner = norm("norm3")(conv(4 * self.features, 1, 1, "conv3")(inner), context)
        return nn.relu(shortcut + inner)


class Stage(nn.Module):
    """The bottleneck blocks of one stage; the first one has a projection and the stride."""

    blocks: int
    features: int
    stride: int
    variant: Variant

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, 4 · features)."""
        for number in range(1, self.blocks + 1):
            first = number == 1
            stride = self.stride if first else 1
            images = Bottleneck(self.features, stride, first, self.variant, name=f"block{number}")(images, context)
        return images


class ResNet50(StagedNetwork):
    """ResNet50: stem, four stages and the ImageNet classifier.

    Stages: ``stem`` (convolution, normalization, ReLU and 3×3 max pooling) and ``stage1`` … ``stage4`` (torchvision's
    ``layer1`` … ``layer4``).

    Attributes:
        variant: ``"torchvision"`` or ``"keras"``, see the docstring of the module.
    """

    widths = WIDTHS
    variant: Variant = "torchvision"

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = ConvNorm(64, 7, 2, self.variant)
        for number, (blocks, features) in enumerate(STAGES, start=1):
            stride = 1 if number == 1 else 2
            setattr(self, f"stage{number}", Stage(blocks, features, stride, self.variant))
        self.classifier = nn.Dense(1000)

    def stage(self, name: str, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Applies a stage; ReLU and pooling of the stem are not part of its submodule."""
        images = getattr(self, name)(images, context)
        return nn.max_pool(nn.relu(images), (3, 3), (2, 2), symmetric_padding(1)) if name == "stem" else images

    def logits(self, images: jax.Array) -> jax.Array:
        """Returns the ImageNet logits (B, 1000) of preprocessed images (B, H, W, 3)."""
        return self.classifier(jnp.mean(self(images)["stage4"], axis=(1, 2)))


def _conv(variant: Variant, features: int, kernel_size: int, stride: int, name: str) -> Conv:
    padding = symmetric_padding(kernel_size // 2)
    return Conv(features, kernel_size, stride, padding, use_bias=variant == "keras", name=name)


def _norm(variant: Variant, name: str) -> BatchNorm:
    return BatchNorm(MOMENTUM[variant], EPS[variant], name=name)


CONV, NORM = r"stage(\d)/block(\d)/conv(\d)", r"stage(\d)/block(\d)/norm(\d)"
SHORTCUT_CONV, SHORTCUT_NORM = r"stage(\d)/block(\d)/shortcut/conv", r"stage(\d)/block(\d)/shortcut/norm"


def _old_keras_block(match: re.Match[str]) -> str:
    return f"{int(match[1]) + 1}{'abcdef'[int(match[2]) - 1]}_branch"


TORCHVISION: Rules = {
    "stem/conv": "conv1",
    "stem/norm": "bn1",
    CONV: lambda m: f"layer{m[1]}.{int(m[2]) - 1}.conv{m[3]}",
    NORM: lambda m: f"layer{m[1]}.{int(m[2]) - 1}.bn{m[3]}",
    SHORTCUT_CONV: lambda m: f"layer{m[1]}.{int(m[2]) - 1}.downsample.0",
    SHORTCUT_NORM: lambda m: f"layer{m[1]}.{int(m[2]) - 1}.downsample.1",
    "classifier": "fc",
}
KERAS: Rules = {
    "stem/conv": "conv1_conv",
    "stem/norm": "conv1_bn",
    CONV: lambda m: f"conv{int(m[1]) + 1}_block{m[2]}_{m[3]}_conv",
    NORM: lambda m: f"conv{int(m[1]) + 1}_block{m[2]}_{m[3]}_bn",
    SHORTCUT_CONV: lambda m: f"conv{int(m[1]) + 1}_block{m[2]}_0_conv",
    SHORTCUT_NORM: lambda m: f"conv{int(m[1]) + 1}_block{m[2]}_0_bn",
    "classifier": "predictions",
}
OLD_KERAS: Rules = {
    "stem/conv": "conv1",
    "stem/norm": "bn_conv1",
    CONV: lambda m: f"res{_old_keras_block(m)}2{'abc'[int(m[3]) - 1]}",
    NORM: lambda m: f"bn{_old_keras_block(m)}2{'abc'[int(m[3]) - 1]}",
    SHORTCUT_CONV: lambda m: f"res{_old_keras_block(m)}1",
    SHORTCUT_NORM: lambda m: f"bn{_old_keras_block(m)}1",
    "classifier": "fc1000",
}

register(
    "resnet50",
    ResNet50("torchvision"),
    Layout(
        "torchvision", "torchvision's or timm's ResNet50", "torch", "pytorch", TORCHVISION, r"(layer\d+|conv1|bn1)\..*"
    ),
)
register(
    "resnet50_keras",
    ResNet50("keras"),
    Layout("keras", "Keras's ResNet50", "caffe", "keras", KERAS, r"conv\d+_.*"),
    Layout("keras_old", "Keras's older ResNet50", "caffe", "keras", OLD_KERAS, r"(res|bn)\d+[a-z]\d*_.*"),
)
