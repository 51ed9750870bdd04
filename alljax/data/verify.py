"""Checks a copy of a data set: C-NMC 2019 against its complete list of files, others as far as they can be checked."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alljax.config import load
from alljax.data import cnmc
from alljax.data.archive import natural_sort
from alljax.data.dataset import SKIPPED, Dataset, Record, check
from alljax.data.images import decode
from alljax.data.inspection import map_images
from alljax.data.readers import open_all
from alljax.errors import DataError, first_few
from alljax.files import write_text
from alljax.progress import show

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

Group = tuple[str, str, str]  # subset, official fold and class


def verify(source: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Decodes every image of all subsets of a source and lists what is missing or wrong.

    C-NMC 2019 is compared with the list of its files and their sizes.  In other sources a size is unexpected if more
    than half of the images have another one.  `overrides` are words of the command line (``--config.data.classes=…``).

    Returns:
        The findings, ready for JSON: ``name`` of the data set, ``complete`` (no problems), ``groups`` (a row of
        `COLUMNS` per subset, fold and class; None where the expected number is unknown), ``problems`` (key of
        `PROBLEMS` → everything concerned), ``sizes`` ("width × height" → images), ``subjects`` (subset → subject name →
        images) and ``notes``.
    """
    data = load(overrides=overrides).data
    dataset = open_all(source, data.classes, data.name_pattern, data.synthetic, strict=False)
    sizes, errors = map_images(dataset, _read_size, "verify")
    problems = {kind: list(dataset.skipped.get(kind, ())) for kind in PROBLEMS}
    groups = _compare(dataset, sizes, errors, problems)
    if dataset.name != "cnmc":
        try:
            check(dataset, source)
        except DataError as error:
            problems["unusable"].append(str(error))
    subjects = defaultdict[str, list[str]](list)
    for record in dataset.records:
        if record.subject:
            subjects[record.subset].append(record.subject)
    return {
        "complete": not any(problems.values()),
        "source": source,
        "name": dataset.name,
        "groups": groups,
        "problems": {kind: names for kind, names in problems.items() if names},
        "sizes": {f"{width} × {height}": n for (width, height), n in Counter(sizes.values()).most_common()},
        "subjects": {subset: Counter(natural_sort(subjects[subset])) for subset in sorted(subjects)},
        "notes": list(dataset.notes),
    }


def print_verification(found: Mapping[str, Any], out: Path | None = None) -> None:
    """Prints counts (without empty columns), notes and problems, and writes everything to the JSON file `out`."""
    used = {key: name for key, name in COLUMNS.items() if any(group[key] for group in found["groups"])}
    show(format_table(found["groups"], used))
    show("sizes in pixels:", first_few(f"{count:,} of {size}" for size, count in found["sizes"].items()))
    for note in found["notes"]:
        show(note)
    for kind, names in found["problems"].items():
        show(f"{len(names):,} {PROBLEMS[kind]}: {first_few(names)}")
    show("no problems found" if found["complete"] else "problems found")
    write_findings(found, out)


def format_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Returns rows of texts and numbers (None: unknown) as a table; `columns` has the header of each key, in order."""
    import pandas  # importing it takes half a second

    values = [[row[key] for key in columns] for row in rows]
    table = pandas.DataFrame(values, columns=list(columns.values()), dtype=object)
    text = table.map(lambda value: f"{value:,}" if isinstance(value, int) else value or "–")
    return text.to_string(index=False) if rows else ""


def write_findings(found: Mapping[str, Any], out: Path | None) -> None:
    """Writes findings to the JSON file `out`, if one is given."""
    if out:
        write_text(out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        show(f"{out}: all findings")


def _read_size(dataset: Dataset, record: Record) -> tuple[int, int]:
    height, width, _ = decode(dataset.read(record), record.path).shape
    return width, height


def _compare(
    dataset: Dataset, sizes: Mapping[str, tuple[int, int]], errors: Mapping[str, str], problems: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """Returns the rows of `COLUMNS`, and adds what is wrong to the lists of `problems`."""
    complete = cnmc.expected() if dataset.name == "cnmc" else {}
    expected, present = defaultdict[Group, set[Record]](set), defaultdict[Group, set[Record]](set)
    for official in complete.values():
        expected[cnmc.group(official)].add(official)
    usual = next((size for size, count in Counter(sizes.values()).items() if count * 2 > len(sizes)), None)
    counts = Counter[tuple[Group, str]]()

    def report(kind: str, group: Group, description: str) -> None:
        problems[kind].append(description)
        counts[group, kind] += 1

    for record in dataset.records:
        path, known = record.path, complete.get(cnmc.identity(record)) if complete else record
        group = cnmc.group(known or record, dataset.classes)
        images = present[group]
        size = cnmc.SIZES.get(group[0]) if complete else usual
        if path in errors:
            report("unreadable", group, f"{path} ({errors[path]})")
        elif size not in (None, sizes[path]):
            report("odd_size", group, f"{path} ({sizes[path][0]} × {sizes[path][1]})")
        if known is None:
            report("surplus", group, path)
            continue
        if record.subset != known.subset or record.fold not in ("", known.fold):
            report("misplaced", group, f"{path} (belongs in {_location(known)})")
        if known in images:  # in two subsets
            report("repeated", group, path)
        images.add(known)
    for record in cnmc.missing(dataset.records, tuple(cnmc.COUNTS)) if complete else ():
        report("missing", cnmc.group(record), _location(record))
    rows = []
    for group in (*expected, *sorted({*present} - {*expected})):
        numbers = [counts[group, kind] for kind in ("missing", "surplus", "unreadable", "odd_size")]
        subjects, of = ({record.subject for record in side[group]} - {""} for side in (present, expected))
        amounts = [len(present[group]), len(expected[group]) or None, len(subjects), len(of) or None]
        rows.append(dict(zip(COLUMNS, (*group, *amounts, *numbers), strict=True)))
    return rows


def _location(record: Record) -> str:
    """Returns the path of an image in the complete set."""
    subset, fold, label = cnmc.group(record)
    return "/".join(filter(None, (subset, fold and f"fold_{fold}", label, record.path)))
