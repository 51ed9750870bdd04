"""What is in a copy of a data set against what should be: C-NMC 2019 name by name, any other as far as it tells."""

import contextlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from alljax.data import cnmc, cnmc_index, prepared
from alljax.data.archive import Tree, natural, open_tree
from alljax.data.dataset import UNLABELED, Dataset, Record, check
from alljax.data.images import decode
from alljax.data.inspection import map_images, reason
from alljax.data.readers import open_all
from alljax.errors import DataError, first_few
from alljax.files import write_text
from alljax.progress import bar

PROBLEMS = {
    "missing": "missing",
    "surplus": "not in the complete set",
    "misplaced": "in another phase or fold than in the complete set",
    "repeated": "standing again (the first is used)",
    "odd_name": "left out, names that do not parse",
    "unlabeled": "left out, numbers that no label CSV explains (is that of the preliminary phase beside them?)",
    "contradictory": "left out, contradicting a folder or themselves",
    "outside": "left out, outside the class folders",
    "unreadable": "cannot be read",
    "odd_size": "of another size than they should have, or than most have",
    "unusable": "to be mended before anything can be learned",
}
"""What can be off, as `Verification.problems` and the JSON call it, and in words."""

Size = tuple[int, int]
_Place = tuple[str, str, str]


@dataclass(frozen=True)
class Row:
    """What is there of one part, official fold and class.

    Attributes:
        part: ``train``, ``prelim``, ``final``, ``test``, ...
        fold: empty where there is none.
        label: the class's name; empty where it is unknown.
        images: how many, each once; of C-NMC 2019 those that the complete set has here, wherever they lie.
        known_images: how many there should be; None where nobody knows.  So too `known_subjects`.
        subjects: how many subject names the images have.
        missing: how many images of the complete set are not there, as `surplus` are more than it has.
        unreadable: how many of them all cannot be read, as `odd_size` are of an odd size.
    """

    part: str
    fold: str
    label: str
    images: int
    known_images: int | None
    subjects: int
    known_subjects: int | None
    missing: int
    surplus: int
    unreadable: int
    odd_size: int


@dataclass(frozen=True)
class Verification:
    """What a source holds, and what is off.

    Attributes:
        source: as the person wrote it.
        name: that of its `Dataset`: ``cnmc``, ``folder``, ...
        rows: by part, fold and class.
        problems: what is off, by the keys of `PROBLEMS`, each with all that it concerns; empty where all is well.
        sizes: how many images have each (width, height).
        subjects: how many images each subject has, by part.
        notes: what its reader said.
    """

    source: str
    name: str
    rows: tuple[Row, ...]
    problems: Mapping[str, tuple[str, ...]]
    sizes: Mapping[Size, int]
    subjects: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]


def verify(source: str) -> Verification:
    """Looks at every image of a source, of all parts, labeled or not; shows a bar.

    Of C-NMC 2019 every name of the complete set is looked for, and images have
    450 × 450 pixels, in the final phase 600 × 600.  Of any other source the
    size is off that differs from that of more than half of the images.

    Args:
        source: as `data.source`.

    Raises:
        DataError: it cannot be opened.
    """
    tree = _tree(source)
    if tree and cnmc.recognize(tree):
        dataset, problems = _read_cnmc(tree)
    else:
        dataset = open_all(source)
        problems = defaultdict(list, outside=_outside(dataset, tree))
    sizes, errors = _look(dataset)
    problems["unreadable"] = [f"{path} ({why})" for path, why in errors.items()]
    odd = _odd_sizes(dataset, sizes)
    problems["odd_size"] = [f"{path} ({sizes[path][0]} × {sizes[path][1]})" for path in odd]
    missing: tuple[Record, ...] = ()
    if dataset.name == "cnmc":
        missing = cnmc_index.missing(dataset.records, tuple(cnmc_index.COUNTS))
        problems["missing"] = [_where(record) for record in missing]
        _compare(dataset.records, problems)
    else:
        try:
            check(dataset, source)
        except DataError as error:
            problems["unusable"].append(str(error))
    return Verification(
        source,
        dataset.name,
        rows=tuple(_rows(dataset, missing, errors, odd)),
        problems={key: tuple(problems[key]) for key in PROBLEMS if problems.get(key)},
        sizes=dict(Counter(sizes.values()).most_common()),
        subjects=_subjects(dataset),
        notes=dataset.notes,
    )


