"""The region of a cell whose texture is measured: the nucleus, found by k-means on color, or the whole cell."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster import vq

Mask = NDArray[np.bool_]

# From 8-bit sRGB to linear values (IEC 61966-2-1), and from these to X, Y and Z relative to the white point D65.
_VALUES = np.arange(256) / 255
_LINEAR = np.where(_VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_RELATIVE = np.array(_XYZ, np.float32).T / np.array((0.95047, 1.0, 1.08883), np.float32)

_FITTED = 2_000  # pixels of a cell to which k-means is fitted; all are assigned to the clusters
_STARTS = 5  # of k-means
_RADIUS = 3  # in pixels, of the opening that removes grains and bridges


def to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Maps sRGB (..., 3) to CIE L*a*b* (..., 3) under the illuminant D65: L* in 0 … 100, a* and b* around 0."""
    relative = _LINEAR[pixels] @ _RELATIVE
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def nucleus_mask(pixels: NDArray[np.uint8], clusters: int) -> Mask:
    """Returns the pixels (H, W) of the nucleus in an image (H, W, 3) of a cell on black.

    Of the `clusters` of L*, a* and b* the nucleus is the darkest: its largest connected part, without holes, after an
    opening. The same image always has the same mask; a cell with no more pixels than `clusters` is a nucleus.
    """
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
