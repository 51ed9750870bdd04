"""Reads C-NMC 2019 (doi 10.7937/tcia.2019.dc64i46r) in the layouts in which it is distributed.

Single white blood cells on black, ``all`` (leukemic blast) or ``hem`` (normal).  The name ``UID_H3_12_4_hem.bmp`` means
subject H3, field 12, cell 4, label hem.  The subjects ``3`` (all) and ``H3`` (hem) are different; ``h3`` is H3.

`cnmc_index.txt` lists the complete data set: ``train fold_0 all 3: 1/1-2 2/1 3/1-2`` means that subject 3 has the cells
1 and 2 of field 1, cell 1 of field 2, and so on.  The final phase is ``1.bmp`` to ``2586.bmp``.
"""

import functools
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from alljax.data.archive import Archive, natural_key, path_parts
from alljax.data.dataset import UNLABELED, Dataset, Record
from alljax.errors import DataError, first_few, plural

CLASSES = ("hem", "all")  # class 1, the positive one, is the leukemic one
CLASS_NAMES = ("HEM (normal)", "ALL (leukemic blast)")  # as the authors of the data set write them
SIZES = {"train": (450, 450), "prelim": (450, 450), "final": (600, 600)}  # width and height in pixels
COUNTS = {"train": 10_661, "prelim": 1_867, "final": 2_586}  # images of each subset of the complete data set

KNOWN_SUBJECTS = ({"20", "21"}, {"51", "75", "78"}, {"H2", "H4", "H5", "H6"}, {"H3", "H10"})
"""Subject names that share byte-identical images, by the SHA-256 of all 10,661 training images."""

CROPS = {(600, 600): (450, 450)}
"""Images of the final phase show more background at the same scale: without a crop, cells would look 25 % smaller."""

LABEL_FILE = re.compile(r"(^|/)(phase2|c-nmc_test_prelim_phase_data_labels)[^/]*\.csv$", re.IGNORECASE)
"""The path of the label CSV of the preliminary phase."""

_NAME = re.compile(r"UID_([Hh]?\d+)_(\d+)_(\d+)_(all|hem)", re.ASCII | re.IGNORECASE)
_LABEL_ROW = re.compile(r"(UID_\w+)\.\w+,(\d+)\.\w+", re.ASCII)
_FOLD = re.compile(r"fold_(\d+)", re.ASCII)
_SUBSETS = {  # by folder name; the first match applies
    "final": {"c-nmc_test_final_phase_data", "testing_data", "phase3"},
    "prelim": {"c-nmc_test_prelim_phase_data", "validation_data", "phase2"},
    "val": {"val", "valid", "validation"},
    "test": {"test"},
    "train": {"c-nmc_training_data", "training_data", "train"},
}


def read_cnmc(archive: Archive) -> Dataset | None:
    """Reads all subsets, which folders or the known names tell apart; None if most names are not those of C-NMC."""
    # The label CSV of the preliminary phase has the original names, "Patient_ID", of the new ones, without suffix.
    texts = [archive.read(path).decode(errors="replace") for path in archive.paths if LABEL_FILE.search(path)]
    original = {new: old for text in texts for old, new in _LABEL_ROW.findall(text)}
    records: dict[tuple[str, ...], Record] = {}
    skipped: dict[str, list[str]] = defaultdict(list)
    contradictory, named = skipped["contradictory"], 0
    # Unpacked files before members of zips: of repeated images, the first is used.
    for path in sorted(archive.images, key=lambda path: ".zip/" in path.lower()):
        subset, fold, folder = _locate(archive, path)
        stem = PurePosixPath(path).stem
        record = _record(path, original.get(stem, stem) if subset == "prelim" else stem, subset, fold)
        if record is None:
            skipped["unlabeled" if subset == "prelim" and stem.isdigit() else "odd_name"].append(path)
            continue
        named += record.label != UNLABELED
        if folder and record.label not in (UNLABELED, CLASSES.index(folder)):
            label = CLASSES[record.label]
            contradictory.append(f"{path}: the name says {label!r}, the folder {folder!r}; move or rename it")
            continue
        first = records.setdefault((record.subset, *identity(record)[:3]), record)
        if first.label != record.label:
            contradictory.append(f"{first.path} and {path} are the same cell; remove the one with a wrong label")
        elif first is not record:
            skipped["repeated"].append(path)
    if not (named or records) or named < len(skipped["odd_name"]):
        return None
    ordered = tuple(sorted(records.values(), key=lambda record: natural_key(record.path)))
    known = {record: expected().get(identity(record)) for record in ordered}
    counts = Counter(found.subset for found in known.values() if found)
    notes = [f"{name}: {counts[name]:,} of {of:,} images" for name, of in COUNTS.items() if counts[name]]
    if odd := [one.path for one, found in known.items() if not found or one.fold not in ("", found.fold)]:
        count = plural(len(odd), "image")
        notes.append(f"{count} not in the complete data set, or there in another fold: {first_few(odd)}")
    return make_dataset(
        ordered,
        read=lambda record: archive.read(record.path),
        stamp=lambda record: archive.stamp(record.path),
        notes=tuple(notes),
        skipped=skipped,
    )


