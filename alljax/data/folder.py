"""Reads folders with one folder per class, or a zip of them.

The layout is ``root/[subset]/class/[subject]/file``; folders named train, val, test, fold_0 … are never classes.
"""

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from alljax.data.archive import Archive, is_image, natural_sort, path_parts
from alljax.data.dataset import Dataset
from alljax.data.names import make_records
from alljax.errors import ConfigError, DataError, first_few, plural

_SUBSET_OR_FOLD = re.compile(r"(train|val|test)(?:ing|id|idation)?|fold_?([0-9]+)", re.IGNORECASE)
_NAMED = ("subject", "field", "cell")


def read_folder(archive: Archive, name_pattern: str = "", check_layout: bool = True) -> Dataset:
    """Reads ``root/[subset]/class/[subject]/file``, with the classes sorted by name.

    The subject is the folder below the class, if any; the groups `subject`, `field` and `cell` of a name pattern, which
    is searched in each file name, take precedence.  The same subject name in two classes is the same subject.  In a
    zip, outer folders that contain everything are skipped.  `check_layout` refuses what looks like
    ``root/subject/class/file``.
    """
    pattern = _compile(name_pattern)
    paths, notes = _choose_paths(archive)
    outer = () if archive.root.is_dir() else _outer_folders(filter(is_image, paths))
    rows = [_parse(path, len(outer)) for path in paths]
    images = [row for row in rows if is_image(row["path"])]
    inside = [row for row in images if row["label"]]
    if check_layout:
        _check_not_swapped(inside, archive.root)
    unmatched = []
    for row in inside:
        if match := pattern.search(path_parts(row["path"])[-1]):
            row |= {name: value for name, value in match.groupdict("").items() if name in _NAMED}
        else:
            unmatched.append(row["path"])
    if unmatched:
        notes.append(f"data.name_pattern does not match {plural(len(unmatched), 'name')}: {first_few(unmatched)}")
    # A folder without images beside the classes is probably a class whose images are missing: `check` reports it.
    classes, records, joined = make_records(inside, {row["label"] for row in rows} - {""})
    return Dataset(
        "folder",
        classes,
        records,
        read=lambda record: archive.read(record.path),
        notes=(*notes, *joined),
        stamp=lambda record: archive.stamp(record.path),
        skipped={"outside": [row["path"] for row in images if not row["label"]]},
    )


def _choose_paths(archive: Archive) -> tuple[Sequence[str], list[str]]:
    """Returns the paths to read, and notes about the others: where unpacked images exist, zips are skipped."""
    unpacked = [path for path in archive.paths if ".zip/" not in path.lower()]
    paths = unpacked if any(map(is_image, unpacked)) else archive.paths
    notes = []
    if zipped := len(archive.images()) - sum(map(is_image, paths)):
        notes.append(f"skipped {plural(zipped, 'image')} in zips, because there are unpacked images")
    return paths, notes


def _outer_folders(images: Iterable[str]) -> tuple[str, ...]:
    """Returns the folders that contain everything in a zip: ``photos.zip`` usually holds ``photos/cats/1.png``."""
    shared: Sequence[str] = os.path.commonprefix([path_parts(path)[:-2] for path in images])  # noqa: RUF071 - of tuples
    return tuple(itertools.takewhile(lambda folder: not _SUBSET_OR_FOLD.fullmatch(folder), shared))


def _parse(path: str, outer: int) -> dict[str, Any]:
    """Returns what the folders of a path, without the `outer` ones, say; the label is a name, or empty."""
    row = {"path": path, "fold": "", "subset": "train"}
    others = []
    for folder in path_parts(path)[outer:-1]:
        if match := _SUBSET_OR_FOLD.fullmatch(folder):
            row |= {"fold": match[2]} if match[2] else {"subset": match[1].lower()}
        else:
            others.append(folder)
    label, subject = (*others, "", "")[:2]
    return row | {"label": label, "subject": subject}


def _check_not_swapped(rows: Iterable[dict[str, Any]], source: Path) -> None:
    """Refuses ``subject/class/file``: lower folders without numbers, of which some repeat.

    They are fewer than the upper ones, or all upper ones have a number (``pat1/blast``).
    """
    above: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        above[row["subject"]].add(row["label"])
    upper, lower = natural_sort(set().union(*above.values())), natural_sort(above)
    repeated = any(len(labels) > 1 for labels in above.values()) and not re.search(r"\d", "".join(lower))
    fewer = len(lower) < len(upper) or all(re.search(r"\d", name) for name in upper)
    # Images directly in a class folder have no subject.
    if repeated and fewer and len(lower) > 1 and "" not in above:
        raise DataError(
            f"{source}: looks like one folder per subject ({first_few(upper)}) with one folder per class "
            f"({first_few(lower)}); reverse the order (class/subject/file) or list the images in a CSV; "
            f"if {upper[0]!r} is a class, name all classes in data.classes"
        )


def _compile(name_pattern: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(name_pattern)
    except re.error as error:
        raise ConfigError(f"data.name_pattern {name_pattern!r} is not a regular expression: {error}") from error
    if name_pattern and not {*_NAMED}.intersection(pattern.groupindex):
        example = r"'^(?P<subject>\d+)_'"
        raise ConfigError(f"data.name_pattern {name_pattern!r} has no group subject, field or cell, as in {example}")
    return pattern
