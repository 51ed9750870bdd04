"""C-NMC 2019 (doi 10.7937/tcia.2019.dc64i46r) in the layouts in which people have it.

Single white blood cells on black, ``all`` (leukemic blast) or ``hem`` (normal).
A name such as ``UID_H3_12_4_hem.bmp`` says subject H3, field 12, cell 4, label.
The subjects ``3`` (all) and ``H3`` (hem) are different people.  One subject is
written ``h3`` by the source and counts as H3.
"""

import csv
import functools
import io
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from alljax.data import cnmc_index
from alljax.data.archive import Tree, parts
from alljax.data.dataset import UNLABELED, Dataset, Record, subject_notes
from alljax.errors import DataError, first_few, plural

CLASSES = cnmc_index.CLASSES

KNOWN_SUBJECTS = (
    frozenset(("20", "21")),
    frozenset(("51", "75", "78")),
    frozenset(("H2", "H4", "H5", "H6")),
    frozenset(("H3", "H10")),
)
"""Subject names that share byte-identical images, over the SHA-256 of all 10,661 training images."""

CROPS = {(600, 600): (450, 450)}
"""Images of the final phase show more ground at the same scale: uncut, their cells would look 25 % smaller."""

_NAME = re.compile(r"UID_([Hh]?\d+)_(\d+)_(\d+)_(all|hem)", re.ASCII | re.IGNORECASE)
_FOLD = re.compile(r"fold_(\d+)", re.ASCII)
_PHASES = {
    "c-nmc_test_final_phase_data": "final",
    "testing_data": "final",
    "phase3": "final",
    "c-nmc_test_prelim_phase_data": "prelim",
    "validation_data": "prelim",
    "phase2": "prelim",
}
_OTHER_SPLITS = {"val": "val", "valid": "val", "validation": "val", "test": "test"}
_TRAIN = frozenset(("c-nmc_training_data", "training_data", "train"))
_HEADER = ("patient_id", "new_names", "labels")
_WHAT = {
    "train": "training cells",
    "prelim": "cells of the preliminary phase",
    "final": "images of the final phase",
}


def recognize(tree: Tree) -> bool:
    """Says whether a source is a copy of C-NMC 2019, whole or in part.

    It is when at least half of the images outside the two test phases carry
    C-NMC names, or when there are none but images of a test phase.
    """
    place_of = _places(tree)
    phases = {path: place_of(path).phase for path in tree.images()}
    others = [path for path, phase in phases.items() if phase not in ("prelim", "final")]
    if others:
        return sum(1 for path in others if _NAME.fullmatch(_stem(path))) * 2 >= len(others)
    numbered = (path for path, phase in phases.items() if phase == "final" and _stem(path).isdigit())
    return any(numbered) or bool(_label_tables(tree))


def read(tree: Tree) -> Dataset:
    """Reads C-NMC 2019: split ``train`` with its official folds, split ``prelim``, split ``final`` without labels.

    Where no folder says the phase or the fold, the image's own name does: the
    names of the complete set are known.  `Dataset.notes` says how many images
    of each phase are there and which were left out.

    Raises:
        DataError: a folder or the table of the preliminary phase contradicts a name, that table is
            damaged, or one cell stands under two labels.
    """
    tables = _label_tables(tree)
    new_names = _join(tables)
    unlabeled = "not in the label CSV" if tables else "the label CSV of the preliminary phase is missing beside them"
    place_of = _places(tree)
    records: dict[tuple[str, ...], Record] = {}
    left: dict[str, list[str]] = defaultdict(list)
    images = tree.images()
    # Unpacked files before members of zips: of an image that stands twice, the first is used.
    for path in sorted(images, key=lambda path: ".zip/" in path.lower()):
        place, stem = place_of(path), _stem(path)
        if (record := _record(path, place, stem, new_names)) is None:
            left[unlabeled if place.phase == "prelim" and stem.isdigit() else "names that do not parse"].append(path)
        elif records.setdefault((record.subset, *cnmc_index.identity(record)), record) is not record:
            left["standing twice (the first is used)"].append(path)
    by_path = {record.path: record for record in records.values()}
    ordered = tuple(by_path[path] for path in images if path in by_path)
    _check_one_label(ordered)
    return Dataset(
        name="cnmc",
        classes=CLASSES,
        records=ordered,
        read=lambda record: tree.read(record.path),
        notes=_notes(ordered, left),
        known_subjects=KNOWN_SUBJECTS,
        crops=CROPS,
        class_names=cnmc_index.CLASS_NAMES,
    )


