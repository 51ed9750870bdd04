"""The network of HistoTNet (Genovese et al. 2021, doi 10.1109/CIVEMSA52099.2021.9493677), 3.0 million parameters.

The weight files of the authors are pickled modules, which cannot be read without running their code: it is trained from
random weights.
"""

from typing import ClassVar

import flax.linen as nn
import jax

from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.layers import PYTORCH, BatchNorm, BatchNormContext, Conv, max_pool

BLOCKS = ((7, 32, 2, 2), (5, 32, 2, 2), (5, 128, 2, 2), (5, 256, 2, 2), (7, 128, 2, 2), (3, 256, 7, 4))
"""Kernel size, channels, pooling size and stride of each block."""
HIDDEN = 512


def padding(images: jax.Array, window: int) -> int:
    """Returns 1, the network's own padding, or more where a window would not fit (images below 194 pixels)."""
    return max(1, -((min(images.shape[1:3]) - window) // 2))


class Block(nn.Module):
    """Convolution, ReLU, batch normalization in this order, and, if it has a size, max pooling."""

    kernel_size: int
    features: int
    pool_size: int
    pool_stride: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, h, w, features)."""
        around = (padding(images, self.kernel_size),) * 2
        conv = Conv(self.features, self.kernel_size, padding=(around, around), use_bias=True, name="conv")
        images = BatchNorm(PYTORCH, name="norm")(nn.relu(conv(images)), context)
        return max_pool(images, self.pool_size, self.pool_stride, padding(images, self.pool_size))


class Hidden(nn.Module):
    """Dense, ReLU, batch normalization of each pixel: the one pixel that images of 224 pixels have here."""

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, h, w, C) to (B, h, w, 512)."""
        dense = nn.Dense(HIDDEN, dtype=images.dtype, name="dense")
        return BatchNorm(PYTORCH, name="norm")(nn.relu(dense(images)), context)


class HistoNet(StagedNetwork):
    """Stages: ``block1`` … ``block6``, each after its pooling, ``hidden``: a linear classifier on it is the original.

    Unlike the original, kernels are initialized as in the other networks here (He normal).
    """

    widths: ClassVar = {f"block{n}": features for n, (_, features, *_) in enumerate(BLOCKS, 1)} | {"hidden": HIDDEN}

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        for number, block in enumerate(BLOCKS, start=1):
            setattr(self, f"block{number}", Block(*block))
        self.hidden = Hidden()


# In the Sequential are the convolution, ReLU, normalization and pooling of each block.
TORCH: Rules = {
    **{f"block{number}/conv": f"features.{4 * number - 4}" for number in range(1, 7)},
    **{f"block{number}/norm": f"features.{4 * number - 2}" for number in range(1, 7)},
    "hidden/dense": "classifierG.0",
    "hidden/norm": "classifierG.2",
}

# The authors scale pixels to 0 … 1 and do not standardize them.
register("histonet", HistoNet(), Layout("torch", "rescale", "pytorch", TORCH, r"features\..*"))
