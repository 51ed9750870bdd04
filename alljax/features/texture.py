"""Texture of a cell: gray-level co-occurrence and run-length matrices of its nucleus, and optionally its shape.

Pixels outside the region take part in no pair and no run: a black background would dominate both matrices.
"""

import math

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from alljax.features.nucleus import Mask, cell_mask, nucleus_mask

VERSION = 1
"""Increased by every change of the features: stored ones of other versions are not used."""

Array = NDArray[np.floating]

COOCCURRENCE = ("contrast", "dissimilarity", "homogeneity", "asm", "energy", "correlation", "entropy")
RUNS = ("sre", "lre", "gln", "rln", "rp", "lgre", "hgre", "srlge", "srhge", "lrlge", "lrhge")
SHAPE = ("area", "perimeter", "eccentricity", "solidity", "form_factor")

LUMA = np.array((0.299, 0.587, 0.114), np.float32)


def texture_names(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of the features; ``glcm_`` and ``glrlm_`` are over four angles."""
    glcm = [f"glcm_{name}_{over}" for over in ("mean", "range") for name in COOCCURRENCE]
    return (*glcm, *(f"glrlm_{name}" for name in RUNS), *(SHAPE if config.texture.shape else ()))


def texture_features(pixels: NDArray[np.uint8], config: ConfigDict) -> NDArray[np.float32]:
    """Returns the features (D,) of an image (H, W, 3) of a cell on black, in the order of `texture_names`.

    They are finite for all images: those of matrices without pairs or runs, as of a black image, are 0 (correlation 1).
    """
    texture = config.texture
    mask = nucleus_mask(pixels, texture.clusters) if texture.region == "nucleus" else cell_mask(pixels)
    box = ndimage.find_objects(mask.astype(np.int8))
    mask, pixels = (mask[box[0]], pixels[box[0]]) if box else (mask, pixels)
    levels = gray_levels(pixels @ LUMA, mask, texture.levels)
    pairs = cooccurrence_measures(cooccurrence(levels, texture.levels))
    runs = np.mean([run_measures(matrix) for matrix in run_lengths(levels, texture.levels)], axis=0)
    shape = shape_measures(mask) if texture.shape else ()
    return np.concatenate([pairs.mean(0), np.ptp(pairs, axis=0), runs, shape]).astype(np.float32)


def gray_levels(luma: Array, mask: Mask, count: int) -> NDArray[np.intp]:
    """Returns levels 1 … count of equal width from the lowest to the highest luma of a region, 0 outside; (H, W)."""
    levels = np.zeros(mask.shape, np.intp)
    if mask.any():
        inside = luma[mask]
        width = max(np.ptp(inside) / count, np.finfo(np.float32).tiny)
        levels[mask] = 1 + np.minimum((inside - inside.min()) / width, count - 1).astype(np.intp)
    return levels


def _flat(levels: NDArray[np.intp]) -> tuple[NDArray[np.intp], tuple[int, int, int, int]]:
    """Returns levels row by row, each row ending with a 0, and the distances of neighbors at 0°, 45°, 90° and 135°.

    The 0 separates what is not connected: no neighbor is beyond the border. As in scikit-image, 45° is down right.
    """
    width = levels.shape[1] + 1
    return np.pad(levels, ((0, 0), (0, 1))).ravel(), (1, width + 1, width, width - 1)


def cooccurrence(levels: NDArray[np.intp], count: int) -> Array:
    """Returns how often levels are neighbors at 0°, 45°, 90° and 135°: symmetric, sums of 1, (4, count, count).

    `levels` are those of `gray_levels` (Haralick et al. 1973, doi 10.1109/TSMC.1973.4309314).
    """
    flat, distances = _flat(levels)
    size = count + 1
    codes = [flat[:-distance] * size + flat[distance:] for distance in distances]
    counts = np.stack([np.bincount(code, minlength=size**2) for code in codes]).reshape(-1, size, size)[:, 1:, 1:]
    pairs = counts + counts.swapaxes(1, 2)
    return pairs / np.maximum(pairs.sum((1, 2), keepdims=True), 1)


def cooccurrence_measures(matrices: Array) -> Array:
    """Returns the measures `COOCCURRENCE` (A, 7) of normalized matrices (A, count, count), as scikit-image's."""
    first, second = np.indices(matrices.shape[1:])
    difference = first - second
    asm = (matrices**2).sum((1, 2))
    means = [(matrices * level).sum((1, 2), keepdims=True) for level in (first, second)]
    centered = first - means[0], second - means[1]
    variances = [(matrices * part**2).sum((1, 2)) for part in centered]
    deviation, covariance = np.sqrt(variances[0] * variances[1]), (matrices * centered[0] * centered[1]).sum((1, 2))
    constant = deviation < 1e-15
    measures = (
        (matrices * difference**2).sum((1, 2)),
        (matrices * abs(difference)).sum((1, 2)),
        (matrices / (1 + difference**2)).sum((1, 2)),
        asm,
        np.sqrt(asm),
        np.where(constant, 1, covariance / np.where(constant, 1, deviation)),
        -(matrices * np.log2(np.where(matrices > 0, matrices, 1))).sum((1, 2)),
    )
    return np.stack(measures, axis=1)


def run_lengths(levels: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """Returns the number of maximal runs of each level and length at 0°, 45°, 90° and 135°, each (count, length).

    `levels` are those of `gray_levels`; lengths are 1, … (Galloway 1975, doi 10.1016/S0146-664X(75)80008-6).
    """
    flat, distances = _flat(levels)
    matrices = []
    for distance in distances:
        # In rows of this length, neighbors are below each other. A row of 0 separates the columns.
        rows = -(-len(flat) // distance) + 1
        columns = np.pad(flat, (0, rows * distance - len(flat))).reshape(rows, distance)
        line = columns.T.ravel()
        ends = np.append(np.flatnonzero(np.diff(line)), len(line) - 1)
        lengths, values = np.diff(ends, prepend=-1), line[ends]
        lengths, values = lengths[values > 0], values[values > 0]
        longest = lengths.max(initial=1)
        codes = (values - 1) * longest + lengths - 1
        matrices.append(np.bincount(codes, minlength=count * longest).reshape(count, longest))
    return matrices


def run_measures(matrix: NDArray[np.intp]) -> Array:
    """Returns the measures `RUNS` (11,) of the numbers of runs, (count, length); all 0 without runs.

    With i for levels from 1, j for lengths, N runs: the emphases are sums over runs of j^±2, i^±2 and their products,
    and the non-uniformities sums of squared numbers of runs per level and per length, divided by N; ``rp`` is N per
    pixel. (Galloway 1975; Chu et al. 1990, doi 10.1016/0167-8655(90)90112-F; Dasarathy & Holder 1991, doi
    10.1016/0167-8655(91)80014-2.)
    """
    number = matrix.sum()
    if not number:
        return np.zeros(len(RUNS))
    level, length = (np.arange(1, size + 1) for size in matrix.shape)
    of_level, of_length = matrix.sum(1), matrix.sum(0)
    short, long, low, high = 1 / length**2, length**2, 1 / level**2, level**2
    totals = [
        of_length @ short,
        of_length @ long,
        of_level @ of_level,
        of_length @ of_length,
        number**2 / (of_length @ length),
        of_level @ low,
        of_level @ high,
        low @ matrix @ short,
        high @ matrix @ short,
        low @ matrix @ long,
        high @ matrix @ long,
    ]
    return np.array(totals) / number


def shape_measures(mask: Mask) -> Array:
    """Returns the measures `SHAPE` (5,) of a region of pixels of area 1; all 0 without pixels.

    The perimeter is from the number of runs at four angles by Crofton's formula, the eccentricity that of the ellipse
    with the same second moments, solidity the share of the convex hull, and the form factor 4π area / perimeter².
    """
    area = mask.sum()
    if not area:
        return np.zeros(len(SHAPE))
    runs = [matrix.sum() for matrix in run_lengths(mask.astype(np.intp), 1)]
    perimeter = math.pi / 4 * (runs[0] + runs[2] + (runs[1] + runs[3]) / math.sqrt(2))
    minor, major = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T, bias=True) + np.eye(2) / 12)
    rows = np.flatnonzero(mask.any(1))
    sides = mask[rows].argmax(1), mask.shape[1] - mask[rows, ::-1].argmax(1)
    hull = ConvexHull(
        [
            (row + side, column)
            for side in (0, 1)
            for columns in sides
            for row, column in zip(rows, columns, strict=True)
        ]
    )
    return np.array(
        [area, perimeter, math.sqrt(1 - minor / major), area / hull.volume, 4 * math.pi * area / perimeter**2]
    )
