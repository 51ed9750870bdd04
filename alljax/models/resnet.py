"""ResNet18, ResNet50 and ResNet101 (He et al. 2015, arXiv 1512.03385, table 1), ResNet50 in two published variants.

Weights of one run in the other without an error and give meaningless features:

- ``torchvision`` (and timm): the stride of a stage is in the 3×3 convolution of its first block, no biases.
- ``keras`` (and the original Caffe model): the stride is in the first 1×1 convolution, every convolution has a bias.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax

from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.layers import BatchNorm, BatchNormContext, Conv, Stage, max_pool

Variant = Literal["torchvision", "keras"]

FEATURES = (64, 128, 256, 512)  # channels inside the blocks of each stage
EPS = {"torchvision": 1e-5, "keras": 1.001e-5}
MOMENTUM = {"torchvision": 0.9, "keras": 0.99}


class ConvNorm(nn.Module):
    """Convolution and batch normalization of stem and shortcut; in the stem also ReLU and 3×3 max pooling."""

    features: int
    kernel_size: int
    stride: int
    variant: Variant
    stem: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features), half of that size in the stem."""
        use_bias = self.variant == "keras"
        images = Conv(self.features, self.kernel_size, self.stride, use_bias=use_bias, name="conv")(images)
        images = BatchNorm(MOMENTUM[self.variant], EPS[self.variant], name="norm")(images, context)
        return max_pool(nn.relu(images), 3, 2, 1) if self.stem else images


class Block(nn.Module):
    """Convolutions, added to the input or, where the number of channels changes, to its projection."""

    expansion: ClassVar[int]  # channels of the output per channel inside the block
    features: int  # channels inside the block
    variant: Variant
    stride: int

    def convolutions(self) -> tuple[tuple[int, int, int], ...]:
        """Returns channels, kernel size and stride of each convolution."""
        raise NotImplementedError

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, expansion · features)."""
        width = self.expansion * self.features
        shortcut = inner = images
        if images.shape[-1] != width:
            shortcut = ConvNorm(width, 1, self.stride, self.variant, name="shortcut")(images, context)
        for number, (features, kernel_size, stride) in enumerate(self.convolutions(), start=1):
            inner = inner if number == 1 else nn.relu(inner)
            conv = Conv(features, kernel_size, stride, use_bias=self.variant == "keras", name=f"conv{number}")
            norm = BatchNorm(MOMENTUM[self.variant], EPS[self.variant], name=f"norm{number}")
            inner = norm(conv(inner), context)
        return nn.relu(shortcut + inner)


class BasicBlock(Block):
    """Two 3×3 convolutions."""

    expansion = 1

    def convolutions(self) -> tuple[tuple[int, int, int], ...]:  # noqa: D102 - see the base class
        return (self.features, 3, self.stride), (self.features, 3, 1)


class Bottleneck(Block):
    """1×1, 3×3 and 1×1 convolutions."""

    expansion = 4

    def convolutions(self) -> tuple[tuple[int, int, int], ...]:  # noqa: D102 - see the base class
        first, second = (self.stride, 1) if self.variant == "keras" else (1, self.stride)
        return (self.features, 1, first), (self.features, 3, second), (4 * self.features, 1, 1)


class ResNet(StagedNetwork):
    """Stages: ``stem`` (with ReLU and 3×3 max pooling), ``stage1`` … ``stage4`` (torchvision's ``layer1`` …)."""

    images_at_once: ClassVar = {"stem": 1, "stage3": 8}
    block: type[Block]
    blocks: tuple[int, int, int, int]  # of each stage
    variant: Variant = "torchvision"

    @property
    def widths(self) -> Mapping[str, int]:  # noqa: D102 - see the base class
        stages = {f"stage{number}": self.block.expansion * features for number, features in enumerate(FEATURES, 1)}
        return {"stem": 64} | stages

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = ConvNorm(64, 7, 2, self.variant, stem=True)
        for number, (blocks, features) in enumerate(zip(self.blocks, FEATURES, strict=True), start=1):
            stride = 1 if number == 1 else 2
            setattr(self, f"stage{number}", Stage(blocks, stride, partial(self.block, features, self.variant)))


LAYER = r"stage(\d)/block(\d+)/(?:shortcut/)?(conv|norm)(\d?)"
"""Stage, block, kind and number of a layer; the layers of a shortcut have no number."""


def _torchvision_name(match: re.Match[str]) -> str:
    block = f"layer{match[1]}.{int(match[2]) - 1}"
    if not match[4]:
        return f"{block}.downsample.{0 if match[3] == 'conv' else 1}"
    return f"{block}.{'conv' if match[3] == 'conv' else 'bn'}{match[4]}"


def _keras_name(match: re.Match[str]) -> str:
    kind = "conv" if match[3] == "conv" else "bn"
    return f"conv{int(match[1]) + 1}_block{match[2]}_{match[4] or 0}_{kind}"


def _old_keras_name(match: re.Match[str]) -> str:
    kind = "res" if match[3] == "conv" else "bn"
    branch = {"": "1", "1": "2a", "2": "2b", "3": "2c"}[match[4]]
    return f"{kind}{int(match[1]) + 1}{'abcdef'[int(match[2]) - 1]}_branch{branch}"


TORCHVISION: Rules = {"stem/conv": "conv1", "stem/norm": "bn1", LAYER: _torchvision_name}
KERAS: Rules = {"stem/conv": "conv1_conv", "stem/norm": "conv1_bn", LAYER: _keras_name}
OLD_KERAS: Rules = {"stem/conv": "conv1", "stem/norm": "bn_conv1", LAYER: _old_keras_name}

NETWORKS = {
    "resnet18": ResNet(BasicBlock, (2, 2, 2, 2)),
    "resnet50": ResNet(Bottleneck, (3, 4, 6, 3)),
    "resnet101": ResNet(Bottleneck, (3, 4, 23, 3)),
}
for name, network in NETWORKS.items():  # timm's weights have the same names
    register(name, network, Layout("torchvision", "torch", "pytorch", TORCHVISION, r"(layer\d+|conv1|bn1)\..*"))
register(
    "resnet50_keras",
    ResNet(Bottleneck, (3, 4, 6, 3), "keras"),
    Layout("keras", "caffe", "keras", KERAS, r"conv\d+_.*"),
    Layout("keras_old", "caffe", "keras", OLD_KERAS, r"(res|bn)\d+[a-z]\d*_.*"),
)
