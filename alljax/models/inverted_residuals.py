"""Networks of inverted residual blocks (Sandler et al. 2018, arXiv 1801.04381): MobileNetV2 and EfficientNet-Lite0.

EfficientNet-Lite0 (https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html) is
EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946) without squeeze-and-excitation, with ReLU6 for Swish.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax

from alljax.models import fast_depthwise as fast
from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.layers import PYTORCH, TENSORFLOW, BatchNormContext, ConvNorm, Stage, Variant

Blocks = tuple[int, int, int, int, int]
"""Of a stage: number of blocks, kernel size of the depthwise convolutions, stride of the first block, factor on the
number of channels inside a block, and channels of the output."""


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, linear 1×1 projection; plus the input where shapes agree."""

    variant: Variant
    kernel_size: int
    expansion: int
    features: int
    stride: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        layer, inputs, inner = partial(ConvNorm, self.variant), images.shape[-1], images
        width = inputs * self.expansion
        if self.expansion > 1:
            inner = layer(width, 1, 1, nn.relu6, name="expand")(inner, context)
        inner = layer(width, self.kernel_size, self.stride, nn.relu6, depthwise=True, name="depthwise")(inner, context)
        inner = layer(self.features, 1, name="project")(inner, context)
        return images + inner if self.stride == 1 and inputs == self.features else inner


class InvertedResidualNetwork(StagedNetwork):
    """Stages: ``stem``, ``stage1`` … ``stage7`` (linear output of the last block), ``head`` (1×1, 1280 channels)."""

    images_at_once: ClassVar = {"stem": 2, "stage6": 8}
    variant: Variant
    stages: tuple[Blocks, ...]  # table 2 of the paper on MobileNetV2, table 1 of that on EfficientNet

    @property
    def widths(self) -> Mapping[str, int]:  # noqa: D102 - see the base class
        numbered = {f"stage{number}": features for number, (*_, features) in enumerate(self.stages, start=1)}
        return {"stem": 32} | numbered | {"head": 1280}

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = ConvNorm(self.variant, 32, 3, 2, nn.relu6)
        for number, (blocks, kernel_size, stride, expansion, features) in enumerate(self.stages, start=1):
            block = partial(InvertedResidual, self.variant, kernel_size, expansion, features)
            setattr(self, f"stage{number}", Stage(blocks, stride, block))
        self.head = ConvNorm(self.variant, 1280, 1, 1, nn.relu6)

    def prepare(self, variables: Mapping[str, Any]) -> Any:
        """Returns the weights in the form that `on_cpu` expects."""
        return fast.fold(variables["params"], variables["batch_stats"], self.variant.eps)

    def compute(self, prepared: Any, images: jax.Array, first: str, last: str) -> OrderedDict[str, jax.Array]:
        """Returns the activations of the stages from `first` to `last`, for prepared weights."""
        names, activations = list(self.widths), OrderedDict[str, jax.Array]()
        x = images if first == "stem" else fast.channels_first(images)
        for name in names[names.index(first) : names.index(last) + 1]:
            x = self._stage(name, prepared[name], x)
            activations[name] = x.transpose(3, 1, 2, 0)
        return activations

    def _stage(self, name: str, layers: Any, x: jax.Array) -> jax.Array:
        """Maps (C, S, S, B), in the stem images (B, S, S, 3), to (K, s, s, B)."""
        if name == "stem":
            return fast.convolve(x, layers, 2, self.variant.padding(x.shape[1], 3, 2)[0])
        if name == "head":
            return fast.relu6(fast.pointwise(x.reshape(len(x), -1), layers)).reshape(-1, *x.shape[1:])
        _, kernel_size, stride, *_ = self.stages[int(name[-1]) - 1]
        for block in layers.values():
            x = fast.inverted_residual(x, block, stride, self.variant.padding(x.shape[1], kernel_size, stride)[0])
            stride = 1
        return x


MOBILENET_V2 = InvertedResidualNetwork(
    PYTORCH,
    (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (3, 3, 2, 6, 32),
        (4, 3, 2, 6, 64),
        (3, 3, 1, 6, 96),
        (3, 3, 2, 6, 160),
        (1, 3, 1, 6, 320),
    ),
)
LITE0 = InvertedResidualNetwork(
    TENSORFLOW,
    (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ),
)
LAYER = r"stage(\d)/block(\d)/(\w+)/(conv|norm)"
LAYERS = "expand", "depthwise", "project"


def _position(network: InvertedResidualNetwork, match: re.Match[str]) -> tuple[int, int]:
    """Returns the number, from 0, of a block among those of all stages, and of a layer; the first has no expansion."""
    block = sum(blocks for blocks, *_ in network.stages[: int(match[1]) - 1]) + int(match[2]) - 1
    return block, LAYERS.index(match[3]) - (block == 0)


def _torchvision_name(match: re.Match[str]) -> str:
    (block, layer), norm = _position(MOBILENET_V2, match), match[4] == "norm"
    name = layer + norm if match[3] == "project" else f"{layer}.{int(norm)}"
    return f"features.{block + 1}.conv.{name}"


def _timm_name(match: re.Match[str]) -> str:
    block, layer = _position(MOBILENET_V2, match)
    convolutions = ("conv_pw", "conv_dw", "conv_pwl") if block else ("conv_dw", "conv_pw")
    name = convolutions[layer] if match[4] == "conv" else f"bn{layer + 1}"
    return f"blocks.{int(match[1]) - 1}.{int(match[2]) - 1}.{name}"


def _lite_name(match: re.Match[str]) -> str:
    block, _ = _position(LITE0, match)
    name = f"_{match[3]}_conv" if match[4] == "conv" else f"_bn{LAYERS.index(match[3])}"
    return f"_blocks.{block}.{name}"


def _rules(stem: tuple[str, str], layer: Callable[[re.Match[str]], str], head: tuple[str, str]) -> Rules:
    """Returns the rules for the names of convolution and normalization in stem and head, and of layers in blocks."""
    ours = "stem/conv", "stem/norm", LAYER, "head/conv", "head/norm"
    return dict(zip(ours, (*stem, layer, *head), strict=True))


TORCHVISION = _rules(("features.0.0", "features.0.1"), _torchvision_name, ("features.18.0", "features.18.1"))
TIMM = _rules(("conv_stem", "bn1"), _timm_name, ("conv_head", "bn2"))
LITE = _rules(("_conv_stem", "_bn0"), _lite_name, ("_conv_head", "_bn1"))

register(
    "mobilenet_v2",
    MOBILENET_V2,
    Layout("torchvision", "torch", "pytorch", TORCHVISION, r"features\..*"),
    Layout("timm", "torch", "pytorch", TIMM, r"(blocks|conv_stem|bn1|conv_head|bn2)\..*"),
)
register(
    "efficientnet_lite0", LITE0, Layout("efficientnet_lite_pytorch", "lite", "pytorch", LITE, r"_(blocks|conv|bn).*")
)
