"""Attention-56 (Wang et al. 2017, arXiv 1704.06904, table 2) on the residual units of ResNet50: our reading.

Unlike the original, units normalize after their convolutions, and masks are enlarged with half-pixel centers.  It has
31.8 million parameters with a classifier of 1,000 classes; the paper states 31.9.  It is trained from random weights.
"""

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax

from alljax.models.backbones import Layout, StagedNetwork, register
from alljax.models.layers import PYTORCH, BatchNorm, BatchNormContext, Conv, Stage, max_pool
from alljax.models.resnet import FEATURES, Block, stem

HALVINGS = (3, 2, 1)
"""How often the mask of each stage's attention module is made smaller."""


class AttentionStage(nn.Module):
    """Two residual units, (1 + M) · T of two units T and a mask M between 0 and 1, and one more unit."""

    features: int  # inside the units; the output has four times as many channels
    halvings: int
    stride: int  # of the first unit

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, 4 · features)."""

        def unit(name: str, inputs: jax.Array, stride: int = 1) -> jax.Array:
            return Block(PYTORCH, self.features, stride, name=name)(inputs, context)

        images = unit("first2", unit("first1", images, self.stride))
        trunk = unit("trunk2", unit("trunk1", images))

        skipped, mask = [images], images
        for level in range(1, self.halvings + 1):
            mask = unit(f"down{level}", max_pool(mask, 3, 2, 1))
            skipped.append(mask)
        mask = unit("bottom", mask)
        for level in range(self.halvings - 1, -1, -1):
            mask = jax.image.resize(mask, skipped[level].shape, "bilinear")
            if level:
                mask = unit(f"up{level}", mask + unit(f"skip{level}", skipped[level]))
        for number in (1, 2):
            norm = BatchNorm(PYTORCH, name=f"norm{number}")
            mask = Conv(4 * self.features, 1, name=f"conv{number}")(nn.relu(norm(mask, context)))
        return unit("last", (1 + nn.sigmoid(mask)) * trunk)


class ResidualAttention(StagedNetwork):
    """Stages: ``stem``, ``stage1`` … ``stage3`` with an attention module, and ``stage4``, three residual units."""

    widths: ClassVar = {"stem": 64} | {f"stage{number}": 4 * features for number, features in enumerate(FEATURES, 1)}
    images_at_once: ClassVar = {"stem": 1, "stage3": 8}

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.stem = stem(PYTORCH)
        for number, (features, halvings) in enumerate(zip(FEATURES, HALVINGS, strict=False), start=1):
            setattr(self, f"stage{number}", AttentionStage(features, halvings, 1 if number == 1 else 2))
        self.stage4 = Stage(3, 2, partial(Block, PYTORCH, FEATURES[-1]))


register("residual_attention", ResidualAttention(), Layout("alljax", "torch", "flax", {}, "(params|batch_stats)/.*"))
