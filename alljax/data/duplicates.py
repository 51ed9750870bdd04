"""Images that stand more than once in a set: pixel for pixel, or as turned, mirrored, re-encoded or rescaled copies.

A perceptual hash finds candidates: the signs of the 64 lowest coefficients of
the cosine transform of the cell, cut out and shrunk to 32 × 32 gray values,
compared in all 8 turned and mirrored versions.  Two correlations of the small
images confirm them: over the whole, and over the inside of both cells, where
texture counts and the outline, alike in so many cells, does not.

Measured on 526 real cells of C-NMC 2019 (the long tests in `tests/data/test_duplicates.py` do it again):

- A copy was found for 526 of 526 cells after a turn by 90, 180 or 270 degrees, a mirroring, JPEG of quality 90, 75
  or 50, and rescaling to 50, 90 or 110 %.  A turn by 5 degrees hides two of three.
- Of 136,503 pairs of cells with other pixels 20 were taken for near duplicates, and to the eye each is one cell
  twice: 3 stand under two subject names, 17 were photographed in two fields.  Of 2.2 million pairs in which one cell
  was turned by 10, 20, ..., 80 degrees, so that none of them is a copy, not one was taken.
- Reading and decoding a cell takes 4 ms of one core, comparing 15,000 with each other 5 s (40 s where all hash alike):
  less than a minute for the whole set on 2 cores that do nothing else.

Cells of less than 100 pixels across lose too much to JPEG to be found again.  On whole fields nothing was measured.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alljax.data.dataset import UNLABELED, Dataset, Record
from alljax.data.images import decode, pixel_digest
from alljax.data.inspection import map_images, reason
from alljax.progress import Advance, ignore

SIDE = 32
"""Height and width of the small images in pixels."""

DISTANCE = 8
"""Bits of 64 in which the hashes of candidates may differ; those of the copies above differ in 5 at most."""

WHOLE, INSIDE = 0.95, 0.85
"""Least correlations of near duplicates; of the copies above they are .997 and .985 or more."""

_FLAT = 2.0  # gray values; a small image that varies less shows nothing to compare
_BLOCK = 16  # images compared with all others at once: 16 × 8 × 15,000 hashes are 15 MB
_MANY = 0.02  # share of candidates from which a matrix product thins them out faster than looking at each
_CHUNK = 4096  # candidates confirmed at once

Rows = NDArray[np.int64]
Small = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Prints:
    """What images are compared by: of the N that can be read, in the order of the records.

    Attributes:
        pixels: SHA-256 of each image's pixels, see `images.pixel_digest`.
        small: each cell in gray, uint8 (N, `SIDE`, `SIDE`).
        unreadable: why an image cannot be read, by its path.
    """

    pixels: tuple[str, ...]
    small: Small
    unreadable: Mapping[str, str]


@dataclass(frozen=True)
class Copies:
    """Images that are the same, or nearly.

    Attributes:
        groups: their paths; near duplicates are in pairs, each image by the first of its exact copies.
        pairs: how many pairs that makes.
        subjects: pairs under two subject names, as far as names are known.
        people: pairs of two people, after subjects that share an image were united.
        folds: pairs across official folds.
        parts: pairs across parts of the source.
        classes: pairs under two classes.
        contradictory: the groups of which some are under another class than others.
    """

    groups: tuple[tuple[str, ...], ...]
    pairs: int
    subjects: int
    people: int
    folds: int
    parts: int
    classes: int
    contradictory: tuple[tuple[str, ...], ...]


def take_prints(dataset: Dataset, advance: Advance = ignore) -> Prints:
    """Reads and decodes every image once.

    Args:
        dataset: what to look at.
        advance: told of each image.
    """
    seen, errors = map_images(dataset, _look, advance)
    return Prints(
        pixels=tuple(digest for digest, _ in seen),
        small=np.array([small for _, small in seen], np.uint8).reshape(-1, SIDE, SIDE),
        unreadable={path: reason(error, path) for path, error in errors.items()},
    )


def exact(pixels: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Returns the groups of rows that have the same pixels, each ascending, by their first row."""
    groups = defaultdict(list)
    for row, digest in enumerate(pixels):
        groups[digest].append(row)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def near(small: Small, advance: Advance = ignore) -> Rows:
    """Returns the pairs of near duplicates.

    Two images that are the same pixel for pixel are a pair like any other:
    give one of them only.

    Args:
        small: uint8 (N, `SIDE`, `SIDE`).
        advance: told of each image that was compared with all others.

    Returns:
        (M, 2) rows of `small`, the lower first, ascending.
    """
    images, shown = len(small), np.flatnonzero(small.std((1, 2)) >= _FLAT)
    small = small[shown]
    codes = _codes(small)
    units: NDArray[np.float32] | None = None
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(small), _BLOCK):
        block = np.stack([_turned(small[start : start + _BLOCK], version) for version in range(8)], axis=1)
        turned, later = block.reshape(-1, SIDE, SIDE), small[start:]
        close = np.bitwise_count(codes[start : start + _BLOCK].reshape(-1, 1) ^ codes[start:, 0]) <= DISTANCE
        if np.count_nonzero(close) > _MANY * close.size:
            units = _units(small) if units is None else units
            close &= _units(turned) @ units[start:].T > WHOLE - 0.001
        # flatnonzero is several times as fast as nonzero of two axes.
        rows, others = np.divmod(np.flatnonzero(close), len(later))
        rows, others = rows[rows // 8 < others], others[rows // 8 < others]
        for chunk in (slice(first, first + _CHUNK) for first in range(0, len(rows), _CHUNK)):
            alike = _alike(turned[rows[chunk]], later[others[chunk]])
            found.append(start + np.stack([rows[chunk] // 8, others[chunk]], axis=1)[alike])
        advance(len(block))
    advance(images - len(shown))
    return shown[np.unique(np.concatenate(found), axis=0)]


def families(count: int, groups: Iterable[Sequence[int]]) -> tuple[str, ...]:
    """Returns for each of `count` rows a name that is the same for all rows that the groups connect."""
    edges = np.array([(group[0], other) for group in groups for other in group[1:]], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return tuple(map(str, connected_components(graph, directed=False)[1]))


def describe(records: Sequence[Record], people: Sequence[str], groups: Sequence[Sequence[int]]) -> Copies:
    """Says what the copies have in common and what not.

    Args:
        records: N records.
        people: their persons.
        groups: rows of images that are the same, or pairs of near duplicates.
    """

    def differ(kind: Callable[[int], object]) -> int:
        """Counts the pairs whose kinds differ; None is of no kind."""
        count = 0
        for group in groups:
            kinds = Counter(each for row in group if (each := kind(row)) is not None)
            count += (kinds.total() ** 2 - sum(number**2 for number in kinds.values())) // 2
        return count

    def label(row: int) -> int | None:
        return None if records[row].label == UNLABELED else records[row].label

    paths = [tuple(records[row].path for row in group) for group in groups]
    labels = [{label(row) for row in group} - {None} for group in groups]
    return Copies(
        groups=tuple(paths),
        pairs=sum(len(group) * (len(group) - 1) // 2 for group in groups),
        subjects=differ(lambda row: records[row].subject or None),
        people=differ(lambda row: people[row] if records[row].subject else None),
        folds=differ(lambda row: records[row].fold or None),
        parts=differ(lambda row: records[row].subset),
        classes=differ(label),
        contradictory=tuple(names for names, there in zip(paths, labels, strict=True) if len(there) > 1),
    )


def _look(dataset: Dataset, record: Record) -> tuple[str, Small]:
    pixels = decode(dataset.read(record), record.path)
    return pixel_digest(pixels), _shrink(Image.fromarray(pixels))


def _shrink(image: Image.Image) -> Small:
    """Cuts the cell out by its brightness and shrinks it: neither scale nor place nor noise at the edge count."""
    gray = image.convert("L")
    pixels = np.asarray(gray)
    left, right = _extent(pixels.sum(0, dtype=np.int64))
    top, bottom = _extent(pixels.sum(1, dtype=np.int64))
    return np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))


def _extent(mass: Rows) -> tuple[float, float]:
    """The mean place ± 2 standard deviations, which are the edges of an ellipse that is evenly bright."""
    if not mass.any():
        return 0.0, float(len(mass))
    places = np.arange(len(mass)) + 0.5
    mean = float(np.average(places, weights=mass))
    spread = max(float(np.sqrt(np.average((places - mean) ** 2, weights=mass))), 0.25)
    return max(mean - 2 * spread, 0.0), min(mean + 2 * spread, float(len(mass)))


def _codes(small: Small) -> NDArray[np.uint64]:
    """Returns the hashes of the 8 versions of each image, (N, 8)."""
    codes = np.empty((len(small), 8), np.uint64)
    for start in range(0, len(small), _CHUNK):
        part = small[start : start + _CHUNK]
        for version in range(8):
            low = dctn(_turned(part, version).astype(np.float32), axes=(1, 2), norm="ortho")[:, :8, :8]
            # Above 1, not 0: what symmetry makes zero is not to be a bit of chance.
            bits = np.packbits(low.reshape(len(part), 64) > 1, axis=1)
            codes[start : start + _CHUNK, version] = bits.view(np.uint64)[:, 0]
    return codes


def _turned(small: Small, version: int) -> Small:
    """Returns one of the 8 turned and mirrored versions; 0 is as it is."""
    if version & 4:
        small = small.swapaxes(1, 2)
    if version & 2:
        small = small[:, ::-1]
    return small[:, :, ::-1] if version & 1 else small


def _alike(one: Small, other: Small) -> NDArray[np.bool_]:
    inside = (one > one.max((1, 2), keepdims=True) / 8) & (other > other.max((1, 2), keepdims=True) / 8)
    return (_correlation(one, other, np.ones_like(inside)) >= WHOLE) & (_correlation(one, other, inside) >= INSIDE)


def _correlation(one: Small, other: Small, where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns the correlation of M pairs of images over the pixels `where`, (M,); 0 where one of them is flat."""
    weight = where.reshape(len(where), -1).astype(np.float32)
    count = np.maximum(weight.sum(1, keepdims=True), 1)

    def centerd(small: Small) -> NDArray[np.float32]:
        values = small.reshape(len(small), -1).astype(np.float32)
        return (values - (values * weight).sum(1, keepdims=True) / count) * weight

    a, b = centerd(one), centerd(other)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return (a * b).sum(1) / np.maximum(size, np.float32(1e-6))


def _units(small: Small) -> NDArray[np.float32]:
    """Returns the images as vectors whose products are their correlations over the whole, (N, `SIDE`²)."""
    values = small.reshape(len(small), -1).astype(np.float32)
    values -= values.mean(1, keepdims=True)
    return values / np.linalg.norm(values, axis=1, keepdims=True)
