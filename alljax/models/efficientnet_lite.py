"""EfficientNet-Lite0 (https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html).

EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, table 1) without
squeeze-and-excitation, with ReLU6 for Swish, and with stem and head not scaled.
"""

from collections import OrderedDict
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from alljax.models.layers import Convolution, tensorflow_same_padding
from alljax.models.normalization import Batch, BatchNormalization

EPSILON = 1e-3
MOMENTUM = 0.99


class StageShape(NamedTuple):
    """What distinguishes the seven stages of inverted residual blocks."""

    blocks: int
    kernel_size: int
    stride: int  # of the stage's first block; the others have 1
    expansion: int
    features: int


STAGES = (
    StageShape(blocks=1, kernel_size=3, stride=1, expansion=1, features=16),
    StageShape(blocks=2, kernel_size=3, stride=2, expansion=6, features=24),
    StageShape(blocks=2, kernel_size=5, stride=2, expansion=6, features=40),
    StageShape(blocks=3, kernel_size=3, stride=2, expansion=6, features=80),
    StageShape(blocks=3, kernel_size=5, stride=1, expansion=6, features=112),
    StageShape(blocks=4, kernel_size=5, stride=2, expansion=6, features=192),
    StageShape(blocks=1, kernel_size=3, stride=1, expansion=6, features=320),
)
STEM_FEATURES = 32
HEAD_FEATURES = 1280


class NormalizedConvolution(nn.Module):
    """Convolution with TensorFlow's "SAME" padding, then batch normalization, then ReLU6 where wanted."""

    features: int
    kernel_size: int
    stride: int = 1
    depthwise: bool = False
    activation: bool = True

    @nn.compact
    def __call__(self, images: jax.Array, batch: Batch | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        size = (images.shape[1], images.shape[2])
        images = Convolution(
            self.features,
            self.kernel_size,
            self.stride,
            tensorflow_same_padding(size, self.kernel_size, self.stride),
            kind="depthwise" if self.depthwise else "full",
            name="conv",
        )(images)
        images = BatchNormalization(MOMENTUM, EPSILON, name="norm")(images, batch)
        return nn.relu6(images) if self.activation else images


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, linear 1×1 projection; plus the input where shapes agree."""

    features: int
    kernel_size: int
    stride: int
    expansion: int

    @nn.compact
    def __call__(self, images: jax.Array, batch: Batch | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        inputs = images.shape[-1]
        width = inputs * self.expansion
        inner = images
        if self.expansion > 1:
            inner = NormalizedConvolution(width, 1, name="expand")(inner, batch)
        inner = NormalizedConvolution(width, self.kernel_size, self.stride, depthwise=True, name="depthwise")(
            inner, batch
        )
        inner = NormalizedConvolution(self.features, 1, activation=False, name="project")(inner, batch)
        return images + inner if self.stride == 1 and inputs == self.features else inner


class Stage(nn.Module):
    """The blocks of one stage; the first one strides."""

    shape: StageShape

    @nn.compact
    def __call__(self, images: jax.Array, batch: Batch | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        for number in range(1, self.shape.blocks + 1):
            images = InvertedResidual(
                self.shape.features,
                self.shape.kernel_size,
                self.shape.stride if number == 1 else 1,
                self.shape.expansion,
                name=f"block{number}",
            )(images, batch)
        return images


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: stem, seven stages, head, and the 1000-way ImageNet classifier.

    Stages: ``stem`` (convolution, normalization, ReLU6), ``stage1`` … ``stage7``
    (the linear output of each stage's last block), ``head`` (the 1×1
    convolution to 1280 channels, normalized and rectified).
    """

    def setup(self) -> None:  # noqa: D102 - Flax's hook
        self.stem = NormalizedConvolution(STEM_FEATURES, 3, 2)
        for number, shape in enumerate(STAGES, start=1):
            setattr(self, f"stage{number}", Stage(shape))
        self.head = NormalizedConvolution(HEAD_FEATURES, 1)
        self.classifier = nn.Dense(1000)

    def __call__(
        self, images: jax.Array, last: str | None = None, batch: Batch | None = None
    ) -> OrderedDict[str, jax.Array]:
        """Returns the activations of all stages, in order.

        Args:
            images: float32 or bfloat16 (B, H, W, 3), preprocessed as the weights ask.
            last: the stage to stop at; the ones after it are not computed.
            batch: which layers normalize by these images, and move their stored statistics
                (``mutable=["batch_stats"]``); without it all run on the stored ones.

        Returns:
            Stage name → activation (B, h, w, channels).
        """
        activations: OrderedDict[str, jax.Array] = OrderedDict()
        for name in ("stem", *(f"stage{number}" for number in range(1, len(STAGES) + 1)), "head"):
            images = activations[name] = checkpoint_name(getattr(self, name)(images, batch), "stage")
            if name == last:
                break
        return activations

    def logits(self, images: jax.Array) -> jax.Array:
        """Returns the ImageNet logits (B, 1000) of preprocessed images (B, H, W, 3)."""
        return self.classifier(jnp.mean(self(images)["head"], axis=(1, 2)))
