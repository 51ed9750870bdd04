"""Reads C-NMC 2019 (doi 10.7937/tcia.2019.dc64i46r) in the layouts in which it is distributed.

Single white blood cells on black, ``all`` (leukemic blast) or ``hem`` (normal).  The name ``UID_H3_12_4_hem.bmp`` means
subject H3, field 12, cell 4, label hem.  The subjects ``3`` (all) and ``H3`` (hem) are different; ``h3`` is H3.
"""

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from alljax.data import cnmc_index
from alljax.data.archive import Archive, natural_key, path_parts
from alljax.data.cnmc_index import CLASS_NAMES, CLASSES
from alljax.data.dataset import UNLABELED, Dataset, Record
from alljax.errors import DataError, first_few, plural

KNOWN_SUBJECTS = ({"20", "21"}, {"51", "75", "78"}, {"H2", "H4", "H5", "H6"}, {"H3", "H10"})
"""Subject names that share byte-identical images, by the SHA-256 of all 10,661 training images."""

CROPS = {(600, 600): (450, 450)}
"""Images of the final phase show more background at the same scale: without a crop, cells would look 25 % smaller."""

_NAME = re.compile(r"UID_([Hh]?\d+)_(\d+)_(\d+)_(all|hem)", re.ASCII | re.IGNORECASE)
_LABEL_FILE = re.compile(r"(phase2|c-nmc_test_prelim_phase_data_labels).*\.csv", re.IGNORECASE)
_LABEL_ROW = re.compile(r"(UID_\w+)\.\w+,(\d+)\.\w+,", re.ASCII)
_FOLD = re.compile(r"fold_(\d+)", re.ASCII)
_SUBSETS = {  # by folder name; the first match applies
    "final": {"c-nmc_test_final_phase_data", "testing_data", "phase3"},
    "prelim": {"c-nmc_test_prelim_phase_data", "validation_data", "phase2"},
    "val": {"val", "valid", "validation"},
    "test": {"test"},
    "train": {"c-nmc_training_data", "training_data", "train"},
}


def read_cnmc(archive: Archive) -> Dataset | None:
    """Reads the subsets ``train`` with its official folds, ``prelim``, and ``final`` without labels.

    Where no folder names the subset or the fold, the file name determines it: the names of the complete data set are
    known.  Returns None for another data set, in which more images have other names.
    """
    original = _original_names(archive)
    records: dict[tuple[str, ...], Record] = {}
    skipped: dict[str, list[str]] = defaultdict(list)
    named = 0
    # Unpacked files before members of zips: of repeated images, the first is used.
    for path in sorted(archive.images(), key=lambda path: ".zip/" in path.lower()):
        subset, fold, folder = _locate(archive, path)
        record = _record(path, subset, fold, original)
        if record is None:
            numbered = subset == "prelim" and _stem(path).isdigit()
            skipped["unlabeled" if numbered else "odd_name"].append(path)
            continue
        named += record.label != UNLABELED
        if folder and record.label not in (UNLABELED, CLASSES.index(folder)):
            label = CLASSES[record.label]
            skipped["contradictory"].append(
                f"{path}: the name says {label!r}, the folder {folder!r}; move or rename it"
            )
            continue
        first = records.setdefault((record.subset, *cnmc_index.identity(record)[:3]), record)
        if first.label != record.label:
            skipped["contradictory"].append(
                f"{first.path} and {path} are the same cell; remove the one with a wrong label"
            )
        elif first is not record:
            skipped["repeated"].append(path)
    if not (named or records) or named < len(skipped["odd_name"]):
        return None
    ordered = tuple(sorted(records.values(), key=lambda record: natural_key(record.path)))
    return make_dataset(
        ordered,
        read=lambda record: archive.read(record.path),
        stamp=lambda record: archive.stamp(record.path),
        notes=_notes(ordered),
        skipped=skipped,
    )


