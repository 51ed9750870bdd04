"""Reads a CSV that lists images with their labels."""

import csv
import io
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from alljax.data.archive import file_stamp, natural_key, read_file
from alljax.data.dataset import Dataset
from alljax.data.names import make_records, subset_names
from alljax.errors import DataError, first_few, plural

COLUMNS = {
    "path": "paths file files filename filepath image images imagename imagepath imagefile img imgname imgpath",
    "label": "labels labelname class classes classname classlabel target diagnosis category celltype",
    "subject": "subjects subjectid subjectname patient patients patientid patientname person donor donorid case caseid "
    "individual group groups",
    "field": "fieldid",
    "cell": "cellid",
    "fold": "folds",
    "subset": "subsets split splits set partition phase",
}
"""The columns, and the names (lower case, no separators) that are read as a column where its own name is absent."""

MISSING = {
    "", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na", "nan",
    "none", "null",
}  # fmt: skip
"""What pandas reads as a missing value, in lower case."""


def read_csv(path: Path, labeled: bool = True) -> Dataset:
    """Reads a CSV with the columns path, label and optionally subject, field, cell, fold, subset (see `COLUMNS`).

    Paths are relative to the folder of the CSV; the classes are sorted by name.

    Args:
        path: the CSV, in UTF-8; values are separated by commas, semicolons or tabs.
        labeled: whether each image needs a label; images without one are in a class with an empty name.

    Raises:
        DataError: not such a CSV, an unclear column, an image is missing or listed twice, or a row has no path or
            label.
    """
    header, lines, separator = _read_lines(path)
    columns, needed = _find_columns(path, header), ("path", "label") if labeled else ("path",)
    if absent := [column for column in needed if column not in columns]:
        raise DataError(
            f"{path}: no column {absent[0]!r}, only {', '.join(header) or 'an empty line'}; the first line must name "
            "the columns path, label (and subject, subset)"
        )
    rows = [{column: values[number] for column, number in columns.items()} for _, values in lines]
    if incomplete := [line for row, (line, _) in zip(rows, lines, strict=True) if not all(map(row.get, needed))]:
        raise DataError(
            f"{path}: no {' or '.join(needed)} in line {first_few(map(str, incomplete))}; complete or remove "
            "these lines (NA, None, null, … are missing values: a class needs another name)"
        )
    subsets = subset_names(row.get("subset", "") for row in rows)
    for row in rows:
        subset, label = row.get("subset") or "train", row.get("label", "")
        name = posixpath.normpath(row["path"].replace("\\", "/"))
        row |= {"path": name, "label": label, "subset": subsets.get(subset) or subset}
    rows.sort(key=lambda row: natural_key(row["path"]))
    _check_files(path, [row["path"] for row in rows])
    classes, records, joined = make_records(rows)
    return Dataset(
        "folder",
        classes,
        records,
        read=lambda record: read_file(path.parent / record.path),
        notes=(*_notes(header, columns, separator), *joined),
        stamp=lambda record: file_stamp(path.parent / record.path),
    )


def _read_lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Returns the header, number and values (empty if missing) of each line that is not empty, and the separator."""
    try:
        text = path.read_text("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        header = [name.strip() for name in next(reader, ())]
        lines = [(reader.line_num, [value.strip() for value in values]) for values in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV in UTF-8: {error}") from error
    if longer := [str(line) for line, values in lines if any(values[len(header) :])]:
        raise DataError(f"{path}: more values than columns in line {first_few(longer)}; quote values with commas")
    for _, values in lines:
        values[:] = ["" if value.lower() in MISSING else value for value in values[: len(header)]]
        values += [""] * (len(header) - len(values))
    return header, [(line, values) for line, values in lines if any(values)], separator


def _find_columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Returns the position of each column; refuses columns that occur twice, and several that could be one of them."""
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
            columns[column] = found[0]
    return columns


def _check_files(path: Path, names: Sequence[str]) -> None:
    """Refuses images that do not exist, or are listed twice."""
    # Path.is_file raises OSError for a name that is too long.
    if missing := [name for name in names if not os.path.isfile(path.parent / name)]:  # noqa: PTH113
        raise DataError(
            f"{path}: {len(missing):,} of {plural(len(names), 'image')} not found (paths are relative to "
            f"{path.parent.resolve()}): {first_few(missing)}"
        )
    repeated: list[str] = []
    seen: dict[str, Path] = {}
    for name in names:
        file = Path(os.path.abspath(path.parent / name))  # noqa: PTH100 - follows no links
        # Names that differ only in case are one file on some systems.
        first = seen.setdefault(str(file).casefold(), file)
        if first is not file and first.samefile(file):
            repeated.append(name)
    if repeated:
        raise DataError(f"{path}: listed twice: {first_few(repeated)}; list every image once")


def _notes(header: Sequence[str], columns: Mapping[str, int], separator: str) -> Iterator[str]:
    """Yields remarks on another separator than a comma, synonyms of columns, and columns that are not used."""
    if separator != ",":
        yield f"values are separated by {separator!r} instead of commas"
    if renamed := [f"{header[n]!r} as {column}" for column, n in columns.items() if header[n].lower() != column]:
        yield f"columns read under another name: {', '.join(renamed)}"
    if unused := [name for number, name in enumerate(header) if name and number not in columns.values()]:
        yield f"columns not used: {', '.join(unused)} (used are {', '.join(COLUMNS)})"
