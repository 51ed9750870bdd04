"""C-NMC 2019 (doi 10.7937/tcia.2019.dc64i46r) in the layouts in which people have it.

Single white blood cells on black, ``all`` (leukemic blast) or ``hem`` (normal).
A name such as ``UID_H3_12_4_hem.bmp`` says subject H3, field 12, cell 4, label.
The subjects ``3`` (all) and ``H3`` (hem) are different people.  One subject is
written ``h3`` by the source and counts as H3.
"""

import csv
import io
import re
from collections import Counter
from pathlib import PurePosixPath

from alljax.data.records import Dataset, Record
from alljax.data.tree import Tree, counted, natural_key, parts, some
from alljax.errors import DataError

CLASSES = ("hem", "all")
"""Class 1, the positive one, is the leukemic one."""

KNOWN_PEOPLE = (
    frozenset(("20", "21")),
    frozenset(("51", "75", "78")),
    frozenset(("H2", "H4", "H5", "H6")),
    frozenset(("H3", "H10")),
)
"""Subject names that share byte-identical images, over the SHA-256 of all 10,661 training images."""

COUNTS = {"train": 10_661, "prelim": 1_867, "final": 2_586}
"""Images in each phase of the complete set."""

_NAME = re.compile(r"UID_([Hh]?\d+)_(\d+)_(\d+)_(all|hem)", re.ASCII | re.IGNORECASE)
_FOLD = re.compile(r"fold_(\d+)", re.ASCII)
_PRELIM = frozenset(("c-nmc_test_prelim_phase_data", "validation_data", "phase2"))
_FINAL = frozenset(("c-nmc_test_final_phase_data", "testing_data", "phase3"))
_OTHER_SPLITS = {"val": "val", "valid": "val", "validation": "val", "test": "test"}
_HEADER = ("patient_id", "new_names", "labels")


def recognise(tree: Tree) -> bool:
    """Says whether a source is a copy of C-NMC 2019, whole or in part.

    It is when at least half of the images outside the two test phases carry
    C-NMC names, or when there are none but images of a test phase.
    """
    phases = {path: _phase(tree, path) for path in tree.images()}
    others = [path for path, phase in phases.items() if phase not in ("prelim", "final")]
    if others:
        return sum(1 for path in others if _NAME.fullmatch(_stem(path))) * 2 >= len(others)
    return "final" in phases.values() or bool(_label_tables(tree))


def read(tree: Tree) -> Dataset:
    """Reads the labelled images of C-NMC 2019: split ``train`` with folds, split ``prelim`` without.

    The final phase has no public labels and is left out; `Dataset.notes` says
    so, and how many images of each phase are there.

    Raises:
        DataError: a folder or the table of the preliminary phase contradicts a name, or that table is
            damaged.
    """
    tables = _label_tables(tree)
    new_names = _join(tables)
    records: dict[tuple[str, str], Record] = {}
    odd: list[str] = []
    unlabelled: list[str] = []
    repeated: list[str] = []
    final = 0
    # Unpacked files before members of zips: of an image that stands twice, the first is used.
    for path in sorted(tree.images(), key=lambda path: (".zip/" in path.lower(), natural_key(path))):
        split = _phase(tree, path)
        if split == "final":
            final += 1
            continue
        stem = _stem(path)
        name = new_names.get(stem, stem) if split == "prelim" else stem
        match = _NAME.fullmatch(name)
        if match is None:
            (unlabelled if split == "prelim" and stem.isdigit() else odd).append(path)
            continue
        record = _record(tree, path, split, match)
        if records.setdefault((split, name.lower()), record) is not record:
            repeated.append(path)
    ordered = tuple(sorted(records.values(), key=lambda record: natural_key(record.path)))
    return Dataset(
        name="cnmc",
        classes=CLASSES,
        records=ordered,
        read=lambda record: tree.read(record.path),
        notes=_notes(ordered, odd, unlabelled, repeated, final, tables),
        known_people=KNOWN_PEOPLE,
    )


def _stem(path: str) -> str:
    """The name without folders and suffix."""
    return path.rpartition("/")[2].rpartition(".")[0]


def _folders(tree: Tree, path: str) -> tuple[str, ...]:
    """The folders above an image in lower case, the source's own name first: it may be a part of the set."""
    return tuple(part.lower() for part in parts(f"{tree.name}/{path}")[:-1])


