"""Spectra of a cell: the lowest coefficients of the discrete cosine transform of each 8 × 8 block."""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from alljax.features.texture import LUMA

VERSION = 1  # increased by every change of the features: stored ones of other versions are not used

BLOCK = 8
COEFFICIENTS = 16

# Diagonals from the lowest frequencies, in alternating direction as in JPEG (ITU-T T.81, figure 5).
_ROW, _COLUMN = np.indices((BLOCK, BLOCK)).reshape(2, -1)
ZIGZAG = np.lexsort((np.where((_ROW + _COLUMN) % 2, _ROW, _COLUMN), _ROW + _COLUMN))[:COEFFICIENTS]


def dct_shape(size: int) -> tuple[int, int]:
    """Returns the number of steps, rows of blocks, and that of values per step of an image of `size` × `size`."""
    return size // BLOCK, size // BLOCK * COEFFICIENTS


def dct_features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the steps (T, d) of an image (S, S, 3), flattened; see `dct_shape`.

    Each block of luma has the first 16 coefficients, in zig-zag order, of its orthonormal DCT-II. Rows and columns
    beyond the last whole block are left out.
    """
    count = len(pixels) // BLOCK
    luma = pixels[: count * BLOCK, : count * BLOCK] @ LUMA
    blocks = luma.reshape(count, BLOCK, count, BLOCK).swapaxes(1, 2)
    spectra = dctn(blocks, axes=(2, 3), norm="ortho").reshape(count, count, -1)
    return spectra[..., ZIGZAG].ravel().astype(np.float32)
