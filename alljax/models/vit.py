"""Vision transformers of DINOv2 (Dosovitskiy et al. 2020, arXiv 2010.11929; Oquab et al. 2023, arXiv 2304.07193).

Position embeddings are stored for a grid of patches and interpolated to that of the images, in two ways that differ:

- ``dinov2`` (torch.hub, DinoBloom): bicubic with a = -0.75, for a grid that is 0.1 patches larger, no antialiasing.
- ``timm`` (`resample_abs_pos_embed`): bicubic with a = -0.5 and antialiasing, as Pillow's.
"""

import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alljax.models.backbones import Layout, Rules, StagedNetwork, register
from alljax.models.layers import BatchNormContext, Conv

PATCH = 14  # height and width in pixels
BLOCKS = 12
STAGES = ("embed", *(f"block{number}" for number in range(1, BLOCKS + 1)), "norm")


class Embedding(nn.Module):
    """Patches as linear functions of their pixels, after a class token, plus position embeddings."""

    width: int

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, 3) to tokens (B, 1 + H/14 · W/14, 1, width)."""
        patches = Conv(self.width, PATCH, PATCH, ((0, 0), (0, 0)), use_bias=True, name="proj")(images)
        patches = patches.reshape(len(images), -1, self.width)
        initialize = nn.initializers.truncated_normal(0.02)
        positions = self.param("pos_embed", initialize, (1, 1 + patches.shape[1], self.width), jnp.float32)
        token = self.param("cls_token", initialize, (1, 1, self.width), jnp.float32).astype(images.dtype)
        tokens = jnp.concatenate([jnp.broadcast_to(token, (len(images), 1, self.width)), patches], axis=1)
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


class Attention(nn.Module):
    """Self-attention with several heads; the softmax is computed in float32."""

    heads: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps (B, T, width) to the same shape."""
        *rows, width = tokens.shape
        both = nn.Dense(3 * width, dtype=tokens.dtype, name="qkv")(tokens).reshape(*rows, 3, self.heads, -1)
        query, key, value = (both[:, :, number] for number in range(3))
        scores = jnp.einsum("bthd,bshd->bhts", query * query.shape[-1] ** -0.5, key)
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(tokens.dtype)
        mixed = jnp.einsum("bhts,bshd->bthd", weights, value)
        return nn.Dense(width, dtype=tokens.dtype, name="proj")(mixed.reshape(*rows, width))


class Perceptron(nn.Module):
    """Dense → GELU (exact) → Dense, four times as wide inside."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps (…, width) to the same shape."""
        width = tokens.shape[-1]
        inner = nn.gelu(nn.Dense(4 * width, dtype=tokens.dtype, name="fc1")(tokens), approximate=False)
        return nn.Dense(width, dtype=tokens.dtype, name="fc2")(inner)


class TransformerBlock(nn.Module):
    """Attention and perceptron, each of normalized tokens, scaled and added to its input."""

    heads: int

    @nn.compact
    def __call__(self, tokens: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, T, 1, width) to the same shape."""
        x = tokens[:, :, 0]
        x += LayerScale(name="ls1")(Attention(self.heads, name="attn")(Norm(name="norm1")(x)))
        x += LayerScale(name="ls2")(Perceptron(name="mlp")(Norm(name="norm2")(x)))
        return x[:, :, None]


class VisionTransformer(StagedNetwork):
    """Stages: ``embed``, ``block1`` … ``block12``, ``norm``; an activation has the class token before the patches."""

    poolings = ("cls", "cls_mean", "flatten")
    multiple = PATCH
    resized = "params/embed/pos_embed"

    def setup(self) -> None:  # noqa: D102 - Flax calls it
        width = self.widths["embed"]
        self.embed = Embedding(width)
        for number in range(1, BLOCKS + 1):
            setattr(self, f"block{number}", TransformerBlock(width // 64))
        self.norm = Norm()

    def prepare(self, variables: Any) -> Any:
        """Returns the variables: there is nothing to transform."""
        return variables

    def resize(self, variables: Any, image_size: int, layout: str) -> Any:
        """Returns the variables with position embeddings for images of this size, see above."""
        params = variables["params"]
        positions = resize_positions(params["embed"]["pos_embed"], image_size // PATCH, layout)
        return {**variables, "params": {**params, "embed": {**params["embed"], "pos_embed": positions}}}


class SmallVisionTransformer(VisionTransformer):
    """ViT-S/14: 384 channels, 6 heads."""

    widths = dict.fromkeys(STAGES, 384)


class BaseVisionTransformer(VisionTransformer):
    """ViT-B/14: 768 channels, 12 heads."""

    widths = dict.fromkeys(STAGES, 768)


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
    return _cubic(points + 0.5 - at * stored / (grid + 0.1), -0.75) @ (
        points.clip(0, stored - 1)[:, None] == np.arange(stored)
    )


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution (Keys 1981, IEEE Trans. ASSP 29:1153-1160)."""
    x = np.abs(distance)
    inner, outer = ((a + 2) * x - (a + 3)) * x**2 + 1, a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))


def _block_layer(match: re.Match[str]) -> str:
    return f"blocks.{int(match[1]) - 1}.{match[2].replace('/', '.')}"


RULES: Rules = {"embed": "", "embed/proj": "patch_embed.proj", r"block(\d+)/(.*)": _block_layer, "norm": "norm"}
NAMES = r"(cls_token|pos_embed|register_tokens|reg_token|(patch_embed|blocks|norm)\..*)"


register(
    "dinov2_vits14",
    SmallVisionTransformer(),
    Layout("timm", "torch", "pytorch", RULES, NAMES),
    Layout("dinov2", "torch", "pytorch", RULES, NAMES, mark="mask_token"),
)
register(
    "dinov2_vitb14",
    BaseVisionTransformer(),
    Layout("timm", "torch", "pytorch", RULES, NAMES),
    Layout("dinov2", "torch", "pytorch", RULES, NAMES, mark="mask_token"),
)
