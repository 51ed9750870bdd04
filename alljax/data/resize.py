"""Images to squares, antialiased or not, as fast as exactness allows.

A segmented cell lies on black, and black stays black whatever the filter: only the rectangle
around what is not black is computed.
"""

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alljax.errors import ConfigError

_REACH = {"nearest": 0, "box": 0, "bilinear": 1, "hamming": 1, "bicubic": 2, "lanczos": 3}
"""Pillow's filters, and how many pixels they reach to either side where an image does not shrink."""


def check(interpolation: str, antialias: bool) -> None:
    """Refuses what `resize` cannot do.

    Raises:
        ConfigError: no such interpolation, or one that there is only with antialiasing.
    """
    if interpolation not in _REACH:
        raise ConfigError(f"interpolation {interpolation!r} is unknown; take one of {', '.join(_REACH)}")
    if not antialias and interpolation not in ("nearest", "bilinear", "bicubic"):
        raise ConfigError(
            f"interpolation {interpolation!r} is always antialiased here; without it take nearest, bilinear or bicubic"
        )


def resize(pixels: NDArray[np.uint8], squared: NDArray[np.uint8], interpolation: str, antialias: bool) -> None:
    """Stretches an image to a square.

    Antialiased, the filter is widened where the image shrinks: the bits are those of Pillow's
    ``resize``, which torchvision uses on Pillow images.  Not antialiased, the filter takes the nearest
    2 × 2 (bilinear) or 4 × 4 (bicubic) pixels however much the image shrinks: ``tf.image.resize`` as
    Keras's ``image_dataset_from_directory`` calls it, rounded to 8 bits.

    Args:
        pixels: shape (H, W, 3).
        squared: zeros of shape (S, S, 3), which the image is written into.
        interpolation: one that `check` lets through with this `antialias`.
        antialias: see above; makes no difference to ``nearest``.
    """
    height, width, _ = pixels.shape
    size = len(squared)
    # Pillow chooses the order of its two passes by the image's shape; that of a square it treats as we do.
    whole = antialias and width != height
    if whole or not _REACH[interpolation]:
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling[interpolation.upper()])
        _write(np.asarray(image), squared)
        return
    flat = pixels.reshape(height, 3 * width)
    down, across = np.flatnonzero(flat.max(1)), np.flatnonzero(flat.max(0)) // 3
    if len(down):
        rows = _reached(down[0], down[-1] + 1, height, size, interpolation)
        columns = _reached(across[0], across[-1] + 1, width, size, interpolation)
        part = _antialiased if antialias else _sampled
        _write(part(pixels, size, interpolation, rows, columns), squared[slice(*rows), slice(*columns)])


def _write(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    for color in range(3):  # three times as fast as all at once where `target` has its colors turned round
        target[..., color] = source[..., color]


def _reached(first: int, last: int, length: int, size: int, interpolation: str) -> tuple[int, int]:
    """Returns the bounds of those of `size` output pixels that the input pixels first … last - 1 of `length` reach.

    The bounds lie at multiples of the odd part of the reduced denominator of length / size, where their
    places in the input are fractions that a float32 holds exactly.
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
    """Returns these rows and columns of a resized square image, as a resize of the whole would give them."""
    resampling, scale = Image.Resampling[interpolation.upper()], len(pixels) / size
    reach = _REACH[interpolation] * max(scale, 1) + 1
    top, bottom = _near(rows, scale, reach, len(pixels))
    left, right = _near(columns, scale, reach, len(pixels))
    image = Image.fromarray(pixels[top:bottom, left:right])
    wide, high = columns[1] - columns[0], rows[1] - rows[0]
    image = image.resize(
        (wide, image.height), resampling, (columns[0] * scale - left, 0, columns[1] * scale - left, image.height)
    )
    image = image.resize((wide, high), resampling, (0, rows[0] * scale - top, wide, rows[1] * scale - top))
    return np.asarray(image)


def _near(bounds: tuple[int, int], scale: float, reach: float, length: int) -> tuple[int, int]:
    """Returns the bounds of the input pixels that make the output pixels within `bounds`."""
    return max(int(bounds[0] * scale - reach), 0), min(int(bounds[1] * scale + reach) + 1, length)


def _sampled(
    pixels: NDArray[np.uint8], size: int, interpolation: str, rows: tuple[int, int], columns: tuple[int, int]
) -> NDArray[np.uint8]:
    """Returns these rows and columns of an image resized without antialiasing."""
    down, top, bottom = _matrix(pixels.shape[0], size, interpolation, rows, 1)
    across, left, right = _matrix(pixels.shape[1], size, interpolation, columns, 3)
    needed = pixels[top:bottom, left:right].astype(np.float32, order="C").reshape(bottom - top, -1)
    blended = down @ needed @ across.T
    np.rint(blended, out=blended)
    if interpolation == "bicubic":
        blended.clip(0, 255, out=blended)
    return blended.astype(np.uint8).reshape(len(blended), -1, 3)


def _matrix(length: int, size: int, interpolation: str, bounds: tuple[int, int], colors: int) -> tuple[Any, int, int]:
    """Returns the weights of input pixels in the output pixels within `bounds`, and from where to where those lie.

    The weights are a sparse matrix, (output · colors, input · colors): each color is blended with its own.
    """
    from scipy import sparse  # a tenth of a second that most commands do not need

    places, weights = _taps(length, size, interpolation)
    places, weights = places[slice(*bounds)], weights[slice(*bounds)]
    first, last = int(places[0, 0]), int(places[-1, -1]) + 1
    inputs = (places - first)[:, None] * colors + np.arange(colors, dtype=np.int32)[:, None]
    starts = np.arange(0, inputs.size + 1, places.shape[1], dtype=np.int32)
    shape = len(places) * colors, (last - first) * colors
    return sparse.csr_array((np.repeat(weights, colors, 0).ravel(), inputs.ravel(), starts), shape), first, last


@lru_cache(maxsize=64)
def _taps(length: int, size: int, interpolation: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Returns which input pixels make each output pixel, and their weights: two arrays (size, 2 · reach).

    Pixel centers lie at halves.  Bicubic is Keys's (1981) with a = -0.5.  What would fall outside the
    image is shared among the pixels inside.
    """
    reach = _REACH[interpolation]
    centers = (np.arange(size) + 0.5) * length / size - 0.5
    places = np.floor(centers).astype(np.int32)[:, None] + np.arange(1 - reach, 1 + reach, dtype=np.int32)
    distances = np.abs(centers[:, None] - places)
    if interpolation == "bilinear":
        weights = 1 - distances
    else:
        near = (1.5 * distances - 2.5) * distances**2 + 1
        far = ((2.5 - 0.5 * distances) * distances - 4) * distances + 2
        weights = np.where(distances < 1, near, far)
    weights[(places < 0) | (places >= length)] = 0
    weights /= weights.sum(1, keepdims=True)
    return places.clip(0, length - 1), weights.astype(np.float32)
