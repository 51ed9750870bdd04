"""ResNet50 (He et al. 2015, arXiv 1512.03385, table 1) in its two published variants.

Weights of one run in the other without an error and give meaningless features:

- ``torchvision`` (and timm): the stride of a stage is in the 3×3 convolution of its first block, no biases.
- ``keras`` (and the original Caffe model): the stride is in the first 1×1 convolution, every convolution has a bias.
"""

import re
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax

from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.layers import BatchNorm, BatchNormContext, Conv, Stage, max_pool

Variant = Literal["torchvision", "keras"]

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks, channels inside a block; the output has four times as many
WIDTHS = {"stem": 64} | {f"stage{number}": 4 * features for number, (_, features) in enumerate(STAGES, start=1)}
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


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, added to the input or, where the number of channels changes, its projection."""

    features: int
    variant: Variant
    stride: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, 4 · features)."""
        conv = partial(Conv, use_bias=self.variant == "keras")
        norm = partial(BatchNorm, MOMENTUM[self.variant], EPS[self.variant])
        shortcut = images
        if images.shape[-1] != 4 * self.features:
            projection = ConvNorm(4 * self.features, 1, self.stride, self.variant, name="shortcut")
            shortcut = projection(images, context)
        stride1, stride2 = (self.stride, 1) if self.variant == "keras" else (1, self.stride)
        inner = nn.relu(norm(name="norm1")(conv(self.features, 1, stride1, name="conv1")(images), context))
        inner = nn.relu(norm(name="norm2")(conv(self.features, 3, stride2, name="conv2")(inner), context))
        inner = norm(name="norm3")(conv(4 * self.features, 1, name="conv3")(inner), context)
        return nn.relu(shortcut + inner)


class ResNet50(StagedNetwork):
    """Stages: ``stem`` (with ReLU and 3×3 max pooling), ``stage1`` … ``stage4`` (torchvision's ``layer1`` …)."""

    widths = WIDTHS
    images_at_once: ClassVar = {"stem": 1, "stage3": 8}
    variant: Variant

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = ConvNorm(64, 7, 2, self.variant, stem=True)
        for number, (blocks, features) in enumerate(STAGES, start=1):
            stride = 1 if number == 1 else 2
            setattr(self, f"stage{number}", Stage(blocks, stride, partial(Bottleneck, features, self.variant)))


LAYER = r"stage(\d)/block(\d)/(?:shortcut/)?(conv|norm)(\d?)"
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

register(
    "resnet50",
    ResNet50("torchvision"),
    Layout("torchvision", "torch", "pytorch", TORCHVISION, r"(layer\d+|conv1|bn1)\..*"),
)
register(
    "resnet50_keras",
    ResNet50("keras"),
    Layout("keras", "caffe", "keras", KERAS, r"conv\d+_.*"),
    Layout("keras_old", "caffe", "keras", OLD_KERAS, r"(res|bn)\d+[a-z]\d*_.*"),
)
