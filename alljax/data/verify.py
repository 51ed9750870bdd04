"""Checks a copy of a data set: C-NMC 2019 against its complete list of files, others as far as they can be checked."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alljax.data import cnmc_index
from alljax.data.archive import natural_sort
from alljax.data.dataset import SKIPPED, UNLABELED, Dataset, Record, check
from alljax.data.images import decode
from alljax.data.inspection import map_images, reason
from alljax.data.readers import open_all
from alljax.errors import DataError, first_few
from alljax.files import write_text
from alljax.progress import bar

PROBLEMS = {
    "missing": "missing",
    "surplus": "not in the complete set",
    "misplaced": "in another subset or fold than in the complete set",
    **{reason: f"skipped, {description}" for reason, description in SKIPPED.items()},
    "unreadable": "cannot be read",
    "odd_size": "of an unexpected size",
    "unusable": "to be fixed before training",
}
"""Kinds of problems, as in the findings of `verify`, and their descriptions."""

COLUMNS = {
    "subset": "subset", "fold": "fold", "class": "class", "images": "images", "expected_images": "of",
    "subjects": "subjects", "expected_subjects": "of", "missing": "missing", "surplus": "surplus",
    "unreadable": "unreadable", "odd_size": "odd size",
}  # fmt: skip
"""Counts per subset, official fold and class; ``images`` are distinct images, of C-NMC those of the complete set."""

Size = tuple[int, int]


def verify(source: str) -> dict[str, Any]:
    """Decodes every image of all subsets of a source and lists what is missing or wrong.

    C-NMC 2019 is compared with the list of its 15,114 files; its images have 450 × 450 pixels, those of the final phase
    600 × 600.  In other sources a size is unexpected if more than half of the images have another one.

    Args:
        source: as ``data.source``.

    Returns:
        The findings, ready for JSON: ``name`` of the data set, ``complete`` (no problems), ``groups`` (a row of
        `COLUMNS` per subset, fold and class; None where the expected number is unknown), ``problems`` (key of
        `PROBLEMS` → everything concerned), ``sizes`` ("width x height" → images), ``subjects`` (subset → subject name →
        images) and ``notes``.

    Raises:
        DataError: the source cannot be opened.
    """
    dataset = open_all(source, strict=False)
    problems = defaultdict[str, list[str]](list, {kind: list(names) for kind, names in dataset.skipped.items()})
    sizes, errors = _read_sizes(dataset)
    odd = _odd_sizes(dataset, sizes)
    problems["unreadable"] = [f"{path} ({why})" for path, why in errors.items()]
    problems["odd_size"] = [f"{path} ({sizes[path][0]} × {sizes[path][1]})" for path in odd]
    groups = _compare(dataset, problems)
    if dataset.name != "cnmc":
        try:
            check(dataset, source)
        except DataError as error:
            problems["unusable"].append(str(error))
    for record in dataset.records:
        group = groups[_group(dataset, record)]
        group["unreadable"] += record.path in errors
        group["odd_size"] += record.path in odd
    found = {kind: problems[kind] for kind in PROBLEMS if problems[kind]}
    return {
        "complete": not found,
        "source": source,
        "name": dataset.name,
        "groups": [dict(zip(COLUMNS, group, strict=False)) | groups[group] for group in groups],
        "problems": found,
        "sizes": {f"{width} × {height}": n for (width, height), n in Counter(sizes.values()).most_common()},
        "subjects": _count_subjects(dataset),
        "notes": list(dataset.notes),
    }


def print_verification(found: Mapping[str, Any], out: Path | None = None) -> None:
    """Prints the counts and the first names of each kind of problem, and writes everything as JSON.

    Args:
        found: from `verify`.
        out: the JSON file; None for no file.

    Raises:
        WorkdirError: `out` cannot be written.
    """
    is_cnmc = found["name"] == "cnmc"
    of_complete_set = ("expected_images", "expected_subjects", "missing", "surplus")
    columns = {key: header for key, header in COLUMNS.items() if is_cnmc or key not in of_complete_set}
    print(format_table(found["groups"], columns))
    images = Counter[str]()
    for group in found["groups"]:
        images[group["subset"]] += group["images"]
    of = {subset: f" of {count:,}" for subset, count in cnmc_index.COUNTS.items()} if is_cnmc else {}
    print(", ".join(f"{subset} {count:,}{of.get(subset, '')}" for subset, count in images.items()) + " images")
    print("sizes in pixels:", first_few(f"{count:,} of {size}" for size, count in found["sizes"].items()))
    for kind, names in found["problems"].items():
        print(f"{len(names):,} {PROBLEMS[kind]}: {first_few(names)}")
    for note in () if is_cnmc else found["notes"]:
        print(note)
    print("no problems found" if found["complete"] else "problems found")
    write_findings(found, out)


def format_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Returns rows of texts and numbers as a table.

    Args:
        rows: the values by key; None for unknown numbers.
        columns: key → header, in order.
    """
    import pandas  # importing it takes half a second

    def text(value: str | int | None) -> str:
        return value if isinstance(value, str) else "–" if value is None else f"{value:,}"

    table = pandas.DataFrame([[text(row[key]) for key in columns] for row in rows], columns=list(columns.values()))
    return table.to_string(index=False)


