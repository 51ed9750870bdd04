"""Convolutions and networks as XLA's CPU back end computes them fast, in float32.

Winograd's minimal filtering F(4 × 4, 3 × 3) (Lavin & Gray 2015, arXiv 1509.09308) needs a quarter of the products of a
3 × 3 convolution.  On one core it does the work of 170 to 290 GFLOP/s, `lax.conv_general_dilated` of 70 to 100; tiles
of 2 × 2 outputs are slower at all sizes from 7 to 224 pixels.  The largest error is 1e-5 of the largest activation.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TILE, SIDE = 4, 6
"""Outputs and inputs per side of a tile."""

STRIP = 2 * 2**20
"""Bytes of the tiles of a strip of rows that stay in the cache until they are multiplied."""

# Matrices of Lavin & Gray: of the kernel (G), of the inputs (Bᵀ), of the outputs (Aᵀ).
KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
INPUTS = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
OUTPUTS = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def transform_kernel(kernel: jax.Array) -> jax.Array:
    """Maps a kernel (3, 3, C, K) to (36, C, K)."""
    matrix = jnp.asarray(KERNEL, jnp.float32)
    transformed = jnp.einsum("ai,bj,ijck->abck", matrix, matrix, kernel, precision="highest")
    return transformed.reshape(SIDE**2, *kernel.shape[2:])


def winograd(images: jax.Array, transformed: jax.Array) -> jax.Array:
    """Convolves (B, H, W, C) with a transformed kernel (36, C, K), stride 1, padded by 1, to (B, H, W, K).

    The rows are divided into strips whose tiles take at most `STRIP` bytes, or those of the kernel, which every strip
    reads: more memory would not stay in the cache, and above 32 MB the C library maps again at every call.
    """
    count, height, width, channels = images.shape
    down, across = -(-height // TILE), -(-width // TILE)
    below, right = TILE * down - height, TILE * across - width
    padded = jnp.pad(images, ((0, 0), (1, 1 + below), (1, 1 + right), (0, 0)))
    size = 4 * SIDE**2 * count * down * across * max(channels, transformed.shape[2])
    fewest = size / max(STRIP, 4 * transformed.size)
    strips = next(number for number in range(1, down + 1) if down % number == 0 and number >= min(fewest, down))
    rows = TILE * down // strips

    def convolve(first: Any) -> jax.Array:
        return _convolve_tiles(lax.dynamic_slice_in_dim(padded, first, rows + 2, axis=1), transformed)

    if strips == 1:
        outputs = _convolve_tiles(padded, transformed)
    else:
        outputs = jnp.moveaxis(lax.map(convolve, rows * jnp.arange(strips)), 0, 1)
    return outputs.reshape(count, TILE * down, TILE * across, -1)[:, :height, :width]


def _convolve_tiles(images: jax.Array, transformed: jax.Array) -> jax.Array:
    """Convolves (B, H + 2, W + 2, C), padded, to (B, H, W, K); H and W are multiples of 4.

    Without the barriers XLA would fuse the two one-dimensional transforms, and compute the first six times.
    """
    count, height, width, channels = images.shape
    down, across = (height - 2) // TILE, (width - 2) // TILE
    slices = [images[:, row : row + (down - 1) * TILE + 1 : TILE] for row in range(SIDE)]
    rows = lax.optimization_barrier(jnp.stack(_combine(INPUTS, slices)))
    slices = [rows[:, :, :, column : column + (across - 1) * TILE + 1 : TILE] for column in range(SIDE)]
    tiles = lax.optimization_barrier(jnp.stack(_combine(INPUTS, slices), 1)).reshape(SIDE**2, -1, channels)
    products = lax.dot_general(tiles, transformed, (((2,), (1,)), ((0,), (0,))))
    products = lax.optimization_barrier(products.reshape(SIDE, SIDE, count, down, across, -1))
    columns = jnp.stack(_combine(OUTPUTS, [products[:, column] for column in range(SIDE)]), -2)
    columns = lax.optimization_barrier(columns)
    outputs = jnp.stack(_combine(OUTPUTS, [columns[row] for row in range(SIDE)]), 2)
    return outputs.reshape(count, down * TILE, across * TILE, -1)


def _combine(matrix: Sequence[Sequence[int]], arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns one weighted sum of the arrays per row of a matrix."""
    sums = []
    for row in matrix:
        used = [(factor, array) for factor, array in zip(row, arrays, strict=True) if factor]
        terms = [array if factor == 1 else np.float32(factor) * array for factor, array in used]
        sums.append(sum(terms[1:], terms[0]))
    return sums
