"""Images that occur more than once: equal pixels, or rotated, mirrored, re-encoded or rescaled copies.

A perceptual hash finds candidates: the signs of the 64 lowest coefficients of the cosine transform of the cell, cropped
and reduced to 32 × 32 gray values, compared in all 8 rotated and mirrored versions.  Two correlations of the reduced
images confirm them: over all pixels, and over the inside of both cells, where texture counts and the outline does not.

On 526 images of C-NMC 2019 (long tests in `tests/data/test_duplicates.py`) this finds all 526 copies made by rotation
by 90, 180 or 270 degrees, mirroring, JPEG of quality 90, 75 or 50, and rescaling to 50, 90 or 110 %; of 136,503 pairs
of images with different pixels it reports 20, and to the eye each shows one cell twice.  Rotation by 5 degrees hides
two of three copies, and cells of less than 100 pixels lose too much to JPEG.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from alljax.data.dataset import UNLABELED, Dataset, Record
from alljax.data.images import decode, pixel_digest
from alljax.data.inspection import map_images, reason

SIDE = 32
"""Height and width of the reduced images in pixels."""

DISTANCE = 8
"""Bits of 64 by which the hashes of candidates may differ; the copies above differ by at most 5."""

WHOLE, INSIDE = 0.95, 0.85
"""Minimum correlations of near duplicates; the copies above have at least .997 and .985."""

_FLAT = 2.0  # gray values; a reduced image that varies less has nothing to compare
_BLOCK = 16  # images compared with all others at once: 16 × 8 × 15,000 hashes are 15 MB
_MANY = 0.02  # fraction of candidates above which a matrix product is the faster filter
_CHUNK = 4096  # candidates confirmed at once

Rows = NDArray[np.int64]
Small = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What images are compared by, for the N readable images in the order of the records.

    Attributes:
        pixels: SHA-256 of each image's pixels, see `images.pixel_digest`.
        small: each cell in gray, uint8 (N, `SIDE`, `SIDE`).
        unreadable: path → why an image cannot be read.
    """

    pixels: tuple[str, ...]
    small: Small
    unreadable: Mapping[str, str]


def compute_fingerprints(dataset: Dataset, update: Callable[[int], Any] = lambda count: None) -> Fingerprints:
    """Reads and decodes every image once.

    Args:
        dataset: the images.
        update: called with the number of newly finished images.
    """
    results, errors = map_images(dataset, _fingerprint, update)
    return Fingerprints(
        pixels=tuple(digest for digest, _ in results),
        small=np.array([small for _, small in results], np.uint8).reshape(-1, SIDE, SIDE),
        unreadable={path: reason(error, path) for path, error in errors.items()},
    )


