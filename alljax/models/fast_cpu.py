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


def pays(images: Sequence[int], features: int) -> bool:
    """Returns whether Winograd's convolution is the faster one also where it transforms the kernel at each call."""
    # With eight images and gradients: slower for 14 × 14 × 512, equal for 14 × 14 × 256, faster for 28 × 28 × 512.
    count, height, width, channels = images
    return 2 * count * -(-height // TILE) * -(-width // TILE) > max(channels, features)


@jax.custom_vjp
def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves (B, H, W, C) with (3, 3, C, K), stride 1, padded by 1, to (B, H, W, K); with its gradients."""
    return winograd(images, transform_kernel(kernel))


def _convolve_backward(inputs: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of images and kernel: that of a kernel at 110 to 200 GFLOP/s, XLA's at 10 to 50."""
    images, kernel = inputs
    of_images = winograd(gradient, transform_kernel(kernel[::-1, ::-1].swapaxes(2, 3)))
    strips, rows, padding = _strips(images.shape, gradient.shape[3])
    padded = jnp.pad(images, ((0, 0), *((1, 1 + after) for after in padding), (0, 0)))
    gradient = jnp.pad(gradient, ((0, 0), *((0, after) for after in padding), (0, 0)))
    transposed = tuple(zip(*OUTPUTS, strict=True))

    def add(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        of_inputs = _transform(INPUTS, lax.dynamic_slice_in_dim(padded, first, rows + 2, axis=1))
        of_outputs = _transform(transposed, lax.dynamic_slice_in_dim(gradient, first, rows, axis=1))
        return total + lax.dot_general(of_inputs, of_outputs, (((1,), (1,)), ((0,), (0,)))), None

    zeros = jnp.zeros((SIDE**2, images.shape[3], gradient.shape[3]), jnp.float32)
    total, _ = lax.scan(add, zeros, rows * jnp.arange(strips))
    matrix, total = jnp.asarray(KERNEL, jnp.float32), total.reshape(SIDE, SIDE, *kernel.shape[2:])
    return of_images, jnp.einsum("ai,bj,abck->ijck", matrix, matrix, total, precision="highest")


convolve.defvjp(lambda images, kernel: (convolve(images, kernel), (images, kernel)), _convolve_backward)


def winograd(images: jax.Array, transformed: jax.Array) -> jax.Array:
    """Convolves (B, H, W, C) with a transformed kernel (36, C, K), stride 1, padded by 1, to (B, H, W, K)."""
    count, height, width, _ = images.shape
    strips, rows, padding = _strips(images.shape, transformed.shape[2])
    padded = jnp.pad(images, ((0, 0), *((1, 1 + after) for after in padding), (0, 0)))

    def convolve_strip(first: Any) -> jax.Array:
        return _convolve_tiles(lax.dynamic_slice_in_dim(padded, first, rows + 2, axis=1), transformed)

    if strips == 1:
        outputs = _convolve_tiles(padded, transformed)
    else:
        outputs = jnp.moveaxis(lax.map(convolve_strip, rows * jnp.arange(strips)), 0, 1)
    return outputs.reshape(count, height + padding[0], width + padding[1], -1)[:, :height, :width]


def _strips(images: Sequence[int], features: int) -> tuple[int, int, tuple[int, int]]:
    """Returns how many strips images (B, H, W, C) have, the rows of each, and the zeros below and right of the images.

    The tiles of a strip take at most `STRIP` bytes, or those of the kernel, which every strip reads: more memory would
    not stay in the cache, and above 32 MB the C library maps new pages at every call.
    """
    count, height, width, channels = images
    down, across = -(-height // TILE), -(-width // TILE)
    size = 4 * SIDE**2 * count * down * across * max(channels, features)
    fewest = size / max(STRIP, 4 * SIDE**2 * channels * features)
    strips = next(number for number in range(1, down + 1) if down % number == 0 and number >= min(fewest, down))
    return strips, TILE * down // strips, (TILE * down - height, TILE * across - width)


def _convolve_tiles(images: jax.Array, transformed: jax.Array) -> jax.Array:
    """Convolves (B, H + 2, W + 2, C), padded, to (B, H, W, K); H and W are multiples of 4."""
    count, height, width, _ = images.shape
    down, across = (height - 2) // TILE, (width - 2) // TILE
    products = lax.dot_general(_transform(INPUTS, images), transformed, (((2,), (1,)), ((0,), (0,))))
    products = lax.optimization_barrier(products.reshape(SIDE, SIDE, count, down, across, -1))
    columns = jnp.stack(_combine(OUTPUTS, [products[:, column] for column in range(SIDE)]), -2)
    columns = lax.optimization_barrier(columns)
    outputs = jnp.stack(_combine(OUTPUTS, [columns[row] for row in range(SIDE)]), 2)
    return outputs.reshape(count, down * TILE, across * TILE, -1)


def _transform(matrix: Sequence[Sequence[int]], images: jax.Array) -> jax.Array:
    """Applies a matrix to rows and columns of each tile of (B, H, W, C), every 4 pixels; returns (36, tiles, C)."""
    # Without the barriers XLA would fuse the two one-dimensional transforms, and compute the first six times.
    taps, (_, height, width, channels) = len(matrix[0]), images.shape
    slices = [images[:, row : height - taps + row + 1 : TILE] for row in range(taps)]
    rows = lax.optimization_barrier(jnp.stack(_combine(matrix, slices)))
    slices = [rows[:, :, :, column : width - taps + column + 1 : TILE] for column in range(taps)]
    return lax.optimization_barrier(jnp.stack(_combine(matrix, slices), 1)).reshape(SIDE**2, -1, channels)


def _combine(matrix: Sequence[Sequence[int]], arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns one weighted sum of the arrays per row of a matrix."""
    sums = []
    for row in matrix:
        used = [(factor, array) for factor, array in zip(row, arrays, strict=True) if factor]
        terms = [array if factor == 1 else np.float32(factor) * array for factor, array in used]
        sums.append(sum(terms[1:], terms[0]))
    return sums
