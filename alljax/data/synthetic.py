"""Generated white blood cells with subjects: a set to try everything on without a download.

The cells imitate C-NMC 2019 and are named like it: single stained cells on pure
black, each subject of one class.  Blasts (`all`) tend to be larger, with more
nucleus, finer chromatin, nucleoli and a rougher outline; every person has an
own size, stain and texture, and the classes overlap in each of these.  So the
set misleads as the real one does: the size alone is right for four cells of
five, and who splits cells instead of people gets better numbers than are true.
"""

import csv
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alljax.data import painting
from alljax.data.archive import natural_key
from alljax.data.cnmc_index import CLASS_NAMES, CLASSES
from alljax.data.dataset import Dataset, Record
from alljax.errors import ConfigError, DataError, plural

_SUBJECTS_ALL, _IMAGES_ALL = 47 / 73, 7_272 / 10_661  # shares of the leukemic in the real training set
_UNEVEN = (1.0, 0.75)  # log-normal spread of a subject's images (hem, all): the five largest hold what they hold there
_CELLS_A_FIELD = 5

_NAME = re.compile(r"UID_([Hh]?\d+)_(\d+)_(\d+)_(all|hem)\.bmp", re.ASCII)
_EXAMPLE = "a list of the real set's files with the columns phase, fold, uid_name and sha256"

# Independent streams of random numbers, so that a cell does not change with the number of others.
_COUNTS, _PERSON, _FIELD, _CELL = 0, 1, 2, 3


def read(subjects: int, images: int, image_size: int, seed: int, manifest: str = "") -> Dataset:
    """Returns the records of a generated set; an image is painted when it is read.

    Args:
        subjects: number of people, at least 2; 47 of 73 of them leukemic, as in the real set.
        images: number of cells, at least one a subject, unequally shared as in the real set; 68 % leukemic.
        image_size: side of the images in pixels.
        seed: not negative.
        manifest: a CSV that lists the files of the real set, with at least the columns phase, fold, uid_name
            and sha256; empty for none.  The records then are its labeled files (train and prelim), whatever
            `subjects` and `images` say, and those of one sha256 have the same pixels.

    Raises:
        ConfigError: a number out of its range.
        DataError: a manifest that is missing, or whose columns, names or hashes are not those described.
    """
    if subjects < 2 or images < subjects or image_size < 8 or seed < 0:
        raise ConfigError(
            "data.synthetic needs subjects >= 2, images >= subjects, image_size >= 8 and seed >= 0; "
            f"got subjects={subjects}, images={images}, image_size={image_size}, seed={seed}"
        )
    models: Mapping[str, Record] = {}
    if manifest:
        records, models, notes = _listed(manifest)
    else:
        records = _drawn(subjects, images, seed)
        notes = (f"{images:,} generated cells of {subjects:,} people: the numbers say nothing about leukemia",)

    def read_cell(record: Record) -> bytes:
        model = models.get(record.path, record)
        pixels = cell_image(seed, model.subject, int(model.field), int(model.cell), image_size)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "BMP")
        return file.getvalue()

    return Dataset("synthetic", CLASSES, records, read_cell, notes, class_names=CLASS_NAMES)


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
    streams = ((_PERSON, code), (_FIELD, code, field), (_CELL, code, field, cell))
    person, same_field, own = (np.random.default_rng((seed, *stream)) for stream in streams)
    return painting.paint(painting.draw_look(label, person, same_field, own), own, image_size)


def _label(subject: str) -> int:
    return CLASSES.index("hem" if subject.upper().startswith("H") else "all")


def _drawn(subjects: int, images: int, seed: int) -> tuple[Record, ...]:
    """The records of people who are not in the real set."""
    leukemic = min(max(round(_SUBJECTS_ALL * subjects), 1), subjects - 1)
    blasts = min(max(round(_IMAGES_ALL * images), leukemic), images - (subjects - leukemic))
    names = [f"H{number}" for number in range(1, subjects - leukemic + 1)]
    names += [str(number) for number in range(1, leukemic + 1)]
    rng = np.random.default_rng((seed, _COUNTS))
    counts = _shares(subjects - leukemic, images - blasts, _UNEVEN[0], rng)
    counts += _shares(leukemic, blasts, _UNEVEN[1], rng)
    records = []
    for name, count in zip(names, counts, strict=True):
        label = _label(name)
        for index in range(count):
            field, cell = index // _CELLS_A_FIELD + 1, index % _CELLS_A_FIELD + 1
            path = f"UID_{name}_{field}_{cell}_{CLASSES[label]}.bmp"
            records.append(Record(path, label, name, str(field), str(cell)))
    return tuple(records)


def _shares(people: int, images: int, spread: float, rng: np.random.Generator) -> list[int]:
    """How many images each of some people has: at least one, `images` in all."""
    weights = rng.lognormal(sigma=spread, size=people)
    # Largest remainders after one image for everybody.
    exact = weights / weights.sum() * (images - people)
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: images - people - counts.sum()]] += 1
    return [int(count) + 1 for count in counts]


def _listed(manifest: str) -> tuple[tuple[Record, ...], dict[str, Record], tuple[str, ...]]:
    """The labeled records of a manifest; of images that stand there twice the one that is painted; notes."""
    try:
        text = Path(manifest).expanduser().read_text("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), restval="")
        missing = [name for name in ("phase", "fold", "uid_name", "sha256") if name not in (rows.fieldnames or ())]
        if missing:
            raise DataError(f"{manifest}: no column {', '.join(missing)}; data.synthetic.manifest takes {_EXAMPLE}")
        by_digest: dict[str, list[Record]] = defaultdict(list)
        final = 0
        for row in rows:
            if row["phase"] == "final":
                final += 1
            else:
                by_digest[row["sha256"].lower()].append(_record(row, f"{manifest}, line {rows.line_num}"))
    except OSError as error:
        raise DataError(f"{manifest}: {error.strerror or error}; data.synthetic.manifest takes {_EXAMPLE}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{manifest}: not a readable CSV ({error}); data.synthetic.manifest takes {_EXAMPLE}"
        ) from error
    models: dict[str, Record] = {}
    for alike in by_digest.values():
        first = min(alike, key=_in_order)
        models |= {record.path: first for record in alike if record is not first}
    records = tuple(sorted(itertools.chain(*by_digest.values()), key=_in_order))
    notes = [
        f"{len(records):,} generated cells under the names of {manifest} (data.synthetic.subjects and images are not "
        "used): the numbers say nothing about leukemia"
    ]
    if final:
        notes.append(f"{plural(final, 'image')} of the final phase left out: their names are not public")
    return records, models, tuple(notes)


def _record(row: Mapping[str, str], place: str) -> Record:
    match = _NAME.fullmatch(row["uid_name"])
    if match is None or (match[4] == "hem") != match[1].upper().startswith("H"):
        raise DataError(f"{place}: the uid_name {row['uid_name']!r} is not like 'UID_H3_12_4_hem.bmp'; mend it")
    if row["phase"] not in ("train", "prelim"):
        raise DataError(f"{place}: the phase {row['phase']!r} is not train, prelim or final; mend it")
    if not re.fullmatch("[0-9a-fA-F]{64}", row["sha256"]):
        raise DataError(f"{place}: the sha256 {row['sha256']!r} has not 64 hexadecimal digits; mend it")
    subject = match[1].upper()
    fold = row["fold"].removeprefix("fold_")
    return Record(match[0], _label(subject), subject, match[2], match[3], fold, row["phase"])


def _in_order(record: Record) -> tuple[list[str | int], str]:
    return natural_key(record.path)
