"""Any class-per-folder tree (folder or zip) and any CSV of paths and labels, as records.

A tree is ``root/[subset]/class/[subject]/file``.  Folders called train, val,
test, fold_0 and the like are never taken for classes.
"""

import csv
import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alljax.data.archive import Tree, is_image, natural, natural_key, parts
from alljax.data.dataset import Dataset, Record, choose_classes, subject_notes
from alljax.errors import ConfigError, DataError, first_few, plural

_SUBSETS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_FOLD = re.compile(r"fold_?([0-9]+)", re.IGNORECASE)
_COLUMNS = ("path", "label", "subject", "field", "cell", "fold", "subset")


@dataclass(frozen=True)
class _Place:
    """What the folders above a file say."""

    subset: str
    fold: str
    named: tuple[str, ...]  # the other folders: class, subject, anything below


def read_tree(tree: Tree, classes: Sequence[str] = (), name_pattern: str = "") -> Dataset:
    """Reads ``root/[subset]/class/[subject]/file``.

    The subject is the folder below the class where there is one; a name
    pattern, where given, has the last word.  The same subject name under two
    classes means one person.  Around the classes of a zip any outer folder
    that holds everything is passed over.

    Args:
        tree: the source.
        classes: class folders in the order of the labels; empty for all, sorted by name.
        name_pattern: regular expression, searched in each file name, whose named groups `subject`,
            `field` and `cell` say whose cell it is; empty for none.

    Raises:
        DataError: one of `classes` is not there, or none are given and the tree looks like
            ``root/person/class/file``.
        ConfigError: `name_pattern` is not a regular expression with one of those groups.
    """
    pattern = _compile(name_pattern)
    images, notes = _choose(tree)
    outer = _outer(tree, images)
    if outer:
        notes.append(f"passed over the outer folder {'/'.join(outer)}")
    zips = any(_zipped(path) for path in images)
    place_of = functools.cache(lambda folder: _place(folder, len(outer)))  # many images share a folder
    places = {path: place_of(path[: path.rfind("/") + 1]) for path in images}
    found = {place.named[0] for place in places.values() if place.named}
    # An empty folder beside the classes is most likely a class whose images did not arrive: `check` says so.
    found |= {
        place.named[0]
        for folder in tree.folders
        if (place := place_of(f"{folder}/")).named and (zips or ".zip" not in folder.lower())
    }
    order = choose_classes(classes, sorted(found), tree.root)
    if not classes:
        _check_not_swapped(places.values(), tree.root)
    labels = {name: label for label, name in enumerate(order)}
    records, outside, unmatched = [], [], []
    for path, place in places.items():
        if not place.named or place.named[0] not in labels:
            outside.append(path)
            continue
        match = pattern.search(PurePosixPath(path).name) if pattern else None
        if pattern and not match:
            unmatched.append(path)
        groups = {key: value or "" for key, value in match.groupdict().items()} if match else {}
        records.append(
            Record(
                path=path,
                label=labels[place.named[0]],
                subject=groups.get("subject", place.named[1] if len(place.named) > 1 else ""),
                field=groups.get("field", ""),
                cell=groups.get("cell", ""),
                fold=place.fold,
                subset=place.subset,
            )
        )
    if outside:
        notes.append(f"{plural(len(outside), 'image')} outside the class folders left out: {first_few(outside)}")
    if unmatched:
        notes.append(f"{plural(len(unmatched), 'name')} that data.name_pattern does not match: {first_few(unmatched)}")
    return Dataset(
        name="folder",
        classes=order,
        records=tuple(records),
        read=lambda record: tree.read(record.path),
        notes=(*notes, *subject_notes(records)),
    )


