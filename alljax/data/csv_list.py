"""Reads a CSV that lists images with their labels."""

import io
import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

import pandas

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


def read_csv(path: Path, labeled: bool = True, text: str = "") -> Dataset:
    """Reads a CSV, or its `text`, with `COLUMNS`: path, relative to its folder, label if `labeled`; NaN is missing."""
    needed = ["path", "label"] if labeled else ["path"]
    table, notes = _read_table(path, needed, text)
    if incomplete := [str(line) for line in table.index[(table[needed] == "").any(axis=1)]]:
        raise DataError(
            f"{path}: no {' or '.join(needed)} in line {first_few(incomplete)}; complete or remove these lines (NA, "
            "None, null, … are missing values: a class needs another name)"
        )
    table["path"] = [posixpath.normpath(name.replace("\\", "/")) for name in table["path"]]
    if repeated := [*table["path"][table["path"].map(os.path.normcase).duplicated()]]:
        raise DataError(f"{path}: listed twice: {first_few(repeated)}; list every image once")
    # Path.is_file raises OSError for a name that is too long.
    if missing := [name for name in table["path"] if not os.path.isfile(path.parent / name)]:  # noqa: PTH113
        count = f"{len(missing):,} of {plural(len(table), 'image')} not found"
        raise DataError(f"{path}: {count} (paths are relative to {path.parent.resolve()}): {first_few(missing)}")
    columns = {name: dict(zip(table["path"], table[name], strict=True)) for name in table if name not in COLUMNS}
    subsets = subset_names(table["subset"])
    table["subset"] = [subsets[name] or name or "train" for name in table["subset"]]
    rows = sorted(table[[*COLUMNS]].to_dict("records"), key=lambda row: natural_key(row["path"]))
    classes, records, joined = make_records(rows)
    return Dataset(
        "folder",
        classes,
        records,
        read=lambda record: read_file(path.parent / record.path),
        notes=(*notes, *joined),
        stamp=lambda record: file_stamp(path.parent / record.path),
        columns=columns,
    )


def _read_table(path: Path, needed: Sequence[str], text: str) -> tuple[pandas.DataFrame, list[str]]:
    """Returns all columns of the lines that are not empty, by line number, and notes; missing values are empty."""
    try:
        with io.StringIO(text) if text else path.open(encoding="utf-8-sig") as file:
            separator = max(",;\t", key=file.readline().count)
            file.seek(0)
            options = {"header": None, "dtype": str, "skip_blank_lines": False, "skipinitialspace": True}
            table = pandas.read_csv(file, sep=separator, **options)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a CSV: {str(error).strip()}; save it as CSV UTF-8") from error
    table = table.apply(lambda column: column.str.strip()).dropna(how="all").fillna("").rename(lambda row: row + 1)
    header = table.head(1).to_numpy().ravel().tolist()
    columns = _find_columns(path, header, needed)
    notes = [] if separator == "," else [f"values are separated by {separator!r} instead of commas"]
    if renamed := [f"{header[n]!r} as {column}" for n, column in columns.items() if header[n].lower() != column]:
        notes.append(f"columns read under another name: {', '.join(renamed)}")
    if unused := {number: name for number, name in enumerate(header) if name and number not in columns}:
        notes.append(f"columns not used: {', '.join(unused.values())} (used are {', '.join(COLUMNS)})")
    table = table[1:].rename(columns=columns | unused)
    return table.reindex(columns=[*COLUMNS, *unused.values()], fill_value=""), notes


def _find_columns(path: Path, header: Sequence[str], needed: Sequence[str]) -> dict[int, str]:
    """Returns the column at each position; refuses repeated, unclear and absent ones."""
    words = [re.sub(r"[\W_]+", "", name.lower()) for name in header]
    if repeated := [name for name, word in zip(header, words, strict=True) if word and words.count(word) > 1]:
        raise DataError(f"{path}: repeated columns: {', '.join(repeated)}; rename or remove all but one")
    columns = {}
    for column, others in COLUMNS.items():
        found = [words.index(word) for word in (column, *others.split()) if word in words]
        if len(found) > 1 and words[found[0]] != column:
            names = " and ".join(repr(header[number]) for number in found)
            raise DataError(f"{path}: the columns {names} could both be the {column}; rename one of them to {column!r}")
        if found:
            columns[found[0]] = column
        elif column in needed:
            names = ", ".join(header) or "empty lines"
            advice = "the first line must name the columns path, label (and subject, subset)"
            raise DataError(f"{path}: no column {column!r}, only {names}; {advice}")
    return columns
