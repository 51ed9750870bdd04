"""Checks a copy of a data set: C-NMC 2019 against its complete list of files, others as far as they can be checked."""

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from alljax.data import cnmc, cnmc_index
from alljax.data.archive import Archive, natural_sort, open_archive
from alljax.data.dataset import UNLABELED, Dataset, Record, check
from alljax.data.images import decode
from alljax.data.inspection import map_images, reason
from alljax.data.readers import find_prepared, open_all
from alljax.errors import DataError, first_few
from alljax.files import write_text
from alljax.progress import bar

PROBLEMS = {
    "missing": "missing",
    "surplus": "not in the complete set",
    "misplaced": "in another subset or fold than in the complete set",
    "repeated": "repeated (the first is used)",
    "odd_name": "skipped, names that are not C-NMC names",
    "unlabeled": "skipped, numbers without labels (is the label CSV of the preliminary phase beside them?)",
    "contradictory": "skipped, the name contradicts the folder or the CSV",
    "outside": "skipped, outside the class folders",
    "unreadable": "cannot be read",
    "odd_size": "of an unexpected size",
    "unusable": "to be fixed before training",
}
"""Kinds of problems, as in `Verification.problems` and the JSON file, and their descriptions."""

Size = tuple[int, int]
_Group = tuple[str, str, str]