def read_csv(path: Path, classes: Sequence[str] = ()) -> Dataset:
    """Reads a CSV with the columns path, label and, where known, subject, field, cell, fold, subset.

    Paths are relative to the folder of the CSV.

    Args:
        path: the CSV, UTF-8, with a header.
        classes: labels in the order of the classes; empty for all, sorted by name.

    Raises:
        DataError: no such file, not a CSV, a column or an image is missing, an image stands twice,
            none is labeled with one of `classes`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV: {getattr(error, 'strerror', error)}") from error
    except ValueError:
        raise DataError(f"{path}: empty; expected the columns path and label") from None
    columns = [name.strip().lower() for name in header]
    if missing := [name for name in ("path", "label") if name not in columns]:
        raise DataError(
            f"{path}: the column {missing[0]!r} is missing; expected path, label and, where known, "
            f"subject and subset, found {', '.join(columns)}"
        )
    table = [_row(path, line, columns, row) for line, row in enumerate(rows, start=2) if any(row)]
    _check_rows(path, table)
    order = choose_classes(classes, sorted({row["label"] for row in table}), path)
    records = [
        Record(
            path=row["path"],
            label=order.index(row["label"]),
            subject=row.get("subject", ""),
            field=row.get("field", ""),
            cell=row.get("cell", ""),
            fold=row.get("fold", ""),
            subset=row.get("subset", "") or "train",
        )
        for row in table
        if row["label"] in order
    ]
    records.sort(key=lambda record: natural_key(record.path))

    def read(record: Record) -> bytes:
        try:
            return (path.parent / record.path).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path.parent / record.path}: {error.strerror or error}") from error

    notes = list(subject_notes(records))
    if left := len(table) - len(records):
        notes.insert(0, f"{plural(left, 'image')} left out: their labels are not in data.classes")
    return Dataset("folder", order, tuple(records), read, tuple(notes))


def _choose(tree: Tree) -> tuple[list[str], list[str]]:
    """The images to read and what to say of the rest: where images lie unpacked, zips beside them are left."""
    images = list(tree.images())
    zipped = [path for path in images if _zipped(path)]
    notes = []
    if zipped and len(zipped) < len(images):
        images = [path for path in images if not _zipped(path)]
        notes.append(f"{plural(len(zipped), 'image')} inside zips left out: unpacked ones are beside them")
    if others := [path for path in tree.files if not is_image(path)]:
        notes.append(f"{plural(len(others), 'file')} left out, no image by the name: {first_few(others)}")
    return images, notes


def _zipped(path: str) -> bool:
    return ".zip/" in path.lower()


def _outer(tree: Tree, images: Iterable[str]) -> tuple[str, ...]:
    """The folders around everything in a zip: ``photos.zip`` usually holds ``photos/cats/1.png``."""
    if tree.root.is_dir():
        return ()
    above = [parts(path)[:-1] for path in images]
    depth = 0
    while above and all(len(folders) > depth + 1 for folders in above):
        shared = {folders[depth] for folders in above}
        if len(shared) > 1 or _is_subset(next(iter(shared))):
            break
        depth += 1
    return above[0][:depth] if above else ()


def _is_subset(folder: str) -> bool:
    return folder.lower() in _SUBSETS or _FOLD.fullmatch(folder) is not None


def _place(path: str, outer: int) -> _Place:
    folders = parts(path)[outer:-1]
    subset = next((_SUBSETS[folder.lower()] for folder in folders if folder.lower() in _SUBSETS), "train")
    fold = next((found[1] for folder in folders if (found := _FOLD.fullmatch(folder))), "")
    return _Place(subset, fold, tuple(folder for folder in folders if not _is_subset(folder)))


def _check_not_swapped(places: Iterable[_Place], source: Path) -> None:
    """Refuses person/class/file, which would be learned as 'who is it?'.

    Subjects may honestly stand under several classes.  A swapped tree shows by lower folders that come
    back and have no number where all upper ones have (``pat1/blast``), or that are fewer and all come back.
    """
    above: dict[str, set[str]] = defaultdict(set)
    for place in places:
        if len(place.named) == 1:
            return  # images without a folder of their own: no class lies below
        if place.named:
            above[place.named[1]].add(place.named[0])
    upper, lower = natural(set().union(*above.values())), natural(above)
    returning = [name for name in lower if len(above[name]) > 1]
    people_above = all(map(_numbered, upper)) and not any(map(_numbered, lower))
    people_below = all(map(_numbered, lower)) and not any(map(_numbered, upper))
    fewer = len(upper) > len(lower) == len(returning) and not people_below
    if len(lower) > 1 and returning and (people_above or fewer):
        raise DataError(
            f"{source}: looks like one folder a person ({first_few(upper)}) holding one folder a class "
            f"({first_few(lower)}); "
            f"turn it round (class/person/file) or list the images in a CSV; if {upper[0]!r} is a class, name all "
            "classes in data.classes"
        )


def _numbered(name: str) -> bool:
    return any(map(str.isdigit, name))


def _compile(name_pattern: str) -> re.Pattern[str] | None:
    if not name_pattern:
        return None
    try:
        pattern = re.compile(name_pattern)
    except re.error as error:
        raise ConfigError(f"data.name_pattern {name_pattern!r} is no regular expression: {error}") from error
    if not {"subject", "field", "cell"}.intersection(pattern.groupindex):
        raise ConfigError(
            f"data.name_pattern {name_pattern!r} has no group named subject, field or cell; "
            r"write for example '^(?P<subject>\d+)_'"
        )
    return pattern


def _row(path: Path, line: int, columns: list[str], row: list[str]) -> dict[str, str]:
    if len(row) != len(columns):
        raise DataError(f"{path}, line {line}: {len(row)} cells, but the header has {len(columns)}")
    cells = {name: cell.strip() for name, cell in zip(columns, row, strict=True) if name in _COLUMNS}
    if not cells["path"] or not cells["label"]:
        raise DataError(f"{path}, line {line}: path and label may not be empty")
    return {**cells, "path": cells["path"].replace("\\", "/")}


def _check_rows(path: Path, table: list[dict[str, str]]) -> None:
    seen: dict[str, str] = {}
    for row in table:
        if row["path"] in seen:
            what = "twice" if seen[row["path"]] == row["label"] else "under two labels"
            raise DataError(f"{path}: {row['path']} stands {what}; every image may stand once")
        seen[row["path"]] = row["label"]
    try:
        absent = [name for name in seen if not (path.parent / name).is_file()]
    except OSError as error:
        raise DataError(f"{path}: cannot look for {error.filename}: {error.strerror or error}") from error
    if absent:
        raise DataError(
            f"{path}: {len(absent):,} of {plural(len(seen), 'image')} are not there (paths are relative to "
            f"{path.parent.resolve()}): {first_few(absent)}"
        )
