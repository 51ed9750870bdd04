"""The file names of the complete C-NMC 2019 data set, stored in `cnmc_index.txt` (21 KB).

The line ``train fold_0 all 3: 1/1-2 2/1 3/1-2`` means that subject 3 has the cells 1 and 2 of field 1, cell 1 of
field 2, and so on.  The final phase is ``1.bmp`` to ``2586.bmp``.
"""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from alljax.data.dataset import UNLABELED, Record

CLASSES = ("hem", "all")
"""Class 1, the positive one, is the leukemic one."""

CLASS_NAMES = ("HEM (normal)", "ALL (leukemic blast)")
"""The classes as the authors of the data set write them."""

KNOWN = {
    ("train", "0", "all"): (2_397, 19),
    ("train", "0", "hem"): (1_130, 9),
    ("train", "1", "all"): (2_418, 11),
    ("train", "1", "hem"): (1_163, 3),
    ("train", "2", "all"): (2_457, 17),
    ("train", "2", "hem"): (1_096, 14),
    ("prelim", "", "all"): (1_219, 13),
    ("prelim", "", "hem"): (648, 15),
    ("final", "", ""): (2_586, 0),
}
"""Number of images and of subject names (0: not in the file names) by subset, fold and class."""

SIZES = {"train": (450, 450), "prelim": (450, 450), "final": (600, 600)}
"""Width and height in pixels by subset."""

COUNTS = {"train": 10_661, "prelim": 1_867, "final": 2_586}
"""Number of images per subset of the complete data set."""


@functools.cache
def expected() -> dict[tuple[str, ...], Record]:
    """Returns the records of the 15,114 images of the complete data set by `identity`, ordered as in the list.

    Paths are bare file names; in the preliminary phase the original ones (``UID_57_29_1_all.bmp``, not ``1.bmp``).
    """
    lines = Path(__file__).with_name("cnmc_index.txt").read_text(encoding="ascii").splitlines()
    records = [record for line in lines for record in _parse(line)]
    records += [Record(f"{number}.bmp", UNLABELED, subset="final") for number in range(1, COUNTS["final"] + 1)]
    return {identity(record): record for record in records}


def identity(record: Record) -> tuple[str, ...]:
    """Returns what identifies an image in every copy: subject, field, cell and class, or its number (final phase)."""
    if record.subset == "final":
        return "final", PurePosixPath(record.path).stem
    return record.subject, record.field, record.cell, CLASSES[record.label]


def official(record: Record) -> Record | None:
    """Returns the record of the same image in the complete data set, or None."""
    return expected().get(identity(record))


def group(record: Record) -> tuple[str, str, str]:
    """Returns subset, fold and class of a record: a key of `KNOWN`."""
    return record.subset, record.fold, "" if record.label == UNLABELED else CLASSES[record.label]


def missing(records: Iterable[Record], subsets: Sequence[str]) -> list[Record]:
    """Returns the images of `subsets` in the complete data set that no subset of a copy has, ordered as `expected`."""
    present = {identity(record) for record in records}
    return [record for key, record in expected().items() if record.subset in subsets and key not in present]


def _parse(line: str) -> Iterable[Record]:
    group, _, cells = line.partition(": ")
    subset, fold, label, subject = group.split()
    fold = fold.removeprefix("fold_") if subset == "train" else ""
    for item in cells.split():
        field, _, ranges = item.partition("/")
        for numbers in ranges.split(","):
            first, _, last = numbers.partition("-")
            for cell in map(str, range(int(first), int(last or first) + 1)):
                path = f"UID_{subject}_{field}_{cell}_{label}.bmp"
                yield Record(path, CLASSES.index(label), subject.upper(), field, cell, fold, subset)
