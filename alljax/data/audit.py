"""Checks of a data set: what is missing or wrong, duplicates, and what each protocol, or a given split, leaks."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

from pandas import DataFrame, isna

from alljax import config as configs
from alljax.data import cnmc
from alljax.data.archive import natural_sort
from alljax.data.dataset import SKIPPED, UNLABELED, Dataset, Record, check, merge_subjects
from alljax.data.images import decode
from alljax.data.inspection import Inspection, inspect, map_images
from alljax.data.names import make_records
from alljax.data.protocols import LEAKY, PROTOCOLS, RANDOM
from alljax.data.readers import as_dataset, open_all
from alljax.data.splits import divide
from alljax.errors import DataError, LeakError, UserError, first_few, plural
from alljax.files import write_text
from alljax.progress import format_table, show

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

DIFFERENCES = ["subject", "merged", "fold", "subset", "label"]
"""What images of a group of duplicates can differ in: subject name, merged subject, official fold, subset, class."""

SHARED = {"subject": "the subject", "image": "the same image", "similar": "a similar image"}
"""What an image can share with another side of a split; subjects that share an image are one."""


def verify(source: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Decodes every image of a source, read with words of the command line, and returns what is wrong (`PROBLEMS`)."""
    data = configs.load(overrides=overrides).data
    dataset = open_all(source, data.classes, data.name_pattern, data.synthetic, strict=False)
    shapes, errors = map_images(
        dataset, lambda dataset, record: decode(dataset.read(record), record.path).shape, "verify"
    )
    sizes = {path: (width, height) for path, (height, width, _) in shapes.items()}
    problems = {kind: list(dataset.skipped.get(kind, ())) for kind in PROBLEMS}
    groups = _compare(dataset, sizes, errors, problems)
    if dataset.name != "cnmc":
        try:
            check(dataset, source)
        except DataError as error:
            problems["unusable"].append(str(error))
    return {
        "complete": not any(problems.values()),
        "source": source,
        "name": dataset.name,
        "groups": groups,
        "problems": {kind: names for kind, names in problems.items() if names},
        "sizes": {f"{width} × {height}": n for (width, height), n in Counter(sizes.values()).most_common()},
        "notes": list(dataset.notes),
    }


def print_verification(found: Mapping[str, Any], out: Path | None = None) -> None:
    """Prints counts, notes and problems, and writes everything to the JSON file `out`."""
    show(format_table(found["groups"]))
    show("sizes in pixels:", first_few(f"{count:,} of {size}" for size, count in found["sizes"].items()))
    problems = [f"{len(names):,} {PROBLEMS[kind]}: {first_few(names)}" for kind, names in found["problems"].items()]
    show(*found["notes"], *problems, "no problems found" if found["complete"] else "problems found", sep="\n")
    write_findings(found, out)


