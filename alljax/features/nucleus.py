"""The region of a cell whose texture is measured: the nucleus, found by k-means on color, or the whole cell."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster import vq

Mask = NDArray[np.bool_]

# From 8-bit sRGB to linear values (IEC 61966-2-1), and from these to X, Y and Z relative to the white point D65.
_VALUES = np.arange(256) / 255
_LINEAR = np.where(_VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_XYZ = np.array(
    ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227)), np.float32
) / np.array((0.95047, 1.0, 1.08883), np.float32)[:, None]  # fmt: skip

_FITTED = 2_000
"""Pixels of a cell to which k-means is fitted; all of them are assigned to the clusters."""

_RESTARTS = 5
_RADIUS = 3
"""Radius in pixels of the opening that removes grains and bridges."""


def to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Maps sRGB (..., 3) to CIE L*a*b* (..., 3) under the illuminant D65: L* in 0 … 100, a* and b* around 0."""
    relative = _LINEAR[pixels] @ _XYZ.T
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def cell_mask(pixels: NDArray[np.uint8]) -> Mask:
    """Returns which pixels (H, W) of an image (H, W, 3) are not black."""
    return np.any(pixels, axis=2)


def nucleus_mask(pixels: NDArray[np.uint8], clusters: int) -> Mask:
    """Returns the pixels (H, W) of the nucleus in an image (H, W, 3) of a cell on black.

    Of the `clusters` of L*, a* and b* the nucleus is the darkest: its largest connected part, without holes, after an
    opening. The same image always has the same mask; a cell with no more pixels than `clusters` is a nucleus.
    """
    cell = cell_mask(pixels)
    # With L*, because a* and b* alone divide many cells of C-NMC 2019 into their colored rim and the rest.
    colors = to_lab(pixels[cell]).astype(np.float64)
    if len(colors) <= clusters:
        return cell
    sample = colors[:: max(1, len(colors) // _FITTED)]
    centers, _ = vq.kmeans(sample, clusters, iter=_RESTARTS, rng=np.random.default_rng(0))
    cluster, _ = vq.vq(colors, centers)
    mask = np.zeros_like(cell)
    mask[cell] = cluster == centers[:, 0].argmin()
    mask = _largest(_filled(mask))
    opened = ndimage.binary_opening(mask, iterations=_RADIUS)
    return _largest(opened) if opened.any() else mask


def _filled(mask: Mask) -> Mask:
    """Returns a mask without holes: all but the background that is connected with the outside."""
    labels, _ = ndimage.label(~np.pad(mask, 1))
    return (labels != labels[0, 0])[1:-1, 1:-1]


def _largest(mask: Mask) -> Mask:
    """Returns the largest connected part of a mask."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels[mask], minlength=1)
    return mask & (labels == sizes.argmax())
