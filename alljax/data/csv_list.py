"""Reads a CSV that lists images with their labels."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from alljax.data.archive import file_stamp, natural_key, read_file
from alljax.data.dataset import Dataset
from alljax.data.names import make_records, subset_names
from alljax.errors import DataError, first_few, plural

COLUMNS = {
    "path": "file filename filepath image imagename imagepath imagefile img",
    "label": "labels class classname target diagnosis category celltype",
    "subject": "subjectid patient patientid person donor donorid case caseid group",
    "subset": "split set partition phase",
    **dict.fromkeys(("field", "cell", "fold"), ""),
}
"""The columns, and the names (lower case, no separators) that are read as a column where its own name is absent."""


def read_csv(path: Path, labeled: bool = True) -> Dataset:
    """Reads a CSV with the columns path, label and optionally subject, subset, field, cell, fold (see `COLUMNS`).

    Paths are relative to the folder of the CSV; the classes are sorted by name.

    Args:
        path: the CSV, in UTF-8; values are separated by commas, semicolons or tabs, and missing where pandas reads NaN.
        labeled: whether each image needs a label; images without one are in a class with an empty name.

    Raises:
        DataError: not such a CSV, an unclear column, an image is missing or listed twice, or a row has no path or
            label.
    """
    needed = ("path", "label") if labeled else ("path",)
    header, lines, notes = _read_table(path)
    columns, remarks = _find_columns(path, header, needed)
    if incomplete := [str(line) for line, values in lines.items() if not all(values[columns[name]] for name in needed)]:
        raise DataError(
            f"{path}: no {' or '.join(needed)} in line {first_few(incomplete)}; complete or remove these lines (NA, "
            "None, null, … are missing values: a class needs another name)"
        )
    rows = [{"label": ""} | {name: values[number] for name, number in columns.items()} for values in lines.values()]
    subsets = subset_names(row.get("subset", "") for row in rows)
    for row in rows:
        subset = row.get("subset") or "train"
        row |= {"path": posixpath.normpath(row["path"].replace("\\", "/")), "subset": subsets.get(subset) or subset}
    rows.sort(key=lambda row: natural_key(row["path"]))
    counts = Counter(os.path.normcase(row["path"]) for row in rows)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise DataError(f"{path}: listed twice: {first_few(repeated)}; list every image once")
    # Path.is_file raises OSError for a name that is too long.
    if missing := [row["path"] for row in rows if not os.path.isfile(path.parent / row["path"])]:  # noqa: PTH113
        raise DataError(
            f"{path}: {len(missing):,} of {plural(len(rows), 'image')} not found (paths are relative to "
            f"{path.parent.resolve()}): {first_few(missing)}"
        )
    classes, records, joined = make_records(rows)
    return Dataset(
        "folder",
        classes,
        records,
        read=lambda record: read_file(path.parent / record.path),
        notes=(*notes, *remarks, *joined),
        stamp=lambda record: file_stamp(path.parent / record.path),
    )


def _read_table(path: Path) -> tuple[list[str], dict[int, list[str]], list[str]]:
    """Returns the header, the values of each line that is not empty by its number, and notes."""
    import pandas  # importing it takes half a second

    try:
        with path.open(encoding="utf-8-sig") as file:
            separator = max(",;\t", key=file.readline().count)
            file.seek(0)
            table = pandas.read_csv(
                file, sep=separator, header=None, dtype=str, skip_blank_lines=False, skipinitialspace=True
            )
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a CSV in UTF-8: {str(error).strip()}") from error
    table = table.apply(lambda column: column.str.strip()).dropna(how="all").fillna("")
    lines = {line + 1: values for line, *values in table.itertuples(name=None)}
    notes = [] if separator == "," else [f"values are separated by {separator!r} instead of commas"]
    return lines.pop(1, []), lines, notes


def _find_columns(path: Path, header: Sequence[str], needed: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Returns the position of each column, and notes on other names and other columns; refuses what is unclear."""
    words = [re.sub(r"[\W_]+", "", name.lower()) for name in header]
    if repeated := [name for name, word in zip(header, words, strict=True) if word and words.count(word) > 1]:
        raise DataError(f"{path}: repeated columns: {', '.join(repeated)}; rename or remove all but one")
    columns: dict[str, int] = {}
    for column, others in COLUMNS.items():
        found = [words.index(word) for word in (column, *others.split()) if word in words]
        if len(found) > 1 and words[found[0]] != column:
            names = " and ".join(repr(header[number]) for number in found)
            raise DataError(f"{path}: the columns {names} could both be the {column}; rename one of them to {column!r}")
        if found:
            columns[column] = found[0]
    if absent := [column for column in needed if column not in columns]:
        raise DataError(
            f"{path}: no column {absent[0]!r}, only {', '.join(header)}; the first line must name the columns path, "
            "label (and subject, subset)"
        )
    notes = []
    if renamed := [f"{header[n]!r} as {column}" for column, n in columns.items() if header[n].lower() != column]:
        notes.append(f"columns read under another name: {', '.join(renamed)}")
    if unused := [name for number, name in enumerate(header) if name and number not in columns.values()]:
        notes.append(f"columns not used: {', '.join(unused)} (used are {', '.join(COLUMNS)})")
    return columns, notes