def write_findings(found: Mapping[str, Any], out: Path | None) -> None:
    """Writes findings to the JSON file `out`, if one is given."""
    if out:
        write_text(out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(f"{out}: all findings")


def _read_sizes(dataset: Dataset) -> tuple[dict[str, Size], dict[str, str]]:
    """Decodes every image: path → stored size, and path → why it cannot be read."""

    def size(dataset: Dataset, record: Record) -> tuple[str, Size]:
        height, width, _ = decode(dataset.read(record), record.path).shape
        return record.path, (width, height)

    with bar("verify", len(dataset.records), "images") as update:
        found, errors = map_images(dataset, size, update)
    return dict(found), {path: reason(error, path) for path, error in errors.items()}


def _odd_sizes(dataset: Dataset, sizes: Mapping[str, Size]) -> list[str]:
    if dataset.name == "cnmc":
        of_subset = cnmc_index.SIZES
        expected = {record.path: of_subset.get(_group(dataset, record)[0]) for record in dataset.records}
    else:
        size, count = Counter(sizes.values()).most_common(1)[0] if sizes else (None, 0)
        expected = dict.fromkeys(sizes, size if count * 2 > len(sizes) else None)
    return [path for path, size in sizes.items() if expected[path] not in (None, size)]


def _group(dataset: Dataset, record: Record) -> tuple[str, str, str]:
    """Returns subset, fold and class of a record; for C-NMC 2019 those in the complete set."""
    if dataset.name == "cnmc":
        record = cnmc_index.official(record) or record
    return record.subset, record.fold, "" if record.label == UNLABELED else dataset.classes[record.label]


def _compare(dataset: Dataset, problems: defaultdict[str, list[str]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Counts images and subjects per group, and compares each image of C-NMC with the complete set."""
    is_cnmc = dataset.name == "cnmc"
    present: dict[tuple[str, str, str], dict[tuple[str, ...], Record]] = defaultdict(dict)
    surplus = Counter[tuple[str, str, str]]()
    for record in dataset.records:
        group, identity = _group(dataset, record), cnmc_index.identity(record) if is_cnmc else (record.path,)
        if is_cnmc:
            official = cnmc_index.official(record)
            if official is None:
                problems["surplus"].append(record.path)
                surplus[group] += 1
                continue
            if record.subset != official.subset or record.fold not in ("", official.fold):
                problems["misplaced"].append(f"{record.path} (belongs in {_location(official)})")
            if identity in present[group]:  # in two subsets
                problems["repeated"].append(record.path)
        present[group][identity] = record
    missing = cnmc_index.missing(dataset.records, tuple(cnmc_index.COUNTS)) if is_cnmc else ()
    problems["missing"] = [_location(record) for record in missing]
    absent = Counter(_group(dataset, record) for record in missing)
    complete = cnmc_index.KNOWN if is_cnmc else {}
    return {
        group: {
            "images": len(present[group]),
            "expected_images": complete[group][0] if group in complete else None,
            "subjects": len({record.subject for record in present[group].values()} - {""}),
            "expected_subjects": complete[group][1] or None if group in complete else None,
            "missing": absent[group],
            "surplus": surplus[group],
            "unreadable": 0,
            "odd_size": 0,
        }
        for group in (*complete, *sorted({*present, *surplus} - {*complete}))
    }


def _location(record: Record) -> str:
    """Returns the path of an image in the complete set."""
    fold = f"fold_{record.fold}/" if record.fold else ""
    label = "" if record.label == UNLABELED else f"{cnmc_index.CLASSES[record.label]}/"
    return f"{record.subset}/{fold}{label}{record.path}"


def _count_subjects(dataset: Dataset) -> dict[str, dict[str, int]]:
    counts = defaultdict[str, Counter[str]](Counter)
    for record in dataset.records:
        if record.subject:
            counts[record.subset][record.subject] += 1
    return {subset: {name: counts[subset][name] for name in natural_sort(counts[subset])} for subset in sorted(counts)}
