"""Reads folders with one folder per class (or a zip of them), and CSV files of paths and labels.

The layout is ``root/[subset]/class/[subject]/file``; folders named train, val, test, fold_0 … are never classes.
"""

import functools
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from alljax.data.archive import Archive, file_stamp, is_image, natural_key, natural_sort, path_parts, read_file
from alljax.data.dataset import Dataset, Record, choose_classes, skipped_notes, subject_notes
from alljax.errors import ConfigError, DataError, first_few, plural

_SUBSET = re.compile(r"(train|val|test)(ing|id|idation)?", re.IGNORECASE)
_FOLD = re.compile(r"fold_?([0-9]+)", re.IGNORECASE)
_NAMED = ("subject", "field", "cell")
_COLUMNS = ("path", "label", *_NAMED, "fold", "subset")


class _Location(NamedTuple):
    """What the folders above a file mean."""

    subset: str
    fold: str
    folders: tuple[str, ...]  # the other folders: class, subject, anything below


def read_folder(archive: Archive, classes: Sequence[str] = (), name_pattern: str = "") -> Dataset:
    """Reads ``root/[subset]/class/[subject]/file``.

    The subject is the folder below the class, if any; a name pattern takes precedence.  The same subject name in two
    classes is the same subject.  In a zip, outer folders that contain everything are skipped.

    Args:
        archive: the source.
        classes: class folders in label order; empty: all, sorted by name.
        name_pattern: regular expression, searched in each file name, whose named groups `subject`, `field` and `cell`
            identify the cell; empty: none.

    Raises:
        DataError: one of `classes` was not found, or (without `classes`) the layout is ``root/subject/class/file``.
        ConfigError: `name_pattern` is not a regular expression with one of these groups.
    """
    pattern = _compile(name_pattern)
    images, notes = _choose_images(archive)
    outer = _outer_folders(archive, images)
    if outer:
        notes.append(f"skipped the outer folder {'/'.join(outer)}")
    locate = functools.cache(lambda folder: _locate(folder, len(outer)))  # many images share a folder
    locations = {path: locate(path[: path.rfind("/") + 1]) for path in images}
    # An empty folder beside the classes is probably a class whose images are missing: `check` reports it.
    zipped = any(map(_in_zip, images))
    empty = [locate(f"{folder}/") for folder in archive.folders if zipped or ".zip" not in folder.lower()]
    found = {location.folders[0] for location in (*locations.values(), *empty) if location.folders}
    order = choose_classes(classes, sorted(found), archive.root)
    if not classes:
        _check_not_swapped(locations.values(), archive.root)
    inside = {path: location for path, location in locations.items() if {*location.folders[:1]} & {*order}}
    skipped = {"outside": [path for path in images if path not in inside]}
    notes += skipped_notes(skipped)
    if unmatched := [path for path in inside if pattern and not pattern.search(PurePosixPath(path).name)]:
        notes.append(f"data.name_pattern does not match {plural(len(unmatched), 'name')}: {first_few(unmatched)}")
    records = tuple(
        _record(path, location, order.index(location.folders[0]), pattern) for path, location in inside.items()
    )
    return Dataset(
        "folder",
        order,
        records,
        read=lambda record: archive.read(record.path),
        notes=(*notes, *subject_notes(records)),
        stamp=lambda record: archive.stamp(record.path),
        skipped=skipped,
    )