def _phase(tree: Tree, path: str) -> str:
    folders = _folders(tree, path)
    if _FINAL.intersection(folders):
        return "final"
    if _PRELIM.intersection(folders):
        return "prelim"
    return next((_OTHER_SPLITS[folder] for folder in folders[1:] if folder in _OTHER_SPLITS), "train")


def _record(tree: Tree, path: str, split: str, match: re.Match[str]) -> Record:
    subject, field, cell, label = match.groups()
    folders = _folders(tree, path)
    if folders[-1] in CLASSES and len(folders) > 1 and folders[-1] != label.lower():
        raise DataError(
            f"{path}: its name says {label!r} but it lies in the folder {folders[-1]!r}; "
            "move it to the folder of its name"
        )
    folds = [found[1] for folder in folders if (found := _FOLD.fullmatch(folder))]
    return Record(
        path=path,
        label=CLASSES.index(label.lower()),
        subject=subject.upper(),
        field=field,
        cell=cell,
        fold=folds[-1] if folds and split == "train" else "",
        split=split,
    )


def _label_tables(tree: Tree) -> dict[str, list[tuple[str, str, str]]]:
    """Finds the CSV files of the preliminary phase: their rows (old name, new name, label) by path.

    In the header `Patient_ID` means the old file name.
    """
    tables = {}
    for path in tree.files:
        name = PurePosixPath(path).name.lower()
        meant = name == "phase2.csv" or ("prelim" in name and name.endswith(".csv"))
        if not meant:
            continue
        try:
            rows = list(csv.reader(io.StringIO(tree.read(path).decode("utf-8-sig"), newline="")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: not a readable CSV ({error}); fetch it again") from error
        if not rows or tuple(cell.strip().lower() for cell in rows[0]) != _HEADER:
            raise DataError(f"{path}: expected the header Patient_ID,new_names,labels; fetch it again")
        tables[path] = [_row(path, line, row) for line, row in enumerate(rows[1:], start=2) if row]
    return tables


def _row(path: str, line: int, row: list[str]) -> tuple[str, str, str]:
    cells = [cell.strip() for cell in row]
    match = _NAME.fullmatch(PurePosixPath(cells[0]).stem)
    if len(cells) != 3 or match is None or cells[2] not in ("0", "1"):
        raise DataError(
            f"{path}, line {line}: {','.join(row)!r} is not like 'UID_57_29_1_all.bmp,1.bmp,1'; fetch the file again"
        )
    if CLASSES[int(cells[2])] != match[4].lower():
        raise DataError(f"{path}, line {line}: the label {cells[2]} contradicts {cells[0]}; fetch it again")
    return cells[0], cells[1], cells[2]


def _join(tables: dict[str, list[tuple[str, str, str]]]) -> dict[str, str]:
    """Returns the old name by the new one, both without their suffix so that PNG copies join too."""
    names: dict[str, str] = {}
    for path, rows in tables.items():
        for old, new, _ in rows:
            key, value = PurePosixPath(new).stem, PurePosixPath(old).stem
            if names.setdefault(key, value) != value:
                raise DataError(f"{path}: {new} is both {names[key]} and {value}; fetch it again")
    return names


def _notes(
    records: tuple[Record, ...],
    odd: list[str],
    unlabelled: list[str],
    repeated: list[str],
    final: int,
    tables: dict[str, list[tuple[str, str, str]]],
) -> tuple[str, ...]:
    there = Counter(record.split for record in records)
    notes = []
    if there["train"]:
        notes.append(f"{there['train']:,} of {COUNTS['train']:,} training cells present")
    if there["prelim"]:
        notes.append(f"{there['prelim']:,} of {COUNTS['prelim']:,} cells of the preliminary phase present")
    if final:
        notes.append(f"{counted(final, 'image')} of the final phase left out: their labels are not public")
    if unlabelled:
        missing = "they are not in the label CSV" if tables else "the label CSV is missing beside their folder"
        notes.append(f"{counted(len(unlabelled), 'image')} of the preliminary phase left out: {missing}")
    if odd:
        notes.append(f"{counted(len(odd), 'image')} left out, names that do not parse: {some(odd)}")
    if repeated:
        notes.append(
            f"{counted(len(repeated), 'image')} left out, standing twice (the first is used): {some(repeated)}"
        )
    return tuple(notes)