def make_dataset(records: tuple[Record, ...], **others: Any) -> Dataset:
    """Returns a `Dataset` with the classes, known subjects and crops of C-NMC 2019."""
    return Dataset(
        "cnmc", CLASSES, records, known_subjects=KNOWN_SUBJECTS, crops=CROPS, class_names=CLASS_NAMES, **others
    )


def check_complete(records: Iterable[Record], subsets: Sequence[str], source: str) -> None:
    """Refuses a copy in which images of the `subsets` to be used are missing; `source` is its name for the message."""
    missing = cnmc_index.missing(records, subsets)
    if not missing:
        return
    counts = []
    for (subset, fold, label), count in Counter(map(cnmc_index.group, missing)).items():
        words = filter(None, (subset, fold and f"fold {fold}", label))
        counts.append(f"{count:,} of {cnmc_index.KNOWN[subset, fold, label][0]:,} {' '.join(words)}")
    raise DataError(
        f"{source}: {plural(len(missing), 'image')} of C-NMC 2019 missing ({', '.join(counts)}): "
        f"{first_few(record.path for record in missing)}; use the incomplete copy with "
        f"--config.data.allow_partial=true, or list the missing images with `alljax data verify --source "
        f"{shlex.quote(source)}`"
    )


def _locate(archive: Archive, path: str) -> tuple[str, str, str]:
    """Returns subset, fold and class that the folders above an image name; empty where they do not."""
    source, *folders = (part.lower() for part in path_parts(f"{archive.root.name}/{path}")[:-1])
    # The source may be the folder of one subset; its own name "val" or "test" does not make its images that subset.
    named = {*folders, *({source} - _SUBSETS["val"] - _SUBSETS["test"])}
    folds = [found[1] for part in (source, *folders) if (found := _FOLD.fullmatch(part))]
    default = "train" if folds else ""
    subset = next((subset for subset, names in _SUBSETS.items() if names & named), default)
    label = folders[-1] if folders and folders[-1] in CLASSES else ""
    return subset, folds[-1] if folds and subset == "train" else "", label


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _record(path: str, subset: str, fold: str, original: Mapping[str, str]) -> Record | None:
    """Returns the record of an image, or None if its name does not identify it."""
    stem = _stem(path)
    if subset == "final":
        return Record(path, UNLABELED, subset="final") if stem.isdigit() else None
    match = _NAME.fullmatch(original.get(stem, stem) if subset == "prelim" else stem)
    if match is None:
        return None
    subject, field, cell, label = match[1].upper(), match[2], match[3], match[4].lower()
    if known := cnmc_index.expected().get((subject, field, cell, label)):
        subset = subset or known.subset
        fold = fold or (known.fold if subset == "train" else "")
    return Record(path, CLASSES.index(label), subject, field, cell, fold, subset or "train")


def _original_names(archive: Archive) -> dict[str, str]:
    """Reads the label CSV of the preliminary phase: original file names by new ones, all without suffix.

    The header is ``Patient_ID,new_names,labels``; its Patient_ID is the original file name.
    """
    names: dict[str, str] = {}
    for path in archive.paths:
        if _LABEL_FILE.fullmatch(path.rpartition("/")[2]):
            text = archive.read(path).decode(errors="replace")
            names |= {new: old for old, new in _LABEL_ROW.findall(text)}
    return names


def _notes(records: Sequence[Record]) -> tuple[str, ...]:
    known = [(record, cnmc_index.official(record)) for record in records]
    counts = Counter(official.subset for _, official in known if official)
    notes = [f"{name}: {counts[name]:,} of {of:,} images" for name, of in cnmc_index.COUNTS.items() if counts[name]]
    if surplus := [record.path for record, official in known if not official]:
        notes.append(f"{plural(len(surplus), 'image')} not in the complete data set: {first_few(surplus)}")
    if moved := [record.path for record, official in known if official and record.fold not in ("", official.fold)]:
        notes.append(f"{plural(len(moved), 'image')} in another fold than the official one: {first_few(moved)}")
    return tuple(notes)
