"""ResNet50 (He et al. 2015, arXiv 1512.03385, table 1) in its two published variants.

They have the same layers but not the same function; weights of one run in the
other without an error and give nonsense:

- ``torchvision`` (and timm): a stage's stride sits on the 3×3 convolution of
  its first block, convolutions have no bias, ε is 1e-5.
- ``keras`` (and the original Caffe model): the stride sits on the first 1×1
  convolution, every convolution has a bias, ε is 1.001e-5.
"""

from collections import OrderedDict
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from alljax.models.layers import Convolution, symmetric_padding
from alljax.models.normalization import Batch, BatchNormalization

Variant = Literal["torchvision", "keras"]

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""(number of blocks, channels inside a block) of each stage; a block gives four times its inner channels."""

EPSILON = {"torchvision": 1e-5, "keras": 1.001e-5}
MOMENTUM = {"torchvision": 0.9, "keras": 0.99}


class NormalizedConvolution(nn.Module):
    """Convolution and batch normalization, as stem and shortcut have them."""

    features: int
    kernel_size: int
    stride: int
    variant: Variant

    @nn.compact
    def __call__(self, images: jax.Array, batch: Batch | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        images = Convolution(
            self.features,
            self.kernel_size,
            self.stride,
            symmetric_padding(self.kernel_size // 2),
            use_bias=self.variant == "keras",
            name="conv",
        )(images)
        return _normalization(self.variant, "norm")(images, batch)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, added to the input or to its projection (`project`)."""

    features: int
    stride: int
    project: bool
    variant: Variant

    @nn.compact
    def __call__(self, images: jax.Array, batch: Batch | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, 4 · features)."""
        keras = self.variant == "keras"
        shortcut = images
        if self.project:
            shortcut = NormalizedConvolution(4 * self.features, 1, self.stride, self.variant, name="shortcut")(
                images, batch
            )
        inner = images
        for number, features, kernel_size, stride in (
            (1, self.features, 1, self.stride if keras else 1),
            (2, self.features, 3, 1 if keras else self.stride),
            (3, 4 * self.features, 1, 1),
        ):
            if number > 1:
                inner = nn.relu(inner)
            padding = symmetric_padding(kernel_size // 2)
            inner = Convolution(features, kernel_size, stride, padding, use_bias=keras, name=f"conv{number}")(inner)
            inner = _normalization(self.variant, f"norm{number}")(inner, batch)
        return nn.relu(shortcut + inner)


class Stage(nn.Module):
    """The bottlenecks of one stage; the first one projects and strides."""

    blocks: int
    features: int
    stride: int
    variant: Variant

    @nn.compact
    def __call__(self, images: jax.Array, batch: Batch | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, 4 · features)."""
        for number in range(1, self.blocks + 1):
            first = number == 1
            images = Bottleneck(self.features, self.stride if first else 1, first, self.variant, name=f"block{number}")(
                images, batch
            )
        return images


class ResNet50(nn.Module):
    """ResNet50: stem, four stages, and the 1000-way ImageNet classifier.

    Stages: ``stem`` (convolution, normalization, ReLU and the 3×3 maximum) and
    ``stage1`` … ``stage4`` (torchvision's ``layer1`` … ``layer4``).

    Attributes:
        variant: ``"torchvision"`` or ``"keras"``, see the module's docstring.
    """

    variant: Variant = "torchvision"

    def setup(self) -> None:  # noqa: D102 - Flax's hook
        self.stem = NormalizedConvolution(64, 7, 2, self.variant)
        for number, (blocks, features) in enumerate(STAGES, start=1):
            stride = 1 if number == 1 else 2
            setattr(self, f"stage{number}", Stage(blocks, features, stride, self.variant))
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
        for name in ("stem", *(f"stage{number}" for number in range(1, len(STAGES) + 1))):
            images = getattr(self, name)(images, batch)
            if name == "stem":
                images = nn.max_pool(nn.relu(images), (3, 3), (2, 2), symmetric_padding(1))
            images = activations[name] = checkpoint_name(images, "stage")
            if name == last:
                break
        return activations

    def logits(self, images: jax.Array) -> jax.Array:
        """Returns the ImageNet logits (B, 1000) of preprocessed images (B, H, W, 3)."""
        return self.classifier(jnp.mean(self(images)["stage4"], axis=(1, 2)))


def _normalization(variant: Variant, name: str) -> BatchNormalization:
    return BatchNormalization(MOMENTUM[variant], EPSILON[variant], name=name)
