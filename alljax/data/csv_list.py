"""Reads a CSV that lists images with their labels."""

import csv
import os
from pathlib import Path
from typing import Any

from alljax.data.archive import file_stamp, natural_sort, read_file
from alljax.data.dataset import Dataset, Record
from alljax.errors import DataError, first_few, plural

_COLUMNS = ("path", "label", "subject", "field", "cell", "fold", "subset")


def read_csv(path: Path) -> Dataset:
    """Reads a CSV with the columns path, label and optionally subject, field, cell, fold, subset.

    Paths are relative to the folder of the CSV; the classes are sorted by name.  DataError: not such a CSV, an image is
    missing or listed twice, or a row has no path or label.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = [name.strip().lower() for name in next(csv.reader(file), ())]
            table = list(csv.DictReader(file, header, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV: {error}") from error
    if header.count("path") != 1 or header.count("label") != 1:
        found = ", ".join(header) or "an empty file"
        raise DataError(f"{path}: expected the columns path, label (and subject, subset), found {found}")
    rows: dict[str, dict[str, Any]] = {}
    for number, values in enumerate(table, 1):
        row: dict[str, Any] = {column: values[column].strip() for column in _COLUMNS if column in values}
        if not (row["path"] and row["label"]) or None in values:
            raise DataError(f"{path}: row {number} has too many values, or no path or label; correct or remove it")
        name = row["path"].replace("\\", "/")
        if name in rows:
            raise DataError(f"{path}: {name} is listed twice; list every image once")
        rows[name] = row | {"path": name, "subset": row.get("subset") or "train"}
    # Path.is_file raises OSError for a name that is too long.
    if missing := [name for name in rows if not os.path.isfile(path.parent / name)]:  # noqa: PTH113
        raise DataError(
            f"{path}: {len(missing):,} of {plural(len(rows), 'image')} not found (paths are relative to "
            f"{path.parent.resolve()}): {first_few(missing)}"
        )
    classes = sorted({row["label"] for row in rows.values()})
    return Dataset(
        "folder",
        tuple(classes),
        tuple(Record(**rows[name] | {"label": classes.index(rows[name]["label"])}) for name in natural_sort(rows)),
        read=lambda record: read_file(path.parent / record.path),
        stamp=lambda record: file_stamp(path.parent / record.path),
    )