def check_complete(records: Iterable[Record], phases: Sequence[str], source: str) -> None:
    """Refuses a copy from which images are missing.

    Args:
        records: all records of the copy.
        phases: those that are used; of others, images may be missing.
        source: the copy as the person wrote it, for the message.

    Raises:
        DataError: says how many of each phase, fold and class are missing, the first names, and what to do.
    """
    absent = cnmc_index.missing(records, phases)
    if not absent:
        return
    groups = Counter(
        (each.subset, each.fold, "" if each.label == UNLABELED else CLASSES[each.label]) for each in absent
    )
    listed = ", ".join(
        f"{count:,} of {cnmc_index.KNOWN[phase, fold, label].images:,} "
        + " ".join(filter(None, (phase, fold and f"fold {fold}", label)))
        for (phase, fold, label), count in groups.items()
    )
    raise DataError(
        f"{source}: {plural(len(absent), 'image')} of C-NMC 2019 missing ({listed}): "
        f"{first_few(each.path for each in absent)}; use it as it is with --config.data.allow_partial=true, "
        f"or see all that is missing with `alljax data verify --source {shlex.quote(source)}`"
    )


@dataclass(frozen=True)
class _Place:
    """What the folders above an image say; empty where they say nothing."""

    phase: str
    fold: str
    label: str


def _places(tree: Tree) -> Callable[[str], _Place]:
    """Returns what tells the place of a path; each folder is looked at once."""

    @functools.cache
    def place(above: str) -> _Place:
        # The source's own name comes first: it may be a part of the set.
        folders = [part.lower() for part in parts(f"{tree.name}/{above}")[:-1]]
        folds = [found[1] for folder in folders if (found := _FOLD.fullmatch(folder))]
        named = {_PHASES[folder] for folder in folders if folder in _PHASES}
        others = [_OTHER_SPLITS[folder] for folder in folders[1:] if folder in _OTHER_SPLITS]
        train = ["train"] if folds or _TRAIN.intersection(folders) else []
        phase = next(iter([*sorted(named), *others, *train]), "")
        return _Place(
            phase,
            fold=folds[-1] if folds and phase == "train" else "",
            label=folders[-1] if len(folders) > 1 and folders[-1] in CLASSES else "",
        )

    return lambda path: place(path[: path.rfind("/") + 1])


def _stem(path: str) -> str:
    """The name without folders and suffix."""
    return path.rpartition("/")[2].rpartition(".")[0]


def _record(path: str, place: _Place, stem: str, new_names: Mapping[str, str]) -> Record | None:
    """The record of an image, or None where its name says nothing."""
    if place.phase == "final":
        return Record(path, UNLABELED, subset="final") if stem.isdigit() else None
    match = _NAME.fullmatch(new_names.get(stem, stem) if place.phase == "prelim" else stem)
    if match is None:
        return None
    subject, field, cell, label = match.groups()
    if place.label not in ("", label.lower()):
        raise DataError(
            f"{path}: its name says {label!r} but it lies in the folder {place.label!r}; "
            "move it to the folder of its name"
        )
    record = Record(
        path, CLASSES.index(label.lower()), subject.upper(), field, cell, place.fold, place.phase or "train"
    )
    if known := cnmc_index.official(record):
        subset = place.phase or known.subset
        record = replace(record, subset=subset, fold=place.fold or (known.fold if subset == "train" else ""))
    return record


def _check_one_label(records: Iterable[Record]) -> None:
    seen: dict[tuple[str, ...], Record] = {}
    for record in records:
        first = seen.setdefault((record.subject, record.field, record.cell), record)
        if record.subject and first.label != record.label:
            raise DataError(
                f"{first.path} and {record.path} are the same cell under two labels; remove the one that is wrong"
            )


def _label_tables(tree: Tree) -> dict[str, list[tuple[str, str, str]]]:
    """Finds the CSV files of the preliminary phase: their rows (old name, new name, label) by path.

    In the header `Patient_ID` means the old file name.
    """
    tables = {}
    for path in tree.files:
        name = path.rpartition("/")[2].lower()
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
    back: dict[str, str] = {}
    for path, rows in tables.items():
        for old, new, _ in rows:
            key, value = PurePosixPath(new).stem, PurePosixPath(old).stem
            if names.setdefault(key, value) != value:
                raise DataError(f"{path}: {new} is both {names[key]} and {value}; fetch it again")
            if back.setdefault(value, key) != key:
                raise DataError(f"{path}: {old} is both {back[value]} and {key}; fetch it again")
    return names


def _notes(records: Sequence[Record], left: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    known = [(record, cnmc_index.official(record)) for record in records]
    there = Counter(official.subset for _, official in known if official)
    notes = [
        f"{there[phase]:,} of {cnmc_index.COUNTS[phase]:,} {what} present"
        for phase, what in _WHAT.items()
        if there[phase]
    ]
    if surplus := [record.path for record, official in known if not official]:
        notes.append(f"{plural(len(surplus), 'image')} that the complete set does not have: {first_few(surplus)}")
    if moved := [record.path for record, official in known if official and record.fold not in ("", official.fold)]:
        notes.append(f"{plural(len(moved), 'image')} in another fold than in the complete set: {first_few(moved)}")
    notes += [f"{plural(len(paths), 'image')} left out, {why}: {first_few(paths)}" for why, paths in left.items()]
    return (*notes, *(subject_notes(records) if there["train"] + there["prelim"] else ()))