COLUMNS = (
    "subset", "fold", "class", "images", "expected_images", "subjects", "expected_subjects", "missing", "surplus",
    "unreadable", "odd_size",
)  # fmt: skip
"""Counts per subset, official fold and class; ``images`` are distinct images, of C-NMC those of the complete set."""


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
    tree = _open_tree(source)
    if tree and cnmc.is_cnmc(tree):
        dataset, problems = _read_cnmc(tree)
    else:
        dataset = open_all(source)
        problems = defaultdict(list, outside=_outside(dataset, tree))
    sizes, errors = _read_sizes(dataset)
    problems["unreadable"] = [f"{path} ({why})" for path, why in errors.items()]
    odd = _odd_sizes(dataset, sizes)
    problems["odd_size"] = [f"{path} ({sizes[path][0]} × {sizes[path][1]})" for path in odd]
    missing: tuple[Record, ...] = ()
    if dataset.name == "cnmc":
        missing = cnmc_index.missing(dataset.records, tuple(cnmc_index.COUNTS))
        problems["missing"] = [_location(record) for record in missing]
        _compare(dataset.records, problems)
    else:
        try:
            check(dataset, source)
        except DataError as error:
            problems["unusable"].append(str(error))
    found = {key: problems[key] for key in PROBLEMS if problems.get(key)}
    return {
        "complete": not found,
        "source": source,
        "name": dataset.name,
        "groups": list(_count_groups(dataset, missing, errors, odd)),
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
    console = Console(highlight=False, markup=False, soft_wrap=True)
    is_cnmc = found["name"] == "cnmc"
    of_complete_set = ("expected_images", "expected_subjects", "missing", "surplus")
    columns = [name for name in COLUMNS if is_cnmc or name not in of_complete_set]
    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    for name in columns:
        header = "of" if name.startswith("expected") else name.replace("_", " ")
        table.add_column(header, justify="left" if name in COLUMNS[:3] else "right")
    subsets = Counter[str]()
    for group in found["groups"]:
        values = [group[name] for name in columns]
        table.add_row(*(value if isinstance(value, str) else "" if value is None else f"{value:,}" for value in values))
        subsets[group["subset"]] += group["images"]
    console.print(table)
    of = {subset: f" of {count:,}" for subset, count in cnmc_index.COUNTS.items()} if is_cnmc else {}
    console.print(", ".join(f"{subset} {count:,}{of.get(subset, '')}" for subset, count in subsets.items()) + " images")
    sizes = [f"{count:,} of {size}" for size, count in found["sizes"].items()]
    console.print(f"sizes in pixels: {first_few(sizes)}")
    for key, names in found["problems"].items():
        console.print(f"{len(names):,} {PROBLEMS[key]}: {first_few(names)}")
    for note in () if is_cnmc else found["notes"]:
        console.print(note)
    console.print("no problems found" if found["complete"] else "problems found", style="bold")
    if out:
        write_text(out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        console.print(f"{out}: all findings")


def _open_tree(source: str) -> Archive | None:
    """Returns the files of a folder or zip that `alljax data prepare` did not write; None for other sources."""
    path = Path(source).expanduser()
    with contextlib.suppress(OSError):  # `open_all` reports the error
        if (
            source not in ("", "synthetic")
            and path.exists()
            and path.suffix.lower() not in (".csv", ".npz")
            and not find_prepared(path)
        ):
            return open_archive(path)
    return None


def _read_cnmc(tree: Archive) -> tuple[Dataset, defaultdict[str, list[str]]]:
    """Reads the files that can be read and sorts the others by problem."""
    problems = defaultdict[str, list[str]](list)
    try:
        dataset = cnmc.read_cnmc(tree)
    except DataError:
        wrong = {path: str(error) for path in tree.files if (error := _error(tree, path))}
        problems["contradictory"] = list(wrong.values())
        tree = _only(tree, set(tree.files) - set(wrong))
        dataset = cnmc.read_cnmc(tree)
    used = {record.path for record in dataset.records}
    names = {path.rpartition("/")[2].lower() for path in used}
    for path in tree.images():
        name = path.rpartition("/")[2].lower()
        if path not in used:
            kind = "repeated" if name in names else "unlabeled" if name.partition(".")[0].isdigit() else "odd_name"
            problems[kind].append(path)
    return dataset, problems


def _only(tree: Archive, paths: set[str]) -> Archive:
    return replace(tree, files=tuple(path for path in tree.files if path in paths))


def _error(tree: Archive, path: str) -> DataError | None:
    """Returns why the C-NMC reader refuses a single file."""
    try:
        cnmc.read_cnmc(_only(tree, {path}))
    except DataError as error:
        return error
    return None


def _outside(dataset: Dataset, tree: Archive | None) -> list[str]:
    """Returns images without a record; those in zips are ignored where unpacked images are beside them."""
    used = {record.path for record in dataset.records}
    unpacked = any(".zip/" not in path.lower() for path in used)
    images = tree.images() if tree else ()
    return [path for path in images if path not in used and not (unpacked and ".zip/" in path.lower())]


def _read_sizes(dataset: Dataset) -> tuple[dict[str, Size], dict[str, str]]:
    """Decodes every image: path → stored size, and path → why it cannot be read."""

    def size(dataset: Dataset, record: Record) -> tuple[str, Size]:
        height, width, _ = decode(dataset.read(record), record.path).shape
        return record.path, (width, height)

    with bar("verify", len(dataset.records), "images") as update:
        found, errors = map_images(dataset, size, update)
    return dict(found), {path: reason(error, path) for path, error in errors.items()}


def _odd_sizes(dataset: Dataset, sizes: Mapping[str, Size]) -> dict[str, Size]:
    if dataset.name == "cnmc":
        of_subset = cnmc_index.SIZES
        expected = {record.path: of_subset.get(_group(dataset, record)[0]) for record in dataset.records}
    else:
        size, count = Counter(sizes.values()).most_common(1)[0] if sizes else (None, 0)
        expected = dict.fromkeys(sizes, size if count * 2 > len(sizes) else None)
    return {path: size for path, size in sizes.items() if expected[path] not in (None, size)}


def _group(dataset: Dataset, record: Record) -> _Group:
    """Returns subset, fold and class of a record; for C-NMC 2019 those in the complete set."""
    if dataset.name == "cnmc":
        record = cnmc_index.official(record) or record
    return record.subset, record.fold, "" if record.label == UNLABELED else dataset.classes[record.label]


def _location(record: Record) -> str:
    """Returns the path of an image in the complete set."""
    fold = f"fold_{record.fold}/" if record.fold else ""
    label = "" if record.label == UNLABELED else f"{cnmc_index.CLASSES[record.label]}/"
    return f"{record.subset}/{fold}{label}{record.path}"


def _compare(records: Iterable[Record], problems: defaultdict[str, list[str]]) -> None:
    """Compares each image with the complete set; an image in two subsets is repeated."""
    seen: set[tuple[str, ...]] = set()
    for record in records:
        official, identity = cnmc_index.official(record), cnmc_index.identity(record)
        if official is None:
            problems["surplus"].append(record.path)
        elif record.subset != official.subset or record.fold not in ("", official.fold):
            problems["misplaced"].append(f"{record.path} (belongs in {_location(official)})")
        if identity in seen:
            problems["repeated"].append(record.path)
        seen.add(identity)


def _count_groups(
    dataset: Dataset, missing: Iterable[Record], errors: Container[str], odd: Container[str]
) -> Iterator[dict[str, Any]]:
    groups = defaultdict[_Group, list[Record]](list)
    for record in dataset.records:
        groups[_group(dataset, record)].append(record)
    complete = cnmc_index.KNOWN if dataset.name == "cnmc" else {}
    absent = Counter(_group(dataset, record) for record in missing)
    for group in (*complete, *sorted(set(groups) - set(complete))):
        records, known = groups[group], complete.get(group)
        listed = [record for record in records if not known or cnmc_index.official(record)]
        counts = (
            len({cnmc_index.identity(record) for record in listed}) if known else len(listed),
            known[0] if known else None,
            len({record.subject for record in listed} - {""}),
            known[1] or None if known else None,
            absent[group],
            len(records) - len(listed),
            sum(record.path in errors for record in records),
            sum(record.path in odd for record in records),
        )
        yield dict(zip(COLUMNS, (*group, *counts), strict=True))


def _count_subjects(dataset: Dataset) -> dict[str, dict[str, int]]:
    counts = defaultdict[str, Counter[str]](Counter)
    for record in dataset.records:
        if record.subject:
            counts[record.subset][record.subject] += 1
    return {subset: {name: counts[subset][name] for name in natural_sort(counts[subset])} for subset in sorted(counts)}
