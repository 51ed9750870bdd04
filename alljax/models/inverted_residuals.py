"""Networks of inverted residual blocks (Sandler et al. 2018, arXiv 1801.04381): MobileNetV2 and EfficientNet-Lite.

Weights of one variant run in the other without an error and give meaningless features:

- ``tensorflow``: uneven "SAME" padding for a stride of 2, ε = 1e-3 in batch normalization.
- ``pytorch``: half of the kernel on each side, ε = 1e-5.
"""

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax

from alljax.models import fast_depthwise as fast
from alljax.models.backbones import StagedNetwork
from alljax.models.layers import BatchNorm, BatchNormContext, Conv, Stage, tensorflow_same_padding

Variant = Literal["tensorflow", "pytorch"]

EPS = {"tensorflow": 1e-3, "pytorch": 1e-5}
MOMENTUM = {"tensorflow": 0.99, "pytorch": 0.9}


class Blocks(NamedTuple):
    """The blocks of a stage; only the first one has the stride."""

    blocks: int
    kernel_size: int  # of the depthwise convolutions
    stride: int
    expansion: int  # factor on the number of channels inside a block
    features: int  # channels of the output


def padding(variant: Variant, length: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Returns the zeros before and after an axis."""
    half = kernel_size // 2
    return tensorflow_same_padding(length, kernel_size, stride) if variant == "tensorflow" else (half, half)


class ConvNorm(nn.Module):
    """Convolution, batch normalization, and ReLU6 unless `activation` is False."""

    variant: Variant
    features: int
    kernel_size: int
    stride: int = 1
    depthwise: bool = False
    activation: bool = True

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        height, width = (padding(self.variant, size, self.kernel_size, self.stride) for size in images.shape[1:3])
        conv = Conv(self.features, self.kernel_size, self.stride, (height, width), self.depthwise, name="conv")
        images = BatchNorm(MOMENTUM[self.variant], EPS[self.variant], name="norm")(conv(images), context)
        return nn.relu6(images) if self.activation else images


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
        layer, inputs = partial(ConvNorm, self.variant), images.shape[-1]
        width = inputs * self.expansion
        inner = layer(width, 1, name="expand")(images, context) if self.expansion > 1 else images
        inner = layer(width, self.kernel_size, self.stride, depthwise=True, name="depthwise")(inner, context)
        inner = layer(self.features, 1, activation=False, name="project")(inner, context)
        return images + inner if self.stride == 1 and inputs == self.features else inner


class InvertedResidualNetwork(StagedNetwork):
    """Stages: ``stem``, ``stage1`` … ``stage7`` (linear output of the last block), ``head`` (1×1, 1280 channels)."""

    images_at_once: ClassVar = {"stem": 2, "stage6": 8}
    stages: tuple[Blocks, ...]
    variant: Variant

    @property
    def widths(self) -> Mapping[str, int]:  # noqa: D102 - see the base class
        numbered = {f"stage{number}": blocks.features for number, blocks in enumerate(self.stages, start=1)}
        return {"stem": 32} | numbered | {"head": 1280}

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = ConvNorm(self.variant, 32, 3, 2)
        for number, (blocks, kernel_size, stride, expansion, features) in enumerate(self.stages, start=1):
            block = partial(InvertedResidual, self.variant, kernel_size, expansion, features)
            setattr(self, f"stage{number}", Stage(blocks, stride, block))
        self.head = ConvNorm(self.variant, 1280, 1)

    def block_number(self, stage: int, block: int) -> int:
        """Returns the position, from 0, of a block among those of all stages; stages and their blocks count from 1."""
        return sum(blocks.blocks for blocks in self.stages[: stage - 1]) + block - 1

    def prepare(self, variables: Mapping[str, Any]) -> Any:
        """Returns the weights in the form that `on_cpu` expects."""
        return fast.fold(variables["params"], variables["batch_stats"], EPS[self.variant])

    def compute(self, prepared: Any, images: jax.Array, first: str, last: str) -> OrderedDict[str, jax.Array]:
        """Returns the activations of the stages from `first` to `last`, for prepared weights."""
        names, activations = list(self.widths), OrderedDict[str, jax.Array]()
        x = images if first == "stem" else fast.channels_first(images)
        for name in names[names.index(first) : names.index(last) + 1]:
            x = self._stage(name, prepared[name], x)
            activations[name] = fast.channels_last(x)
        return activations

    def _stage(self, name: str, layers: Any, x: jax.Array) -> jax.Array:
        """Maps (C, S, S, B), in the stem images (B, S, S, 3), to (K, s, s, B)."""
        if name == "stem":
            return fast.convolve(x, layers, 2, padding(self.variant, x.shape[1], 3, 2)[0])
        if name == "head":
            return fast.relu6(fast.pointwise(x.reshape(len(x), -1), layers)).reshape(-1, *x.shape[1:])
        _, kernel_size, stride, *_ = self.stages[int(name[-1]) - 1]
        for block in layers.values():
            x = fast.inverted_residual(x, block, stride, padding(self.variant, x.shape[1], kernel_size, stride)[0])
            stride = 1
        return x