def read_csv(path: Path, classes: Sequence[str] = ()) -> Dataset:
    """Reads a CSV with the columns path, label and optionally subject, field, cell, fold, subset.

    Paths are relative to the folder of the CSV.

    Args:
        path: the CSV, UTF-8, with a header.
        classes: labels in class order; empty: all, sorted by name.

    Raises:
        DataError: not a readable CSV, a missing column or image, a repeated image, or one of `classes` was not found.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, na_filter=False, encoding="utf-8-sig", index_col=False)
    except (OSError, ValueError) as error:  # pandas's own errors are ValueErrors
        raise DataError(f"{path}: cannot be read as a CSV: {' '.join(str(error).split())}") from error
    table.columns = table.columns.str.strip().str.lower()
    if table.columns.has_duplicates:
        raise DataError(f"{path}: the column {table.columns[table.columns.duplicated()][0]!r} occurs twice; remove one")
    if missing := [name for name in ("path", "label") if name not in table]:
        raise DataError(
            f"{path}: the column {missing[0]!r} is missing; expected path, label and optionally subject and subset, "
            f"found {', '.join(table.columns)}"
        )
    table = table[[name for name in _COLUMNS if name in table]].apply(lambda column: column.str.strip())
    table["path"] = table["path"].str.replace("\\", "/", regex=False)
    _check_rows(path, table)
    order = choose_classes(classes, sorted(set(table["label"])), path)
    rows = table[table["label"].isin(order)].to_dict("records")
    records = [
        Record(**{**row, "label": order.index(row["label"]), "subset": row.get("subset") or "train"}) for row in rows
    ]
    records.sort(key=lambda record: natural_key(record.path))
    notes = list(subject_notes(records))
    if skipped := len(table) - len(records):
        notes.insert(0, f"skipped {plural(skipped, 'image')}: labels not in data.classes")
    return Dataset(
        "folder",
        order,
        tuple(records),
        read=lambda record: read_file(path.parent / record.path),
        notes=tuple(notes),
        stamp=lambda record: file_stamp(path.parent / record.path),
    )


def _choose_images(archive: Archive) -> tuple[list[str], list[str]]:
    """Returns the images to read, and notes about the others: where unpacked images exist, zips are skipped."""
    images = list(archive.images())
    notes = []
    zipped = [path for path in images if _in_zip(path)]
    if zipped and len(zipped) < len(images):
        images = [path for path in images if not _in_zip(path)]
        notes.append(f"skipped {plural(len(zipped), 'image')} in zips, because there are unpacked images")
    if others := [path for path in archive.files if not is_image(path)]:
        notes.append(f"skipped {plural(len(others), 'file')} without an image suffix: {first_few(others)}")
    return images, notes


def _in_zip(path: str) -> bool:
    return ".zip/" in path.lower()


def _outer_folders(archive: Archive, images: Iterable[str]) -> tuple[str, ...]:
    """Returns the folders that contain everything in a zip: ``photos.zip`` usually holds ``photos/cats/1.png``."""
    if archive.root.is_dir():
        return ()
    shared: Sequence[str] = os.path.commonprefix([path_parts(path)[:-2] for path in images])  # noqa: RUF071 - of tuples
    return tuple(itertools.takewhile(lambda folder: not _is_subset(folder), shared))


def _is_subset(folder: str) -> bool:
    return (_SUBSET.fullmatch(folder) or _FOLD.fullmatch(folder)) is not None


def _locate(path: str, outer: int) -> _Location:
    folders = path_parts(path)[outer:-1]
    subset = next((match[1].lower() for folder in folders if (match := _SUBSET.fullmatch(folder))), "train")
    fold = next((found[1] for folder in folders if (found := _FOLD.fullmatch(folder))), "")
    return _Location(subset, fold, tuple(folder for folder in folders if not _is_subset(folder)))


def _record(path: str, location: _Location, label: int, pattern: re.Pattern[str] | None) -> Record:
    match = pattern.search(PurePosixPath(path).name) if pattern else None
    named = {"subject": location.folders[1] if len(location.folders) > 1 else ""}
    named |= {name: value or "" for name, value in match.groupdict().items() if name in _NAMED} if match else {}
    return Record(path, label, fold=location.fold, subset=location.subset, **named)


def _check_not_swapped(locations: Iterable[_Location], source: Path) -> None:
    """Refuses ``subject/class/file``, which would train a classifier of subjects.

    A subject may have several classes.  A swapped layout shows by lower folders that repeat and have no numbers where
    all upper ones have (``pat1/blast``), or that are fewer than the upper ones and all repeat.
    """
    above: dict[str, set[str]] = defaultdict(set)
    for location in locations:
        if len(location.folders) == 1:
            return  # images directly in a class folder
        if location.folders:
            above[location.folders[1]].add(location.folders[0])
    upper, lower = natural_sort(set().union(*above.values())), natural_sort(above)
    repeated = [name for name in lower if len(above[name]) > 1]
    numbered = [{any(map(str.isdigit, name)) for name in names} for names in (upper, lower)]
    fewer = len(upper) > len(lower) == len(repeated) and numbered != [{False}, {True}]
    if len(lower) > 1 and repeated and (fewer or numbered == [{True}, {False}]):
        raise DataError(
            f"{source}: looks like one folder per subject ({first_few(upper)}) with one folder per class "
            f"({first_few(lower)}); reverse the order (class/subject/file) or list the images in a CSV; "
            f"if {upper[0]!r} is a class, name all classes in data.classes"
        )


def _compile(name_pattern: str) -> re.Pattern[str] | None:
    if not name_pattern:
        return None
    try:
        pattern = re.compile(name_pattern)
    except re.error as error:
        raise ConfigError(f"data.name_pattern {name_pattern!r} is not a regular expression: {error}") from error
    if not {*_NAMED}.intersection(pattern.groupindex):
        raise ConfigError(
            f"data.name_pattern {name_pattern!r} has no group named subject, field or cell; "
            r"write for example '^(?P<subject>\d+)_'"
        )
    return pattern


def _check_rows(path: Path, table: Any) -> None:
    if (empty := (table[["path", "label"]] == "").any(axis=1)).any():
        raise DataError(f"{path}: row {empty.argmax() + 1} has no path or no label; complete or remove it")
    if (repeated := table["path"].duplicated()).any():
        raise DataError(f"{path}: {table['path'][repeated.argmax()]} is listed twice; list every image once")
    if missing := [name for name in table["path"] if not (path.parent / name).is_file()]:
        raise DataError(
            f"{path}: {len(missing):,} of {plural(len(table), 'image')} not found (paths are relative to "
            f"{path.parent.resolve()}): {first_few(missing)}"
        )