def make_dataset(records: tuple[Record, ...], **others: Any) -> Dataset:
    """Returns a `Dataset` with the classes, known subjects and crops of C-NMC 2019."""
    others |= {"known_subjects": KNOWN_SUBJECTS, "crops": CROPS, "class_names": CLASS_NAMES}
    return Dataset("cnmc", CLASSES, records, **others)


@functools.cache
def expected() -> dict[tuple[str, ...], Record]:
    """Returns the records of the 15,114 images of the complete data set by `identity`; paths are the original names."""
    lines = Path(__file__).with_name("cnmc_index.txt").read_text(encoding="ascii").splitlines()
    records = [record for line in lines for record in _parse_line(line)]
    records += [Record(f"{number}.bmp", UNLABELED, subset="final") for number in range(1, COUNTS["final"] + 1)]
    return {identity(record): record for record in records}


def identity(record: Record) -> tuple[str, ...]:
    """Returns what identifies an image in every copy: subject, field, cell and class, or its number (final phase)."""
    if record.subset == "final":
        return "final", PurePosixPath(record.path).stem
    return record.subject, record.field, record.cell, CLASSES[record.label]


def group(record: Record, classes: Sequence[str] = CLASSES) -> tuple[str, str, str]:
    """Returns subset, fold and class of a record; the class is empty where it is unknown."""
    return record.subset, record.fold, "" if record.label == UNLABELED else classes[record.label]


def check_complete(records: Iterable[Record], subsets: Sequence[str], source: str) -> None:
    """Refuses a copy in which images of the `subsets` to be used are missing; `source` is its name for the message."""
    present = {identity(record) for record in records}
    absent = [record.path for key, record in expected().items() if record.subset in subsets and key not in present]
    if absent:
        raise DataError(
            f"{source}: {plural(len(absent), 'image')} of C-NMC 2019 missing: {first_few(absent)}; use the incomplete "
            f"copy with --config.data.allow_partial=true, or list the missing images with `alljax data verify --source "
            f"{shlex.quote(source)}`"
        )


def _locate(archive: Archive, path: str) -> tuple[str, str, str]:
    """Returns subset, fold and class that the folders above an image name; empty where they do not."""
    source, *folders = (part.lower() for part in path_parts(f"{archive.root.name}/{path}")[:-1])
    # The source may be the folder of one subset; its own name "val" or "test" does not make its images that subset.
    named = {*folders, *({source} - _SUBSETS["val"] - _SUBSETS["test"])}
    folds = [found[1] for part in (source, *folders) if (found := _FOLD.fullmatch(part))]
    subset = next((subset for subset, names in _SUBSETS.items() if names & named), "train" if folds else "")
    label = folders[-1] if folders and folders[-1] in CLASSES else ""
    return subset, folds[-1] if folds and subset == "train" else "", label


def _record(path: str, name: str, subset: str, fold: str) -> Record | None:
    """Returns the record of an image by its original name without suffix, or None if that does not identify it."""
    if subset == "final":
        return Record(path, UNLABELED, subset="final") if name.isdigit() else None
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    subject, field, cell, label = match[1].upper(), match[2], match[3], match[4].lower()
    if known := expected().get((subject, field, cell, label)):
        subset = subset or known.subset
        fold = fold or (known.fold if subset == "train" else "")
    return Record(path, CLASSES.index(label), subject, field, cell, fold, subset or "train")


def _parse_line(line: str) -> Iterable[Record]:
    subset, fold, label, subject, *fields = line.replace(":", "").split()
    fold = fold.removeprefix("fold_") if subset == "train" else ""
    for field, _, ranges in (item.partition("/") for item in fields):
        for numbers in ranges.split(","):
            first, _, last = numbers.partition("-")
            for cell in map(str, range(int(first), int(last or first) + 1)):
                path = f"UID_{subject}_{field}_{cell}_{label}.bmp"
                yield Record(path, CLASSES.index(label), subject.upper(), field, cell, fold, subset)
