"""Reads C-NMC 2019 (doi 10.7937/tcia.2019.dc64i46r) in the layouts in which it is distributed.

Single white blood cells on black, ``all`` (leukemic blast) or ``hem`` (normal).  The name ``UID_H3_12_4_hem.bmp`` means
subject H3, field 12, cell 4, label hem.  The subjects ``3`` (all) and ``H3`` (hem) are different; ``h3`` is H3.
"""

import csv
import functools
import io
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from alljax.data import cnmc_index
from alljax.data.archive import Archive, path_parts
from alljax.data.cnmc_index import CLASS_NAMES, CLASSES
from alljax.data.dataset import UNLABELED, Dataset, Record, skipped_notes, subject_notes
from alljax.errors import DataError, first_few, plural

KNOWN_SUBJECTS = (
    frozenset(("20", "21")),
    frozenset(("51", "75", "78")),
    frozenset(("H2", "H4", "H5", "H6")),
    frozenset(("H3", "H10")),
)
"""Subject names that share byte-identical images, by the SHA-256 of all 10,661 training images."""

CROPS = {(600, 600): (450, 450)}
"""Images of the final phase show more background at the same scale: without a crop, cells would look 25 % smaller."""

_NAME = re.compile(r"UID_([Hh]?\d+)_(\d+)_(\d+)_(all|hem)", re.ASCII | re.IGNORECASE)
_FOLD = re.compile(r"fold_(\d+)", re.ASCII)
_SUBSETS = {  # by folder name; the first match applies
    "final": re.compile("c-nmc_test_final_phase_data|testing_data|phase3"),
    "prelim": re.compile("c-nmc_test_prelim_phase_data|validation_data|phase2"),
    "val": re.compile("val|valid|validation"),
    "test": re.compile("test"),
    "train": re.compile("c-nmc_training_data|training_data|train"),
}


class _Location(NamedTuple):
    """What the folders above an image mean; empty where they say nothing."""

    subset: str
    fold: str
    label: str


def is_cnmc(archive: Archive) -> bool:
    """Returns whether a source is a copy of C-NMC 2019, complete or in part.

    At least half of the images outside the two test phases have C-NMC names, or all images are of a test phase.
    """
    subsets = {path: _locate(archive, path).subset for path in archive.images()}
    others = [path for path, subset in subsets.items() if subset not in ("prelim", "final")]
    if others:
        return sum(1 for path in others if _NAME.fullmatch(_stem(path))) * 2 >= len(others)
    numbered = (path for path, subset in subsets.items() if subset == "final" and _stem(path).isdigit())
    return any(numbered) or bool(_original_names(archive)[0])


def read_cnmc(archive: Archive) -> Dataset:
    """Reads the subsets ``train`` with its official folds, ``prelim``, and ``final`` without labels.

    Where no folder names the subset or the fold, the file name determines it: the names of the complete data set are
    known.  `Dataset.notes` counts the images of each subset and the skipped ones.  `Dataset.skipped` has the reason
    ``contradictory`` where a folder contradicts a file name, the label CSV of the preliminary phase is damaged, or one
    cell has two labels.
    """
    original, damaged = _original_names(archive)
    records: dict[tuple[str, ...], Record] = {}
    skipped: dict[str, list[str]] = defaultdict(list, contradictory=damaged)
    # Unpacked files before members of zips: of repeated images, the first is used.
    for path in sorted(archive.images(), key=lambda path: ".zip/" in path.lower()):
        location = _locate(archive, path)
        record = _record(path, location, original)
        if record is None:
            numbered = location.subset == "prelim" and _stem(path).isdigit()
            skipped["unlabeled" if numbered else "odd_name"].append(path)
            continue
        if location.label and record.label not in (UNLABELED, CLASSES.index(location.label)):
            label = CLASSES[record.label]
            skipped["contradictory"].append(
                f"{path}: its name has the label {label!r} but it is in the folder {location.label!r}; "
                f"move it to the folder {label!r}"
            )
            continue
        first = records.setdefault((record.subset, *cnmc_index.identity(record)[:3]), record)
        if first.label != record.label:
            skipped["contradictory"].append(
                f"{first.path} and {path} are the same cell with two labels; remove the wrong one"
            )
        elif first is not record:
            skipped["repeated"].append(path)
    by_path = {record.path: record for record in records.values()}
    ordered = tuple(by_path[path] for path in archive.images() if path in by_path)
    return make_dataset(
        ordered,
        read=lambda record: archive.read(record.path),
        stamp=lambda record: archive.stamp(record.path),
        notes=_notes(ordered, skipped),
        skipped=skipped,
    )


def make_dataset(records: tuple[Record, ...], **others: Any) -> Dataset:
    """Returns a `Dataset` with the classes, known subjects and crops of C-NMC 2019."""
    return Dataset(
        "cnmc", CLASSES, records, known_subjects=KNOWN_SUBJECTS, crops=CROPS, class_names=CLASS_NAMES, **others
    )


