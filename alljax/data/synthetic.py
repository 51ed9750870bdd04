"""Generated white blood cells with subjects: a set to try everything on without a download.

The cells imitate C-NMC 2019 and are named like it: single stained cells on pure
black, each subject of one class.  Blasts (`all`) tend to be larger, with more
nucleus, finer chromatin, nucleoli and a rougher outline; every person has an
own size, stain and texture, and the classes overlap in each of these.
"""

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alljax.data import painting
from alljax.data.records import Dataset, Record
from alljax.errors import ConfigError

CLASSES = ("hem", "all")

_SHARE_ALL = 0.6  # of the subjects; in the real set 47 of 73
_UNEVEN = 0.8  # log-normal spread of the number of images a subject has, about that of the real set
_CELLS_A_FIELD = 5

# Independent streams of random numbers, so that a cell does not change with the number of others.
_COUNTS, _PERSON, _CELL = 0, 1, 2


def read(subjects: int, images: int, image_size: int, seed: int) -> Dataset:
    """Returns the records of a generated set; an image is painted when it is read.

    Args:
        subjects: number of people, at least 2; three fifths of them leukemic.
        images: number of cells, at least one a subject, unequally shared as in the real set.
        image_size: side of the images in pixels.
        seed: not negative.

    Raises:
        ConfigError: a number out of its range.
    """
    if subjects < 2 or images < subjects or image_size < 8 or seed < 0:
        raise ConfigError(
            "data.synthetic needs subjects >= 2, images >= subjects, image_size >= 8 and seed >= 0; "
            f"got subjects={subjects}, images={images}, image_size={image_size}, seed={seed}"
        )
    leukemic = min(max(round(_SHARE_ALL * subjects), 1), subjects - 1)
    names = [f"H{number}" for number in range(1, subjects - leukemic + 1)]
    names += [str(number) for number in range(1, leukemic + 1)]
    records = []
    for name, count in zip(names, _counts(subjects, images, seed), strict=True):
        label = _label(name)
        for index in range(count):
            field, cell = index // _CELLS_A_FIELD + 1, index % _CELLS_A_FIELD + 1
            path = f"UID_{name}_{field}_{cell}_{CLASSES[label]}.bmp"
            records.append(Record(path, label, name, str(field), str(cell)))

    def read_cell(record: Record) -> bytes:
        pixels = cell_image(seed, record.subject, int(record.field), int(record.cell), image_size)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "BMP")
        return file.getvalue()

    note = f"{images:,} generated cells of {subjects:,} people: the numbers say nothing about leukemia"
    return Dataset("synthetic", CLASSES, tuple(records), read_cell, (note,))


def cell_image(seed: int, subject: str, field: int, cell: int, image_size: int) -> NDArray[np.uint8]:
    """Paints one cell.

    Its pixels depend on the arguments alone, not on how many other cells there are.

    Args:
        seed: of the whole set.
        subject: a name like ``"12"`` (leukemic) or ``"H3"`` (normal).
        field: number of the microscope field.
        cell: number of the cell in its field.
        image_size: side S in pixels.

    Returns:
        RGB, shape (S, S, 3); exactly black outside the cell.
    """
    label = _label(subject)
    code = 2 * int(re.sub(r"\D", "", subject)) + label
    person = np.random.default_rng((seed, _PERSON, code))
    own = np.random.default_rng((seed, _CELL, code, field, cell))
    return painting.paint(painting.draw_look(label, person, own), own, image_size)


def _label(subject: str) -> int:
    return CLASSES.index("hem" if subject.upper().startswith("H") else "all")


def _counts(subjects: int, images: int, seed: int) -> list[int]:
    """How many images each subject has: at least one, `images` in all, as uneven as in the real set."""
    weights = np.random.default_rng((seed, _COUNTS)).lognormal(sigma=_UNEVEN, size=subjects)
    # Largest remainders after one image for everybody.
    exact = weights / weights.sum() * (images - subjects)
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: images - subjects - counts.sum()]] += 1
    return [int(count) + 1 for count in counts]
