"""EfficientNet-Lite0 (https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html).

EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, table 1) without squeeze-and-excitation, with ReLU6 for Swish.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax

from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.fast_depthwise import (
    channels_first,
    channels_last,
    convolve,
    fold,
    inverted_residual,
    pointwise,
    relu6,
)
from alljax.models.layers import BatchNorm, BatchNormContext, Conv, Stage, tensorflow_same_padding

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""(number of blocks, kernel size, stride of the first block, expansion, output channels) of each stage."""

WIDTHS = {"stem": 32} | {f"stage{number}": stage[-1] for number, stage in enumerate(STAGES, start=1)} | {"head": 1280}
EPS = 1e-3  # of batch normalization


class ConvNorm(nn.Module):
    """Convolution with TensorFlow's "SAME" padding, batch normalization, and ReLU6 unless `activation` is False."""

    features: int
    kernel_size: int
    stride: int = 1
    depthwise: bool = False
    activation: bool = True

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        height, width = (tensorflow_same_padding(size, self.kernel_size, self.stride) for size in images.shape[1:3])
        conv = Conv(self.features, self.kernel_size, self.stride, (height, width), self.depthwise, name="conv")
        images = BatchNorm(momentum=0.99, eps=EPS, name="norm")(conv(images), context)
        return nn.relu6(images) if self.activation else images


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, linear 1×1 projection; plus the input where shapes agree."""

    kernel_size: int
    expansion: int
    features: int
    stride: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        inputs = images.shape[-1]
        width = inputs * self.expansion
        inner = ConvNorm(width, 1, name="expand")(images, context) if self.expansion > 1 else images
        depthwise = ConvNorm(width, self.kernel_size, self.stride, depthwise=True, name="depthwise")
        inner = depthwise(inner, context)
        inner = ConvNorm(self.features, 1, activation=False, name="project")(inner, context)
        return images + inner if self.stride == 1 and inputs == self.features else inner


class EfficientNetLite0(StagedNetwork):
    """Stages: ``stem``, ``stage1`` … ``stage7`` (linear output of the last block), ``head`` (1×1, 1280 channels)."""

    widths = WIDTHS
    images_at_once: ClassVar = {"stem": 2, "stage6": 8}

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = ConvNorm(32, 3, 2)
        for number, (blocks, kernel_size, stride, expansion, features) in enumerate(STAGES, start=1):
            block = partial(InvertedResidual, kernel_size, expansion, features)
            setattr(self, f"stage{number}", Stage(blocks, stride, block))
        self.head = ConvNorm(1280, 1)

    def prepare(self, variables: Mapping[str, Any]) -> Any:
        """Returns the weights in the form that `on_cpu` expects."""
        return fold(variables["params"], variables["batch_stats"], EPS)

    def compute(self, prepared: Any, images: jax.Array, first: str, last: str) -> OrderedDict[str, jax.Array]:
        """Returns the activations of the stages from `first` to `last`, for prepared weights."""
        names, activations = list(self.widths), OrderedDict[str, jax.Array]()
        x = images if first == "stem" else channels_first(images)
        for name in names[names.index(first) : names.index(last) + 1]:
            x = _stage(name, prepared[name], x)
            activations[name] = channels_last(x)
        return activations


def _stage(name: str, layers: Any, x: jax.Array) -> jax.Array:
    """Maps (C, S, S, B), in the stem images (B, S, S, 3), to (K, s, s, B)."""
    if name == "stem":
        return convolve(x, layers, 2, tensorflow_same_padding(x.shape[1], 3, 2)[0])
    if name == "head":
        return relu6(pointwise(x.reshape(len(x), -1), layers)).reshape(-1, *x.shape[1:])
    _, kernel_size, stride, *_ = STAGES[int(name[-1]) - 1]
    for block in layers.values():
        x = inverted_residual(x, block, stride, tensorflow_same_padding(x.shape[1], kernel_size, stride)[0])
        stride = 1
    return x


def _block_layer(match: re.Match[str]) -> str:
    """The PyTorch port numbers the 16 blocks through all stages."""
    number = sum(blocks for blocks, *_ in STAGES[: int(match[1]) - 1]) + int(match[2]) - 1
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[match[3]]
    return f"_blocks.{number}.{norm if match[4] == 'norm' else f'_{match[3]}_conv'}"


RULES: Rules = {
    "stem/conv": "_conv_stem",
    "stem/norm": "_bn0",
    r"stage(\d)/block(\d)/(\w+)/(conv|norm)": _block_layer,
    "head/conv": "_conv_head",
    "head/norm": "_bn1",
}
register(
    "efficientnet_lite0",
    EfficientNetLite0(),
    Layout("efficientnet_lite_pytorch", "lite", "pytorch", RULES, r"_(blocks|conv|bn).*"),
)
