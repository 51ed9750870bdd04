"""Texture of a cell: gray-level co-occurrence and run-length matrices of its nucleus, and optionally its shape.

Pixels outside the region take part in no pair and no run: a black background would dominate both matrices (Haralick et
al. 1973, doi 10.1109/TSMC.1973.4309314; Galloway 1975, doi 10.1016/S0146-664X(75)80008-6).
"""

import math
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster import vq
from scipy.spatial import ConvexHull

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

COOCCURRENCE = ("contrast", "dissimilarity", "homogeneity", "asm", "energy", "correlation", "entropy")
# Means over runs of powers of their level and length: the exponents by name.
EMPHASES = {
    "sre": (0, -2), "lre": (0, 2), "lgre": (-2, 0), "hgre": (2, 0),
    "srlge": (-2, -2), "srhge": (2, -2), "lrlge": (-2, 2), "lrhge": (2, 2),
}  # fmt: skip
RUNS = (*EMPHASES, "gln", "rln", "rp")
SHAPE = ("area", "perimeter", "eccentricity", "solidity", "form_factor")
LUMA = np.array((0.299, 0.587, 0.114), np.float32)

# From 8-bit sRGB to linear values (IEC 61966-2-1), and from these to X, Y and Z relative to the white point D65.
_VALUES = np.arange(256) / 255
_LINEAR = np.where(_VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_RELATIVE = np.array(_XYZ, np.float32).T / np.array((0.95047, 1.0, 1.08883), np.float32)

_FITTED = 2_000  # pixels of a cell to which k-means is fitted; all are assigned to the clusters
_STARTS = 5  # of k-means
_RADIUS = 3  # in pixels, of the opening that removes grains and bridges


def texture_features(pixels: NDArray[np.uint8], config: ConfigDict) -> NDArray[np.float32]:
    """Returns the features (D,) of an image (H, W, 3) of a cell on black: finite, also of a black image.

    They are the means and the ranges of `COOCCURRENCE` over four angles, the means of `RUNS`, and `SHAPE`.
    """
    texture = config.texture
    mask = nucleus_mask(pixels, texture.clusters) if texture.region == "nucleus" else np.any(pixels, axis=2)
    box = ndimage.find_objects(mask.astype(np.int8))
    mask, pixels = (mask[box[0]], pixels[box[0]]) if box else (mask, pixels)
    levels = gray_levels(pixels @ LUMA, mask, texture.levels)
    pairs = cooccurrence_measures(cooccurrence(levels, texture.levels))
    runs = np.mean([run_measures(matrix) for matrix in run_lengths(levels, texture.levels)], axis=0)
    shape = shape_measures(mask) if texture.shape else ()
    return np.concatenate([pairs.mean(0), np.ptp(pairs, axis=0), runs, shape]).astype(np.float32)


def to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Maps sRGB (..., 3) to CIE L*a*b* (..., 3) under the illuminant D65: L* in 0 … 100, a* and b* around 0."""
    relative = _LINEAR[pixels] @ _RELATIVE
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def nucleus_mask(pixels: NDArray[np.uint8], clusters: int) -> Mask:
    """Returns the pixels (H, W) of the nucleus: of `clusters` of L*, a* and b* the darkest, opened, without holes."""
    cell = np.any(pixels, axis=2)
    # With L*, because a* and b* alone divide many cells of C-NMC 2019 into their colored rim and the rest.
    colors = to_lab(pixels[cell]).astype(np.float64)
    if len(colors) <= clusters:
        return cell
    sample = colors[:: max(1, len(colors) // _FITTED)]
    centers, _ = vq.kmeans(sample, clusters, iter=_STARTS, rng=np.random.default_rng(0))
    cluster, _ = vq.vq(colors, centers)
    mask = np.zeros_like(cell)
    mask[cell] = cluster == centers[:, 0].argmin()
    filled = ndimage.binary_fill_holes(mask)
    opened = ndimage.binary_opening(filled, iterations=_RADIUS)
    labels, _ = ndimage.label(opened if opened.any() else filled)
    return labels == np.bincount(labels.ravel(), minlength=2)[1:].argmax() + 1


def gray_levels(luma: Array, mask: Mask, count: int) -> NDArray[np.intp]:
    """Returns levels 1 … count of equal width from the lowest to the highest luma of a region, 0 outside; (H, W)."""
    inside = luma[mask]
    lowest, highest = inside.min(initial=np.inf), inside.max(initial=0)
    scaled = (luma - lowest) / max(highest - lowest, 1e-6) * count
    return np.where(mask, 1 + np.clip(scaled, 0, count - 1).astype(np.intp), 0)


def _flat(levels: NDArray[np.intp]) -> tuple[NDArray[np.intp], tuple[int, int, int, int]]:
    """Returns rows ending with a 0, joined, and the distances of neighbors at 0°, 45° (down right), 90° and 135°."""
    width = levels.shape[1] + 1
    return np.pad(levels, ((0, 0), (0, 1))).ravel(), (1, width + 1, width, width - 1)


def cooccurrence(levels: NDArray[np.intp], count: int) -> Array:
    """Returns how often levels are neighbors at 0°, 45°, 90° and 135°: symmetric, sums of 1, (4, count, count)."""
    (flat, distances), size = _flat(levels), count + 1
    codes = [flat[:-distance] * size + flat[distance:] for distance in distances]
    counts = [np.bincount(code, minlength=size**2).reshape(size, size)[1:, 1:] for code in codes]
    pairs = np.stack([one + one.T for one in counts])
    return pairs / np.maximum(pairs.sum((1, 2), keepdims=True), 1)


def cooccurrence_measures(matrices: Array) -> Array:
    """Returns the measures `COOCCURRENCE` (A, 7) of normalized matrices (A, count, count), as scikit-image's."""
    first, second = np.indices(matrices.shape[1:])

    def mean(values: Any) -> Array:
        return (matrices * values).sum((1, 2))

    squared, asm = (first - second) ** 2, mean(matrices)
    centered = first - mean(first)[:, None, None]
    variance, covariance = mean(centered**2), mean(centered * centered.swapaxes(1, 2))
    correlation = np.where(variance > 1e-15, covariance / np.maximum(variance, 1e-15), 1)
    entropy = -mean(np.log2(np.where(matrices > 0, matrices, 1)))
    inertia = mean(squared), mean(np.sqrt(squared)), mean(1 / (1 + squared))
    return np.stack([*inertia, asm, np.sqrt(asm), correlation, entropy], axis=1)


def run_lengths(levels: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """Returns the number of maximal runs of each level and length, 1, …, at the same angles, each (count, length)."""
    (flat, distances), matrices = _flat(levels), []
    for distance in distances:
        # In rows of this length, neighbors are below each other; a last row of 0 separates the columns.
        line = np.pad(flat, (0, distance + -len(flat) % distance)).reshape(-1, distance).T.ravel()
        ends = np.flatnonzero(np.diff(line, append=-1))
        lengths, values = np.diff(ends, prepend=-1), line[ends]
        longest = lengths[values > 0].max(initial=1)
        codes = (values * longest + lengths - 1)[values > 0]
        matrices.append(np.bincount(codes, minlength=(count + 1) * longest).reshape(-1, longest)[1:])
    return matrices


def run_measures(matrix: NDArray[np.intp]) -> Array:
    """Returns the measures `RUNS` (11,) of the numbers of runs, (count, length); all 0 without runs.

    ``gln`` and ``rln`` are sums of squared numbers of runs per level and per length, divided by the number of runs;
    ``rp`` is that number per pixel. (Galloway 1975; Chu et al. 1990, doi 10.1016/0167-8655(90)90112-F; Dasarathy &
    Holder 1991, doi 10.1016/0167-8655(91)80014-2.)
    """
    number = max(matrix.sum(), 1)
    level, length = (np.arange(1.0, size + 1) for size in matrix.shape)
    emphases = [level**power @ matrix @ length**other for power, other in EMPHASES.values()]
    uneven = [(matrix.sum(axis) ** 2).sum() for axis in (1, 0)]
    per_pixel = number * matrix.sum() / max((matrix @ length).sum(), 1)
    return np.array([*emphases, *uneven, per_pixel]) / number


def shape_measures(mask: Mask) -> Array:
    """Returns the measures `SHAPE` (5,) of a region of pixels of area 1; all 0 without pixels.

    The perimeter is Crofton's, from the runs at four angles; the eccentricity that of the ellipse of equal moments.
    """
    area = mask.sum()
    if not area:
        return np.zeros(len(SHAPE))
    runs = [matrix.sum() for matrix in run_lengths(mask.astype(np.intp), 1)]
    perimeter = math.pi / 4 * (runs[0] + runs[2] + (runs[1] + runs[3]) / math.sqrt(2))
    minor, major = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T, bias=True) + np.eye(2) / 12)
    rows = np.flatnonzero(mask.any(1))
    left, right = mask[rows].argmax(1), mask.shape[1] - mask[rows, ::-1].argmax(1)
    corners = [np.stack([rows + below, side], 1) for below in (0, 1) for side in (left, right)]
    solidity = area / ConvexHull(np.concatenate(corners)).volume
    return np.array([area, perimeter, math.sqrt(1 - minor / major), solidity, 4 * math.pi * area / perimeter**2])
