"""Vision transformers of DINOv2 (Dosovitskiy et al. 2020, arXiv 2010.11929; Oquab et al. 2023, arXiv 2304.07193).

Position embeddings are stored for a grid of patches and interpolated to that of the images, in two ways that differ:

- ``dinov2`` (torch.hub, DinoBloom): bicubic with a = -0.75, for a grid that is 0.1 patches larger, no antialiasing.
- ``timm`` (`resample_abs_pos_embed`): bicubic with a = -0.5 and antialiasing, as Pillow's.
"""

import math
import re
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.layers import BatchNormContext, Conv

PATCH = 14  # height and width in pixels
STAGES = ("embed", *(f"block{number}" for number in range(1, 13)), "norm")


class Embedding(nn.Module):
    """Patches as linear functions of their pixels, after a class token, plus position embeddings."""

    width: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, 3) to tokens (B, 1 + H/14 · W/14, 1, width)."""
        patches = Conv(self.width, PATCH, PATCH, ((0, 0), (0, 0)), use_bias=True, name="proj")(images)
        patches = patches.reshape(images.shape[0], -1, self.width)
        initialize = nn.initializers.truncated_normal(0.02)
        positions = self.param("pos_embed", initialize, (1, 1 + patches.shape[1], self.width), jnp.float32)
        token = self.param("cls_token", initialize, (1, 1, self.width), jnp.float32).astype(images.dtype)
        tokens = jnp.concatenate([jnp.broadcast_to(token, (images.shape[0], 1, self.width)), patches], axis=1)
        return (tokens + positions.astype(images.dtype))[:, :, None]


class Norm(nn.Module):
    """Layer normalization, computed in float32; a stage of its own after the last block."""

    @nn.compact
    def __call__(self, tokens: jax.Array, context: BatchNormContext | None = None) -> jax.Array:
        """Normalizes each token, (…, width)."""
        norm = nn.LayerNorm(1e-6, use_fast_variance=False)
        nn.share_scope(self, norm)
        return norm(tokens.astype(jnp.float32)).astype(tokens.dtype)


class LayerScale(nn.Module):
    """A trained factor per channel (Touvron et al. 2021, arXiv 2103.17239)."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps (…, width) to the same shape."""
        gamma = self.param("gamma", nn.initializers.constant(1e-5), tokens.shape[-1:], jnp.float32)
        return tokens * gamma.reshape((1,) * (tokens.ndim - 1) + (-1,)).astype(tokens.dtype)


class TransformerBlock(nn.Module):
    """Self-attention and a perceptron with exact GELU, each of normalized tokens, scaled and added to its input."""

    @nn.compact
    def __call__(self, tokens: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, T, 1, width) to the same shape; a head has 64 channels, and the softmax is computed in float32."""
        x = tokens[:, :, 0]
        (*rows, width), dense = x.shape, partial(nn.Dense, dtype=x.dtype)
        joint = dense(3 * width, name="qkv")(Norm(name="norm1")(x)).reshape(*rows, 3, -1, 64)
        with jax.numpy_dtype_promotion("standard"):  # the function promotes types itself
            mixed = jax.nn.dot_product_attention(*jnp.moveaxis(joint, 2, 0)).reshape(x.shape)
        x += LayerScale(name="ls1")(dense(width, name="proj")(mixed))
        inner = nn.gelu(dense(4 * width, name="fc1")(Norm(name="norm2")(x)), approximate=False)
        x += LayerScale(name="ls2")(dense(width, name="fc2")(inner))
        return x[:, :, None]


class VisionTransformer(StagedNetwork):
    """Stages: ``embed``, ``block1`` … ``block12``, ``norm``; an activation has the class token before the patches."""

    poolings = ("cls", "cls_mean", "flatten")
    multiple = PATCH
    resized = "params/embed/pos_embed"
    width: int

    @property
    def widths(self) -> dict[str, int]:  # noqa: D102 - see the base class
        return dict.fromkeys(STAGES, self.width)

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        self.embed = Embedding(self.width)
        for name in STAGES[1:-1]:
            setattr(self, name, TransformerBlock())
        self.norm = Norm()

    def prepare(self, variables: Any) -> Any:  # noqa: D102 - there is nothing to transform
        return variables

    def resize(self, variables: Any, image_size: int, layout: str) -> Any:
        """Returns the variables with position embeddings for images of this size, see above."""
        params = variables["params"]
        positions = resize_positions(params["embed"]["pos_embed"], image_size // PATCH, layout)
        return {**variables, "params": {**params, "embed": {**params["embed"], "pos_embed": positions}}}


def resize_positions(positions: np.ndarray, grid: int, method: str) -> np.ndarray:
    """Interpolates (1, 1 + n², D) to (1, 1 + grid², D), float32; the class token's embedding is not changed."""
    stored = math.isqrt(positions.shape[1] - 1)
    if stored == grid:
        return positions
    matrix, of_patches = _interpolation(stored, grid, method), positions[0, 1:].reshape(stored, stored, -1)
    resized = np.einsum("ij,kl,jld->ikd", matrix, matrix, of_patches, optimize=True).astype(np.float32)
    return np.concatenate([positions[:, :1], resized.reshape(1, grid**2, -1)], axis=1)


def _interpolation(stored: int, grid: int, method: str) -> np.ndarray:
    """Returns the weights (grid, stored) of stored points, along one axis."""
    at = np.arange(grid)[:, None] + 0.5
    if method == "timm":
        scale = stored / grid
        weights = _cubic((np.arange(stored) + 0.5 - at * scale) / max(scale, 1), -0.5)
        return weights / weights.sum(1, keepdims=True)
    points = np.arange(-2, stored + 2)  # those outside have the values of the border
    weights = _cubic(points + 0.5 - at * stored / (grid + 0.1), -0.75)
    return weights @ (points.clip(0, stored - 1)[:, None] == np.arange(stored))


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution (Keys 1981, IEEE Trans. ASSP 29:1153-1160)."""
    x = np.abs(distance)
    inner, outer = ((a + 2) * x - (a + 3)) * x**2 + 1, a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))


def _block_layer(match: re.Match[str]) -> str:
    group = {"qkv": "attn.", "proj": "attn.", "fc1": "mlp.", "fc2": "mlp."}.get(match[2], "")
    return f"blocks.{int(match[1]) - 1}.{group}{match[2]}"


RULES: Rules = {"embed": "", "embed/proj": "patch_embed.proj", r"block(\d+)/(.*)": _block_layer, "norm": "norm"}
NAMES = r"(cls_token|pos_embed|register_tokens|reg_token|(patch_embed|blocks|norm)\..*)"
LAYOUTS = (
    Layout("timm", "torch", "pytorch", RULES, NAMES),
    Layout("dinov2", "torch", "pytorch", RULES, NAMES, mark="mask_token"),
)
register("dinov2_vits14", VisionTransformer(384), *LAYOUTS)
register("dinov2_vitb14", VisionTransformer(768), *LAYOUTS)