def exact_groups(pixels: Sequence[str]) -> list[list[int]]:
    """Returns the groups of rows with equal pixels, each ascending, ordered by their first row."""
    groups = defaultdict(list)
    for row, digest in enumerate(pixels):
        groups[digest].append(row)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(small: Small, update: Callable[[int], Any] = lambda count: None) -> Rows:
    """Returns the pairs of near duplicates.  Of several equal images pass one only.

    Args:
        small: uint8 (N, `SIDE`, `SIDE`).
        update: called with the number of images newly compared with all others.

    Returns:
        (M, 2) rows of `small`, the lower first, ascending.
    """
    images, varied = len(small), np.flatnonzero(small.std((1, 2)) >= _FLAT)
    small = small[varied]
    codes = _hashes(small)
    units: NDArray[np.float32] | None = None
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(small), _BLOCK):
        block = np.stack([_version(small[start : start + _BLOCK], version) for version in range(8)], axis=1)
        versions, later = block.reshape(-1, SIDE, SIDE), small[start:]
        close = np.bitwise_count(codes[start : start + _BLOCK].reshape(-1, 1) ^ codes[start:, 0]) <= DISTANCE
        if np.count_nonzero(close) > _MANY * close.size:
            units = _unit_vectors(small) if units is None else units
            close &= _unit_vectors(versions) @ units[start:].T > WHOLE - 0.001
        # flatnonzero is several times as fast as nonzero of two axes.
        rows, others = np.divmod(np.flatnonzero(close), len(later))
        rows, others = rows[rows // 8 < others], others[rows // 8 < others]
        for chunk in (slice(first, first + _CHUNK) for first in range(0, len(rows), _CHUNK)):
            confirmed = _similar(versions[rows[chunk]], later[others[chunk]])
            found.append(start + np.stack([rows[chunk] // 8, others[chunk]], axis=1)[confirmed])
        update(len(block))
    update(images - len(varied))
    return varied[np.unique(np.concatenate(found), axis=0)]


def summarize(records: Sequence[Record], subjects: Sequence[str], groups: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Counts the pairs of duplicates that differ in subject, fold, subset or class.

    Args:
        records: N records.
        subjects: N subjects.
        groups: rows of equal images, or pairs of near duplicates.

    Returns:
        ``groups`` (paths) and ``contradictory`` (those with several classes), and the number of ``pairs``, of pairs
        with two ``subject_names``, two ``subjects`` after merging, two official ``folds``, ``subsets`` and ``classes``.
    """
    keys: dict[str, Callable[[int], object]] = {
        "subject_names": lambda row: records[row].subject or None,
        "subjects": lambda row: subjects[row] if records[row].subject else None,
        "folds": lambda row: records[row].fold or None,
        "subsets": lambda row: records[row].subset,
        "classes": lambda row: None if records[row].label == UNLABELED else records[row].label,
    }

    def count_differing(key: Callable[[int], object]) -> int:
        """Counts the pairs whose keys differ; None differs from nothing."""
        count = 0
        for group in groups:
            values = Counter(value for row in group if (value := key(row)) is not None)
            count += (values.total() ** 2 - sum(number**2 for number in values.values())) // 2
        return count

    paths = [[records[row].path for row in group] for group in groups]
    several = [len({keys["classes"](row) for row in group} - {None}) > 1 for group in groups]
    return {
        "groups": paths,
        "pairs": sum(len(group) * (len(group) - 1) // 2 for group in groups),
        **{name: count_differing(key) for name, key in keys.items()},
        "contradictory": [group for group, contradicts in zip(paths, several, strict=True) if contradicts],
    }


def _fingerprint(dataset: Dataset, record: Record) -> tuple[str, Small]:
    pixels = decode(dataset.read(record), record.path)
    return pixel_digest(pixels), _reduce(Image.fromarray(pixels))


def _reduce(image: Image.Image) -> Small:
    """Crops the cell by its brightness and reduces it, so that scale, position and noise at the border do not count."""
    gray = image.convert("L")
    pixels = np.asarray(gray)
    left, right = _extent(pixels.sum(0, dtype=np.int64))
    top, bottom = _extent(pixels.sum(1, dtype=np.int64))
    return np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))


def _extent(mass: Rows) -> tuple[float, float]:
    """Returns the mean position ± 2 standard deviations, the borders of an evenly bright ellipse."""
    if not mass.any():
        return 0.0, float(len(mass))
    positions = np.arange(len(mass)) + 0.5
    mean = float(np.average(positions, weights=mass))
    spread = max(float(np.sqrt(np.average((positions - mean) ** 2, weights=mass))), 0.25)
    return max(mean - 2 * spread, 0.0), min(mean + 2 * spread, float(len(mass)))


def _hashes(small: Small) -> NDArray[np.uint64]:
    """Returns the hashes of the 8 versions of each image, (N, 8)."""
    codes = np.empty((len(small), 8), np.uint64)
    for start in range(0, len(small), _CHUNK):
        part = small[start : start + _CHUNK]
        for version in range(8):
            low = dctn(_version(part, version).astype(np.float32), axes=(1, 2), norm="ortho")[:, :8, :8]
            # Above 1, not 0: coefficients that symmetry makes zero must not give random bits.
            bits = np.packbits(low.reshape(len(part), 64) > 1, axis=1)
            codes[start : start + _CHUNK, version] = bits.view(np.uint64)[:, 0]
    return codes


def _version(small: Small, version: int) -> Small:
    """Returns one of the 8 rotated and mirrored versions; 0 is the image."""
    if version & 4:
        small = small.swapaxes(1, 2)
    if version & 2:
        small = small[:, ::-1]
    return small[:, :, ::-1] if version & 1 else small


def _similar(one: Small, other: Small) -> NDArray[np.bool_]:
    inside = (one > one.max((1, 2), keepdims=True) / 8) & (other > other.max((1, 2), keepdims=True) / 8)
    return (_correlation(one, other, np.ones_like(inside)) >= WHOLE) & (_correlation(one, other, inside) >= INSIDE)


def _correlation(one: Small, other: Small, where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns the correlation of M pairs of images over the pixels `where`, (M,); 0 where an image is constant."""
    weight = where.reshape(len(where), -1).astype(np.float32)
    count = np.maximum(weight.sum(1, keepdims=True), 1)

    def centered(small: Small) -> NDArray[np.float32]:
        values = small.reshape(len(small), -1).astype(np.float32)
        return (values - (values * weight).sum(1, keepdims=True) / count) * weight

    a, b = centered(one), centered(other)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return (a * b).sum(1) / np.maximum(size, np.float32(1e-6))


def _unit_vectors(small: Small) -> NDArray[np.float32]:
    """Returns the images as vectors whose products are their correlations over all pixels, (N, `SIDE`²)."""
    values = small.reshape(len(small), -1).astype(np.float32)
    values -= values.mean(1, keepdims=True)
    return values / np.linalg.norm(values, axis=1, keepdims=True)