def check_complete(records: Iterable[Record], subsets: Sequence[str], source: str) -> None:
    """Refuses an incomplete copy.

    Args:
        records: all records of the copy.
        subsets: the subsets to be used; others may be incomplete.
        source: the copy as the user wrote it, for messages.

    Raises:
        DataError: with the number of missing images per subset, fold and class, the first names, and what to do.
    """
    missing = cnmc_index.missing(records, subsets)
    if not missing:
        return
    groups = Counter(cnmc_index.group(record) for record in missing)
    counts = ", ".join(
        f"{count:,} of {cnmc_index.KNOWN[subset, fold, label][0]:,} "
        + " ".join(filter(None, (subset, fold and f"fold {fold}", label)))
        for (subset, fold, label), count in groups.items()
    )
    raise DataError(
        f"{source}: {plural(len(missing), 'image')} of C-NMC 2019 missing ({counts}): "
        f"{first_few(record.path for record in missing)}; use the incomplete copy with "
        f"--config.data.allow_partial=true, or list the missing images with `alljax data verify --source "
        f"{shlex.quote(source)}`"
    )


def _locate(archive: Archive, path: str) -> _Location:
    # The name of the source may be that of one subset of the data set.
    return _parse_folders(f"{archive.name}/{path[: path.rfind('/') + 1]}")


@functools.cache
def _parse_folders(path: str) -> _Location:
    folders = [part.lower() for part in path_parts(path)[:-1]]
    folds = [found[1] for part in folders if (found := _FOLD.fullmatch(part))]
    named = {*folders[1:], *({folders[0]} - {"val", "valid", "validation", "test"})}
    matches = (subset for subset, pattern in _SUBSETS.items() if any(map(pattern.fullmatch, named)))
    subset = next(matches, "train" if folds else "")
    return _Location(
        subset,
        fold=folds[-1] if folds and subset == "train" else "",
        label=folders[-1] if len(folders) > 1 and folders[-1] in CLASSES else "",
    )


def _stem(path: str) -> str:
    """Returns the file name without folders and suffix."""
    return path.rpartition("/")[2].rpartition(".")[0]


def _record(path: str, location: _Location, original: Mapping[str, str]) -> Record | None:
    """Returns the record of an image, or None if its name does not identify it."""
    stem = _stem(path)
    if location.subset == "final":
        return Record(path, UNLABELED, subset="final") if stem.isdigit() else None
    match = _NAME.fullmatch(original.get(stem, stem) if location.subset == "prelim" else stem)
    if match is None:
        return None
    subject, field, cell, label = match.groups()
    record = Record(
        path, CLASSES.index(label.lower()), subject.upper(), field, cell, location.fold, location.subset or "train"
    )
    if known := cnmc_index.official(record):
        subset = location.subset or known.subset
        return replace(record, subset=subset, fold=location.fold or (known.fold if subset == "train" else ""))
    return record


def _original_names(archive: Archive) -> tuple[dict[str, str], list[str]]:
    """Reads the label CSV of the preliminary phase: original names by new names without suffixes, and what is wrong.

    The header is ``Patient_ID,new_names,labels``; its Patient_ID is the original file name.
    """
    names: dict[str, str] = {}
    for path in archive.files:
        file = path.rpartition("/")[2].lower()
        if file == "phase2.csv" or ("prelim" in file and file.endswith(".csv")):
            try:
                text = archive.read(path).decode("utf-8-sig")
                for row in csv.DictReader(io.StringIO(text, newline="")):
                    names[PurePosixPath(row["new_names"].strip()).stem] = PurePosixPath(row["Patient_ID"].strip()).stem
            except (UnicodeDecodeError, csv.Error, KeyError, AttributeError):
                return {}, [f"{path}: not a CSV with the columns Patient_ID,new_names,labels; download it again"]
    return names, []


def _notes(records: Sequence[Record], skipped: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    known = [(record, cnmc_index.official(record)) for record in records]
    counts = Counter(official.subset for _, official in known if official)
    complete = cnmc_index.COUNTS.items()
    notes = [f"{subset}: {counts[subset]:,} of {count:,} images" for subset, count in complete if counts[subset]]
    if surplus := [record.path for record, official in known if not official]:
        notes.append(f"{plural(len(surplus), 'image')} not in the complete data set: {first_few(surplus)}")
    if moved := [record.path for record, official in known if official and record.fold not in ("", official.fold)]:
        notes.append(f"{plural(len(moved), 'image')} in another fold than the official one: {first_few(moved)}")
    of_subjects = subject_notes(records) if counts["train"] + counts["prelim"] else ()
    return (*notes, *skipped_notes(skipped), *of_subjects)
