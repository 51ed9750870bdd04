"""EfficientNet-Lite0 (https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html).

EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, table 1) without squeeze-and-excitation, with ReLU6 instead of
Swish, and with unscaled stem and head.
"""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from alljax.models.backbones import StagedNetwork, register
from alljax.models.layers import BatchNorm, BatchNormContext, Conv, tensorflow_same_padding
from alljax.models.layouts import Layout, Rules

EPS = 1e-3
MOMENTUM = 0.99
STEM_FEATURES = 32
HEAD_FEATURES = 1280

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

WIDTHS = {
    "stem": STEM_FEATURES,
    **{f"stage{number}": features for number, (*_, features) in enumerate(STAGES, start=1)},
    "head": HEAD_FEATURES,
}


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
        padding = tensorflow_same_padding((images.shape[1], images.shape[2]), self.kernel_size, self.stride)
        conv = Conv(self.features, self.kernel_size, self.stride, padding, self.depthwise, name="conv")
        images = BatchNorm(MOMENTUM, EPS, name="norm")(conv(images), context)
        return nn.relu6(images) if self.activation else images


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, linear 1×1 projection; plus the input where shapes agree."""

    kernel_size: int
    stride: int
    expansion: int
    features: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        inputs = images.shape[-1]
        width = inputs * self.expansion
        inner = images
        if self.expansion > 1:
            inner = ConvNorm(width, 1, name="expand")(inner, context)
        depthwise = ConvNorm(width, self.kernel_size, self.stride, depthwise=True, name="depthwise")
        inner = depthwise(inner, context)
        inner = ConvNorm(self.features, 1, activation=False, name="project")(inner, context)
        return images + inner if self.stride == 1 and inputs == self.features else inner


class Stage(nn.Module):
    """The blocks of one stage, see `STAGES`; only the first block has the stride."""

    blocks: int
    kernel_size: int
    stride: int
    expansion: int
    features: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        for number in range(1, self.blocks + 1):
            stride = self.stride if number == 1 else 1
            block = InvertedResidual(self.kernel_size, stride, self.expansion, self.features, name=f"block{number}")
            images = block(images, context)
        return images


class EfficientNetLite0(StagedNetwork):
    """EfficientNet-Lite0: stem, seven stages, head and the ImageNet classifier.

    Stages: ``stem`` (convolution, normalization, ReLU6), ``stage1`` … ``stage7`` (the linear output of the last
    block), ``head`` (the 1×1 convolution to 1280 channels with normalization and ReLU6).
    """

    widths = WIDTHS

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = ConvNorm(STEM_FEATURES, 3, 2)
        for number, shape in enumerate(STAGES, start=1):
            setattr(self, f"stage{number}", Stage(*shape))
        self.head = ConvNorm(HEAD_FEATURES, 1)
        self.classifier = nn.Dense(1000)

    def logits(self, images: jax.Array) -> jax.Array:
        """Returns the ImageNet logits (B, 1000) of preprocessed images (B, H, W, 3)."""
        return self.classifier(jnp.mean(self(images)["head"], axis=(1, 2)))


BLOCKS = [(stage, block) for stage, (blocks, *_) in enumerate(STAGES, 1) for block in range(1, blocks + 1)]
LAYERS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


def _block_layer(match: re.Match[str]) -> str:
    """The PyTorch port numbers the 16 blocks through all stages."""
    number = BLOCKS.index((int(match[1]), int(match[2])))
    return f"_blocks.{number}.{LAYERS[match[3]][match[4] == 'norm']}"


RULES: Rules = {
    "stem/conv": "_conv_stem",
    "stem/norm": "_bn0",
    r"stage(\d)/block(\d)/(\w+)/(conv|norm)": _block_layer,
    "head/conv": "_conv_head",
    "head/norm": "_bn1",
    "classifier": "_fc",
}
NETWORK = r"_(blocks|conv|bn).*"
register(
    "efficientnet_lite0",
    EfficientNetLite0(),
    Layout("efficientnet_lite_pytorch", "EfficientNet-Lite0 for PyTorch", "lite", "pytorch", RULES, NETWORK),
)
