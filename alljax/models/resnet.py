"""ResNet18, ResNet50 and ResNet101 (He et al. 2015, arXiv 1512.03385, table 1), ResNet50 in two published variants.

- ``PYTORCH`` (and timm): the stride of a stage is in the 3×3 convolution of its first block, no biases.
- ``KERAS`` (and the original Caffe model): the stride is in the first 1×1 convolution, every convolution has a bias.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax

from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.layers import KERAS, PYTORCH, BatchNorm, BatchNormContext, Conv, ConvNorm, Stage, Variant, max_pool

FEATURES = (64, 128, 256, 512)  # channels inside the blocks of each stage


def stem(variant: Variant) -> ConvNorm:
    """Returns the first stage, which halves the size of the images twice."""
    return ConvNorm(variant, 64, 7, 2, lambda images: max_pool(nn.relu(images), 3, 2, 1))


class Block(nn.Module):
    """Convolutions, added to the input or, where the number of channels changes, to its projection."""

    variant: Variant
    features: int  # channels inside the block
    stride: int
    expansion: int = 4  # channels of the output per channel inside: 4 for 1×1, 3×3, 1×1 kernels, 1 for two of 3×3

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, expansion · features)."""
        width, stride = self.expansion * self.features, self.stride
        layers = [(self.features, 3, stride), (width, 3, 1)]
        if self.expansion > 1:
            first, second = (stride, 1) if self.variant == KERAS else (1, stride)
            layers = [(self.features, 1, first), (self.features, 3, second), (width, 1, 1)]
        shortcut = inner = images
        if images.shape[-1] != width:
            shortcut = ConvNorm(self.variant, width, 1, stride, name="shortcut")(images, context)
        for number, layer in enumerate(layers, start=1):
            inner = inner if number == 1 else nn.relu(inner)
            conv = Conv(*layer, use_bias=self.variant.use_bias, name=f"conv{number}")
            inner = BatchNorm(self.variant, name=f"norm{number}")(conv(inner), context)
        return nn.relu(shortcut + inner)


class ResNet(StagedNetwork):
    """Stages: ``stem`` (with ReLU and 3×3 max pooling), ``stage1`` … ``stage4`` (torchvision's ``layer1`` …)."""

    images_at_once: ClassVar = {"stem": 1, "stage3": 8}
    blocks: tuple[int, int, int, int]  # of each stage
    expansion: int = 4
    variant: Variant = PYTORCH

    @property
    def widths(self) -> Mapping[str, int]:  # noqa: D102 - see the base class
        return {"stem": 64} | {f"stage{number}": self.expansion * width for number, width in enumerate(FEATURES, 1)}

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = stem(self.variant)
        for number, (blocks, features) in enumerate(zip(self.blocks, FEATURES, strict=True), start=1):
            block = partial(Block, self.variant, features, expansion=self.expansion)
            setattr(self, f"stage{number}", Stage(blocks, 1 if number == 1 else 2, block))


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
NEW_KERAS: Rules = {"stem/conv": "conv1_conv", "stem/norm": "conv1_bn", LAYER: _keras_name}
OLD_KERAS: Rules = {"stem/conv": "conv1", "stem/norm": "bn_conv1", LAYER: _old_keras_name}

# timm's weights have the same names.
LAYOUT = Layout("torchvision", "torch", "pytorch", TORCHVISION, r"(layer\d+|conv1|bn1)\..*")
register("resnet18", ResNet((2, 2, 2, 2), 1), LAYOUT)
register("resnet50", ResNet((3, 4, 6, 3)), LAYOUT)
register("resnet101", ResNet((3, 4, 23, 3)), LAYOUT)
register(
    "resnet50_keras",
    ResNet((3, 4, 6, 3), variant=KERAS),
    Layout("keras", "caffe", "keras", NEW_KERAS, r"conv\d+_.*"),
    Layout("keras_old", "caffe", "keras", OLD_KERAS, r"(res|bn)\d+[a-z]\d*_.*"),
)
