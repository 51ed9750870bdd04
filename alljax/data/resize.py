"""Images to squares, with or without antialiasing, with the exact bits of the reference libraries.

Segmented cells are on black, and black stays black under every filter, so only the rectangle around the pixels that are
not black is computed.
"""

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alljax.errors import ConfigError

_REACH = {"nearest": 0, "box": 0, "bilinear": 1, "hamming": 1, "bicubic": 2, "lanczos": 3}
"""Pillow's filters and their radius in input pixels where an image does not shrink."""


def check(interpolation: str, antialias: bool) -> None:
    """Checks that `resize` supports an interpolation.

    Raises:
        ConfigError: it is unknown, or exists with antialiasing only.
    """
    if interpolation not in _REACH:
        raise ConfigError(f"interpolation {interpolation!r} is unknown; choose one of {', '.join(_REACH)}")
    if not antialias and interpolation not in ("nearest", "bilinear", "bicubic"):
        raise ConfigError(
            f"interpolation {interpolation!r} is always antialiased; without it use nearest, bilinear or bicubic"
        )


def resize(pixels: NDArray[np.uint8], square: NDArray[np.uint8], interpolation: str, antialias: bool) -> None:
    """Resizes an image to a square, ignoring its aspect ratio.

    With antialiasing the filter widens where the image shrinks, and the result has the bits of Pillow's ``resize``,
    which torchvision uses on Pillow images.  Without it the filter uses the nearest 2 × 2 (bilinear) or 4 × 4 (bicubic)
    pixels, as ``tf.image.resize`` does in Keras's ``image_dataset_from_directory``, rounded to 8 bits.

    Args:
        pixels: shape (H, W, 3).
        square: zeros of shape (S, S, 3) that receive the result.
        interpolation: accepted by `check` with this `antialias`.
        antialias: see above; has no effect on ``nearest``.
    """
    if pixels.strides[2] < 0:  # a BMP file stores blue first: its bytes are resized in their own order
        pixels, square = pixels[..., ::-1], square[..., ::-1]
    height, width, _ = pixels.shape
    size = len(square)
    # Pillow chooses the order of its two passes by the shape of the image; for a square it is the order used here.
    if not _REACH[interpolation] or (antialias and width != height):
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling[interpolation.upper()])
        _copy(np.asarray(image), square)
        return
    flat = pixels.reshape(height, 3 * width)
    down, across = np.flatnonzero(flat.max(1)), np.flatnonzero(flat.max(0)) // 3
    if len(down):
        rows = _output_range(down[0], down[-1] + 1, height, size, interpolation)
        columns = _output_range(across[0], across[-1] + 1, width, size, interpolation)
        part = _antialiased if antialias else _sampled
        _copy(part(pixels, size, interpolation, rows, columns), square[slice(*rows), slice(*columns)])


def _copy(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    for color in range(3):  # three times as fast as one assignment where the colors of `target` are reversed
        target[..., color] = source[..., color]


def _output_range(first: int, last: int, length: int, size: int, interpolation: str) -> tuple[int, int]:
    """Returns the bounds of the output pixels that depend on the input pixels first … last - 1.

    The bounds are multiples of the odd part of the reduced denominator of length / size: there the positions in the
    input are exact in float32.
    """
    scale = length / size
    reach = _REACH[interpolation] * max(scale, 1) + 1
    step = size // gcd(size, length)
    step //= step & -step
    low = max(int((first - reach) / scale) // step * step, 0)
    high = -(-int((last + reach) / scale + 1) // step) * step
    return low, min(high, size)


def _antialiased(
    pixels: NDArray[np.uint8], size: int, interpolation: str, rows: tuple[int, int], columns: tuple[int, int]
) -> NDArray[np.uint8]:
    """Returns these rows and columns of the resized image, equal to those of resizing all of it."""
    resampling, scale = Image.Resampling[interpolation.upper()], len(pixels) / size
    reach = _REACH[interpolation] * max(scale, 1) + 1
    top, left = (max(int(first * scale - reach), 0) for first in (rows[0], columns[0]))
    bottom, right = (int(last * scale + reach) + 1 for last in (rows[1], columns[1]))
    image = Image.fromarray(pixels[top:bottom, left:right])
    wide, high = columns[1] - columns[0], rows[1] - rows[0]
    across = (columns[0] * scale - left, 0, columns[1] * scale - left, image.height)
    down = (0, rows[0] * scale - top, wide, rows[1] * scale - top)
    return np.asarray(image.resize((wide, image.height), resampling, across).resize((wide, high), resampling, down))


def _sampled(
    pixels: NDArray[np.uint8], size: int, interpolation: str, rows: tuple[int, int], columns: tuple[int, int]
) -> NDArray[np.uint8]:
    """Returns these rows and columns of an image resized without antialiasing."""
    down, needed_rows = _weights(pixels.shape[0], size, interpolation, rows)
    across, needed_columns = _weights(pixels.shape[1], size, interpolation, columns)
    blended = pixels[needed_rows, needed_columns].astype(np.float32)
    for weights in (down, across):
        blended = (weights @ blended.reshape(len(blended), -1)).reshape(-1, *blended.shape[1:]).swapaxes(0, 1)
    return np.rint(blended).clip(0, 255).astype(np.uint8)


def _weights(length: int, size: int, interpolation: str, bounds: tuple[int, int]) -> tuple[Any, slice]:
    """Returns the weights of input pixels for the output pixels within `bounds`, and which input pixels these are.

    The weights are a sparse matrix (output, input).
    """
    from scipy import sparse  # importing it takes a tenth of a second

    positions, weights = _taps(length, size, interpolation)
    positions, weights = positions[slice(*bounds)], weights[slice(*bounds)]
    first, last = int(positions[0, 0]), int(positions[-1, -1]) + 1
    starts = np.arange(0, positions.size + 1, positions.shape[1], dtype=np.int32)
    columns = (positions - first).ravel()
    return sparse.csr_array((weights.ravel(), columns, starts), (len(positions), last - first)), slice(first, last)


@lru_cache(maxsize=64)
def _taps(length: int, size: int, interpolation: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Returns the input pixels of each output pixel and their weights, two arrays (size, 2 · reach).

    Pixel centers are at half-integers.  Bicubic is the kernel of Keys (1981) with a = -0.5.  Weights of pixels outside
    the image are redistributed among those inside.
    """
    reach = _REACH[interpolation]
    centers = (np.arange(size) + 0.5) * length / size - 0.5
    positions = np.floor(centers).astype(np.int32)[:, None] + np.arange(1 - reach, 1 + reach, dtype=np.int32)
    distances = np.abs(centers[:, None] - positions)
    if interpolation == "bilinear":
        weights = 1 - distances
    else:
        near = (1.5 * distances - 2.5) * distances**2 + 1
        far = ((2.5 - 0.5 * distances) * distances - 4) * distances + 2
        weights = np.where(distances < 1, near, far)
    weights[(positions < 0) | (positions >= length)] = 0
    weights /= weights.sum(1, keepdims=True)
    return positions.clip(0, length - 1), weights.astype(np.float32)
