"""The file names of the complete C-NMC 2019 set, as facts beside the code (`cnmc_index.txt`, 21 KB).

A line such as ``train fold_0 all 3: 1/1-2 2/1 3/1-2`` says that subject 3 has the
cells 1 and 2 of field 1, cell 1 of field 2, and so on.  The final phase is
``1.bmp`` to ``2586.bmp``.  `tests/data/test_full_scale.py` writes the list anew from the
set's manifest and compares.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alljax.data.dataset import UNLABELED, Record

CLASSES = ("hem", "all")
"""Class 1, the positive one, is the leukemic one."""

CLASS_NAMES = ("HEM (normal)", "ALL (leukemic blast)")
"""The classes as the authors of the data set write them."""


@dataclass(frozen=True)
class Known:
    """What one phase, fold and class holds.

    Attributes:
        images: number of images.
        subjects: number of subject names; 0 where the names do not tell.
        size: (width, height) in pixels.
    """

    images: int
    subjects: int
    size: tuple[int, int] = (450, 450)


KNOWN = {
    ("train", "0", "all"): Known(2_397, 19),
    ("train", "0", "hem"): Known(1_130, 9),
    ("train", "1", "all"): Known(2_418, 11),
    ("train", "1", "hem"): Known(1_163, 3),
    ("train", "2", "all"): Known(2_457, 17),
    ("train", "2", "hem"): Known(1_096, 14),
    ("prelim", "", "all"): Known(1_219, 13),
    ("prelim", "", "hem"): Known(648, 15),
    ("final", "", ""): Known(2_586, 0, (600, 600)),
}
"""The complete set by phase, fold and class."""

COUNTS = {
    phase: sum(known.images for (each, _, _), known in KNOWN.items() if each == phase)
    for phase in ("train", "prelim", "final")
}
"""Images in each phase of the complete set."""


@functools.cache
def expected() -> tuple[Record, ...]:
    """Returns a record for each of the 15,114 images of the complete set, by phase, fold, class, subject and cell.

    The path is the bare file name; that of the preliminary phase the one its
    CSV calls Patient_ID (``UID_57_29_1_all.bmp``, not ``1.bmp``).  Records of
    the final phase are unlabeled.
    """
    lines = Path(__file__).with_name("cnmc_index.txt").read_text(encoding="ascii").splitlines()
    records = [record for line in lines for record in _parse(line)]
    records += [Record(f"{number}.bmp", UNLABELED, subset="final") for number in range(1, COUNTS["final"] + 1)]
    return tuple(records)


def official(record: Record) -> Record | None:
    """Returns the image of the complete set that a record is by its name, or None where the set has no such image."""
    return _by_identity().get(identity(record))


def identity(record: Record) -> tuple[str, ...]:
    """Returns what makes a record the same image in every copy: whose cell it is, or the number in the final phase."""
    if record.subset == "final":
        return "final", PurePosixPath(record.path).stem
    return record.subject, record.field, record.cell, CLASSES[record.label]


def missing(records: Iterable[Record], phases: Sequence[str]) -> tuple[Record, ...]:
    """Returns which images of some phases of the complete set are not among the records, in the order of `expected`.

    Args:
        records: of a copy of C-NMC 2019; an image counts in whichever part it lies.
        phases: ``train``, ``prelim``, ``final``.
    """
    there = {identity(record) for record in records}
    return tuple(record for record in expected() if record.subset in phases and identity(record) not in there)


@functools.cache
def _by_identity() -> dict[tuple[str, ...], Record]:
    return {identity(record): record for record in expected()}


def _parse(line: str) -> Iterable[Record]:
    who, _, cells = line.partition(": ")
    phase, fold, label, subject = who.split()
    for group in cells.split():
        field, _, ranges = group.partition("/")
        for numbers in ranges.split(","):
            first, _, last = numbers.partition("-")
            for cell in range(int(first), int(last or first) + 1):
                yield Record(
                    path=f"UID_{subject}_{field}_{cell}_{label}.bmp",
                    label=CLASSES.index(label),
                    subject=subject.upper(),
                    field=field,
                    cell=str(cell),
                    fold=fold.removeprefix("fold_") if phase == "train" else "",
                    subset=phase,
                )