def audit(source: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compares all images of a source and returns, ready for JSON, duplicates and what each of ``protocols`` leaks.

    None is a leak that is unknown; ``error`` says how a protocol leaks that is not declared leaky.
    """
    config = configs.vary(configs.load(overrides=overrides), {"data.source": source})
    dataset = open_all(source, config.data.classes, config.data.name_pattern, config.data.synthetic)
    if not dataset.records:
        check(dataset, source)
    dataset, inspection = inspect(dataset, "skip")
    table = tabulate(dataset, inspection)
    unknown = dict.fromkeys(table.columns[table.isna().all()])
    protocols: list[dict[str, Any]] = []
    errors: list[str] = []
    for name in PROTOCOLS:
        changes = {"split.protocol": name} | ({} if name in RANDOM else {"split.repeats": 1})
        try:
            division = divide(dataset, inspection, configs.vary(config, changes))
        except UserError as refusal:
            protocols.append({"protocol": name, "refused": str(refusal)})
            errors += [str(refusal)] if isinstance(refusal, LeakError) else []
            continue
        leaks = {key: unknown.get(key, count) for key, count in division.leaks.items()}
        protocols.append({"protocol": name, "folds": len(division), **leaks})
    return {
        "source": source,
        "images": len(dataset.records),
        "subject_names": table["subject"].nunique(),
        "exact": _duplicates(table, "pixels"),
        "near": _duplicates(table.drop_duplicates("pixels"), "similar"),
        "merged": [natural_sort(names) for names in table.groupby("merged")["subject"].unique() if len(names) > 1],
        "protocols": protocols,
        "notes": list(dataset.notes),
        "error": errors[0] if errors else "",
    }


def print_audit(found: Mapping[str, Any], out: Path | None = None) -> None:
    """Prints the findings of `audit`, of long lists the beginning, and writes all of them to the JSON file `out`."""
    counts = f"{plural(found['images'], 'image')}, {plural(found['subject_names'], 'subject name')}"
    show(counts, *found["notes"], "", sep="\n")
    show("groups of duplicates, and those of several subject names, merged subjects, folds, subsets and labels:")
    kinds = ("exact", "near")
    show(format_table([{"": kind} | {key: found[kind][key] for key in ("count", *DIFFERENCES)} for kind in kinds]))
    for kind in kinds:
        for title, key in (("", "groups"), (" with several classes", "contradictory")):
            if groups := found[kind][key]:
                show(f"{kind} duplicates{title}: {first_few(map(' = '.join, groups))}")
    for names in found["merged"]:
        show(f"one subject: {' = '.join(names)}")
    show("\nTest images whose subject, photograph, image or a similar image is in the training data:")
    show(format_table([leaks for leaks in found["protocols"] if "refused" not in leaks]))
    for leaks in found["protocols"]:
        if leaks.get("refused", found["error"]) != found["error"]:
            show(f"{leaks['protocol']} is impossible: {leaks['refused']}")
    show(f"Declared leaky: {', '.join(LEAKY)}. Near duplicates do not merge subjects.")
    write_findings(found, out)


@dataclass(frozen=True, repr=False)
class SplitAudit:
    """What the images on each side of a split share with another side; printed, a table of counts."""

    images: dict[str, int]  # by side
    shared: list[dict[str, Any]]  # how many of a ``side`` share each of `SHARED` with the ``other``; None: unknown
    rows: list[dict[str, str]]  # ``side``, ``other``, what it ``shares``, ``path`` and ``other_path``
    file_properties: dict[str, dict[str, Any]]  # see `inspection.measure_properties`
    notes: list[str]

    def to_pandas(self) -> DataFrame:
        """Returns a row per image and what it shares with another side: an empty table where nothing leaks."""
        return DataFrame(self.rows, columns=["side", "other", "shares", "path", "other_path"])

    def __repr__(self) -> str:
        lines = [", ".join(f"{plural(count, 'image')} in {side}" for side, count in self.images.items()), *self.notes]
        lines += ["Images of a side that share a subject or an image with the other side:", format_table(self.shared)]
        for kind, description in SHARED.items():
            if pairs := [f"{row['path']} = {row['other_path']}" for row in self.rows if row["shares"] == kind]:
                lines.append(f"{description}: {first_few(pairs)}")
        return "\n".join(lines)


def audit_split(paths: Any, labels: Iterable[Any], groups: Iterable[Any] | None, split: Iterable[Any]) -> SplitAudit:
    """Finds the subjects and the images, identical or similar, that several sides of a split have in common.

    Args:
        paths: N image files, or images as `alljax.extract_features` accepts them.
        labels: The class of each image, (N,).
        groups: The subject of each image, (N,), None where it is unknown; None: what C-NMC file names say.
        split: The side of each image, (N,), for example ``train`` or ``test``; two sides or more.

    Raises:
        DataError: Files that do not exist, other numbers of labels, groups or sides, or only one side.

    >>> images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    >>> images[1] = images[0, ::-1]
    >>> alljax.audit_split(images, ["hem", "hem", "all"], ["A", "B", "C"], ["train", "test", "test"])
    2 images in test, 1 image in train
    Images of a side that share a subject or an image with the other side:
      side other subject image similar
      test train       0     0       1
     train  test       0     0       1
    a similar image: images[1] = images[0], images[0] = images[1]
    """
    dataset = as_dataset(paths)
    groups = [record.subject for record in dataset.records] if groups is None else groups
    given = {"label": labels, "subject": groups, "subset": split}
    table = {name: ["" if isna(value) else str(value) for value in values] for name, values in given.items()}
    for name, values in table.items():
        if len(values) != len(dataset.records):
            counts = f"{plural(len(values), name)} for {plural(len(dataset.records), 'image')}"
            raise DataError(f"audit_split: {counts}; give one for each, and each path once")
    table["path"] = [record.path for record in dataset.records]
    classes, records, notes = make_records(DataFrame(table).to_dict("records"))
    return audit_sides(replace(dataset, classes=classes, records=records, notes=(*dataset.notes, *notes)))


def audit_sides(dataset: Dataset) -> SplitAudit:
    """Compares the images of the subsets of a labeled data set."""
    dataset, inspection = inspect(dataset, "skip")
    table = tabulate(dataset, inspection).drop(columns="subject")
    table = table.rename(columns={"subset": "side", "merged": "subject", "pixels": "image"})
    sides = natural_sort(table["side"].unique())
    if len(sides) < 2:
        raise DataError(f"all images are in {sides[0]!r}; a column 'split' must name at least two sides")
    shared, rows = [], []
    for side, other in permutations(sides, 2):
        counts: dict[str, Any] = {"side": side, "other": other}
        for kind in SHARED:
            first = table[table["side"] == other].dropna(subset=[kind]).drop_duplicates(kind).set_index(kind)["path"]
            found = table[(table["side"] == side) & table[kind].isin(first.index)]
            counts[kind] = len(found) if table[kind].notna().any() else None
            found = found.assign(other=other, shares=kind, other_path=found[kind].map(first))
            rows += found[["side", "other", "shares", "path", "other_path"]].to_dict("records")
        shared.append(counts)
    images = table["side"].value_counts().to_dict()
    return SplitAudit(images, shared, rows, inspection.file_properties, list(dataset.notes))


def tabulate(dataset: Dataset, inspection: Inspection) -> DataFrame:
    """Returns the fields of the records, pixels, similar, and merged (the subject) as a table; None: unknown."""
    table = DataFrame(map(asdict, dataset.records)).replace({"": None, UNLABELED: None})
    merged = merge_subjects(dataset, inspection.pixels)
    table = table.assign(pixels=inspection.pixels, similar=inspection.similar, merged=merged)
    table["merged"] = table["merged"].where(table["subject"].notna(), None)
    return table


def _compare(
    dataset: Dataset, sizes: Mapping[str, tuple[int, int]], errors: Mapping[str, str], problems: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """Returns counts per subset, official fold and class, and adds what is wrong to the lists of `problems`."""
    complete = cnmc.expected() if dataset.name == "cnmc" else {}
    usual = next((size for size, count in Counter(sizes.values()).items() if count * 2 > len(sizes)), None)
    present = set[Record]()
    for record in dataset.records:
        path, known = record.path, complete.get(cnmc.identity(record)) if complete else record
        size = cnmc.SIZES.get((known or record).subset) if complete else usual
        if path in errors:
            problems["unreadable"].append(f"{path} ({errors[path]})")
        elif size not in (None, sizes[path]):
            problems["odd_size"].append(f"{path} ({sizes[path][0]} × {sizes[path][1]})")
        if known is None:
            problems["surplus"].append(path)
            continue
        if record.subset != known.subset or record.fold not in ("", known.fold):
            problems["misplaced"].append(f"{path} (belongs in {_location(known)})")
        if known in present:  # in two subsets
            problems["repeated"].append(path)
        present.add(known)
    problems["missing"] = [_location(known) for known in complete.values() if known not in present]
    expected, subjects = Counter(map(cnmc.group, complete.values())), defaultdict[Any, list[str]](list)
    for record in present:
        subjects[cnmc.group(record, dataset.classes)].append(record.subject)
    names = "subset", "fold", "class", "images", "expected_images", "subjects"
    return [
        dict(zip(names, (*group, len(found), expected[group] or None, len({*found} - {""})), strict=True))
        for group, found in ((group, subjects[group]) for group in expected or sorted(subjects))
    ]


def _location(record: Record) -> str:
    """Returns the path of an image in the complete set."""
    subset, fold, label = cnmc.group(record)
    return "/".join(filter(None, (subset, fold and f"fold_{fold}", label, record.path)))


def _duplicates(table: DataFrame, key: str) -> dict[str, Any]:
    """Returns the ``groups`` of images with an equal `key`, of several classes too, and how many differ in what."""
    repeated = table[table.duplicated(key, keep=False)].groupby(key, sort=False)
    groups, several = repeated["path"].agg(list), repeated[DIFFERENCES].nunique() > 1
    counts = dict[str, Any](several.sum().astype(object))
    counts |= {"groups": groups.tolist(), "contradictory": groups[several["label"]].tolist()}
    return {"count": len(groups), **counts}


def write_findings(found: Mapping[str, Any], out: Path | None) -> None:
    """Writes findings to the JSON file `out`, if one is given."""
    if out:
        write_text(out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        show(f"{out}: all findings")
