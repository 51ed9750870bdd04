"""Near duplicates: rotated, mirrored, re-encoded or rescaled copies of images.

Each cell is cropped and reduced to 32 × 32 gray values.  In a pair, one of the 8 rotated and mirrored versions of an
image correlates with the other, over all pixels and over the inside of both cells, where the outline does not count. On
526 images of C-NMC 2019 this finds all copies made by quarter turns, mirroring, JPEG of quality 50 and more, and
rescaling to 50 to 110 %; of 136,503 pairs it reports 20 others, and to the eye each shows one cell twice.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alljax.progress import bar

SIDE = 32
"""Height and width of the reduced images in pixels."""

WHOLE, INSIDE = 0.95, 0.85
"""Minimum correlations of near duplicates; the copies above have at least .997 and .985."""

_FLAT = 2.0  # gray values; a reduced image that varies less has nothing to compare
_BLOCK = 64  # images compared with all others at once: 64 × 15,000 correlations are 4 MB
_CHUNK = 4096  # candidates confirmed at once

Rows = NDArray[np.int64]
Small = NDArray[np.uint8]


def reduce(pixels: NDArray[np.uint8]) -> Small:
    """Returns the cell of an image (H, W, 3) in gray, uint8 (`SIDE`, `SIDE`), cropped by its brightness."""
    image = Image.fromarray(pixels).convert("L")
    (left, right), (top, bottom) = (_extent(np.asarray(image).sum(axis, dtype=np.int64)) for axis in (0, 1))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))


def near_pairs(reduced: Sequence[Small]) -> Rows:
    """Returns the pairs of near duplicates, (M, 2), ascending: rows of reduced images, no two of them equal."""
    images = np.array(reduced, np.uint8).reshape(-1, SIDE, SIDE)
    varied = np.flatnonzero(images.std((1, 2)) >= _FLAT)
    images = images[varied]
    units = images - images.mean((1, 2), keepdims=True, dtype=np.float32)
    units /= np.sqrt((units**2).sum((1, 2), keepdims=True))
    vectors = units.reshape(-1, SIDE**2)
    found = [np.empty((0, 2), np.int64)]
    with bar("compare images", len(images) if len(images) > 1000 else 0, "images") as update:  # fewer take no time
        for start in range(0, len(images), _BLOCK):
            block, later = slice(start, start + _BLOCK), slice(start, None)
            before = np.tril_indices(len(images[block]))
            for version in range(8):
                correlations = _version(units[block], version).reshape(-1, SIDE**2) @ vectors[later].T
                correlations[before] = 0
                candidates = np.argwhere(correlations >= WHOLE)
                for pairs in np.split(candidates, range(_CHUNK, len(candidates), _CHUNK)):
                    one, other = _version(images[block], version)[pairs[:, 0]], images[later][pairs[:, 1]]
                    found.append(start + pairs[_inside_correlation(one, other) >= INSIDE])
            update(len(units[block]))
    return varied[np.unique(np.concatenate(found), axis=0)]


def _extent(mass: Rows) -> tuple[float, float]:
    """Returns the mean position ± 2 standard deviations, the borders of an evenly bright ellipse."""
    if not mass.any():
        return 0.0, float(len(mass))
    positions = np.arange(len(mass)) + 0.5
    mean = float(np.average(positions, weights=mass))
    spread = max(float(np.sqrt(np.average((positions - mean) ** 2, weights=mass))), 0.25)
    return max(mean - 2 * spread, 0.0), min(mean + 2 * spread, float(len(mass)))


def _version(small: NDArray[Any], version: int) -> NDArray[Any]:
    """Returns one of the 8 rotated and mirrored versions of images (N, S, S); 0 is the image."""
    turned = np.rot90(small, version, (1, 2))
    return turned[:, ::-1] if version >= 4 else turned


def _inside_correlation(one: Small, other: Small) -> NDArray[np.float32]:
    """Returns the correlation of M pairs of images over the inside of both cells, (M,); 0 where one is constant."""
    weight = (one > one.max((1, 2), keepdims=True) / 8) & (other > other.max((1, 2), keepdims=True) / 8)
    count = np.maximum(weight.sum((1, 2), keepdims=True), 1)

    def centered(small: Small) -> NDArray[np.float32]:
        return (small - (small * weight).sum((1, 2), keepdims=True, dtype=np.float32) / count) * weight

    a, b = centered(one), centered(other)
    size = np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)))
    return (a * b).sum((1, 2)) / np.maximum(size, np.float32(1e-6))