def show(found: Verification, out: Path | None = None) -> None:
    """Prints the table, and of everything that is off how much and the first names; writes all of it as JSON.

    Args:
        found: from `verify`.
        out: the JSON file; none for no file.

    Raises:
        WorkdirError: `out` cannot be written.
    """
    known = found.name == "cnmc"
    heads = ["part", "fold", "class", "images", "of", "subjects", "of", "missing", "surplus", "unreadable", "odd size"]
    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    for number, head in enumerate(heads):
        if known or head not in ("of", "missing", "surplus"):
            table.add_column(head, justify="left" if number < 3 else "right")
    for row in found.rows:
        counts = [row.images, row.known_images, row.subjects, row.known_subjects]
        off = [row.missing, row.surplus, row.unreadable, row.odd_size]
        cells = ["" if count is None else f"{count:,}" for count in (counts if known else counts[::2])]
        cells += [f"{count:,}" if count else "[dim]0[/dim]" for count in (off if known else off[2:])]
        table.add_row(escape(row.part), escape(row.fold), escape(row.label), *cells)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    parts = Counter[str]()
    for row in found.rows:
        parts[row.part] += row.images
    whole = {part: f" of {count:,}" for part, count in cnmc_index.COUNTS.items()} if known else {}
    lines = [", ".join(f"{part} {count:,}{whole.get(part, '')}" for part, count in parts.items()) + " images"]
    sizes = [f"{count:,} of {width} × {height}" for (width, height), count in found.sizes.items()]
    lines.append(f"sizes in pixels: {first_few(sizes)}")
    lines += [f"{len(names):,} {PROBLEMS[key]}: {first_few(names)}" for key, names in found.problems.items()]
    for line in (*lines, *(() if known else found.notes)):  # what is known of C-NMC 2019 says it better
        console.print(line, markup=False)
    console.print("something is off" if found.problems else "nothing is off", style="bold")
    if out:
        content = {"well": not found.problems, **asdict(found)}
        content["sizes"] = {f"{width}x{height}": count for (width, height), count in found.sizes.items()}
        write_text(out, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        console.print(f"{out}: all of it", markup=False)


def _tree(source: str) -> Tree | None:
    """The files of a folder or a zip that was not made by `alljax data prepare`; None for any other source."""
    path = Path(source).expanduser()
    with contextlib.suppress(OSError):  # `open_all` says what is wrong
        if (
            source not in ("", "synthetic")
            and path.exists()
            and path.suffix.lower() not in (".csv", ".npz")
            and not prepared.find(path)
        ):
            return open_tree(path)
    return None


def _read_cnmc(tree: Tree) -> tuple[Dataset, defaultdict[str, list[str]]]:
    """Reads what can be read; files that contradict a folder, or themselves, are set aside."""
    problems = defaultdict[str, list[str]](list)
    try:
        dataset = cnmc.read(tree)
    except DataError:
        wrong = {path: str(error) for path in tree.files if (error := _error(tree, path))}
        problems["contradictory"] = list(wrong.values())
        tree = _only(tree, set(tree.files) - set(wrong))
        dataset = cnmc.read(tree)
    left = set(tree.files) - {record.path for record in dataset.records}
    # Those that would have been read, had the first not been there.
    while again := {record.path for record in cnmc.read(_only(tree, left)).records}:
        problems["repeated"] += natural(again)
        left -= again
    for path in _only(tree, left).images():
        number = path.rpartition("/")[2].partition(".")[0].isdigit()
        problems["unlabeled" if number else "odd_name"].append(path)
    return dataset, problems


def _only(tree: Tree, paths: set[str]) -> Tree:
    return replace(tree, files=tuple(path for path in tree.files if path in paths))


def _error(tree: Tree, path: str) -> DataError | None:
    """Returns why C-NMC's reader refuses a file by itself."""
    try:
        cnmc.read(_only(tree, {path}))
    except DataError as error:
        return error
    return None


def _outside(dataset: Dataset, tree: Tree | None) -> list[str]:
    """Images that no record is of; those inside zips are passed over where unpacked ones are beside them."""
    used = {record.path for record in dataset.records}
    unpacked = any(".zip/" not in path.lower() for path in used)
    images = tree.images() if tree else ()
    return [path for path in images if path not in used and not (unpacked and ".zip/" in path.lower())]


def _look(dataset: Dataset) -> tuple[dict[str, Size], dict[str, str]]:
    """Decodes every image: the sizes as they are stored, and why others cannot be read, by path."""

    def look(dataset: Dataset, record: Record) -> tuple[str, Size]:
        height, width, _ = decode(dataset.read(record), record.path).shape
        return record.path, (width, height)

    with bar("verify", len(dataset.records), "images") as advance:
        seen, errors = map_images(dataset, look, advance)
    return dict(seen), {path: reason(error, path) for path, error in errors.items()}


def _odd_sizes(dataset: Dataset, sizes: Mapping[str, Size]) -> dict[str, Size]:
    if dataset.name == "cnmc":
        of_phase = {phase: known.size for (phase, _, _), known in cnmc_index.KNOWN.items()}
        right = {record.path: of_phase.get(_home(dataset, record)[0]) for record in dataset.records}
    else:
        size, count = Counter(sizes.values()).most_common(1)[0] if sizes else (None, 0)
        right = dict.fromkeys(sizes, size if count * 2 > len(sizes) else None)
    return {path: size for path, size in sizes.items() if right[path] not in (None, size)}


def _home(dataset: Dataset, record: Record) -> _Place:
    """Part, fold and class of a record; of an image of C-NMC 2019 those it has in the complete set."""
    if dataset.name == "cnmc":
        record = cnmc_index.official(record) or record
    return record.subset, record.fold, "" if record.label == UNLABELED else dataset.classes[record.label]


def _where(record: Record) -> str:
    """Where an image of the complete set belongs."""
    fold = f"fold_{record.fold}/" if record.fold else ""
    label = "" if record.label == UNLABELED else f"{cnmc.CLASSES[record.label]}/"
    return f"{record.subset}/{fold}{label}{record.path}"


def _compare(records: Iterable[Record], problems: defaultdict[str, list[str]]) -> None:
    """Holds each image against the complete set; one in two parts was read twice."""
    seen: set[tuple[str, ...]] = set()
    for record in records:
        official, identity = cnmc_index.official(record), cnmc_index.identity(record)
        if official is None:
            problems["surplus"].append(record.path)
        elif record.subset != official.subset or record.fold not in ("", official.fold):
            problems["misplaced"].append(f"{record.path} (belongs into {_where(official)})")
        if identity in seen:
            problems["repeated"].append(record.path)
        seen.add(identity)


def _rows(dataset: Dataset, missing: Iterable[Record], errors: Container[str], odd: Container[str]) -> Iterator[Row]:
    there = defaultdict[_Place, list[Record]](list)
    for record in dataset.records:
        there[_home(dataset, record)].append(record)
    complete = cnmc_index.KNOWN if dataset.name == "cnmc" else {}
    absent = Counter(_home(dataset, record) for record in missing)
    for place in (*complete, *sorted(set(there) - set(complete))):
        records, known = there[place], complete.get(place)
        listed = [record for record in records if not known or cnmc_index.official(record)]
        distinct = len({cnmc_index.identity(record) for record in listed}) if known else len(listed)
        yield Row(
            *place,
            images=distinct,
            known_images=known.images if known else None,
            subjects=len({record.subject for record in listed} - {""}),
            known_subjects=known.subjects or None if known else None,
            missing=absent[place],
            surplus=len(records) - len(listed),
            unreadable=sum(record.path in errors for record in records),
            odd_size=sum(record.path in odd for record in records),
        )


def _subjects(dataset: Dataset) -> dict[str, dict[str, int]]:
    counts = defaultdict[str, Counter[str]](Counter)
    for record in dataset.records:
        if record.subject:
            counts[record.subset][record.subject] += 1
    return {part: {subject: counts[part][subject] for subject in natural(counts[part])} for part in sorted(counts)}
