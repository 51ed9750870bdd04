"""Checks of a data set: what is missing or wrong, duplicates, and what each protocol leaks."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pandas import DataFrame

from alljax import config as configs
from alljax.data import cnmc
from alljax.data.archive import natural_sort
from alljax.data.dataset import SKIPPED, UNLABELED, Dataset, Record, check, merge_subjects
from alljax.data.images import decode
from alljax.data.inspection import Inspection, inspect, map_images
from alljax.data.protocols import LEAKY, PROTOCOLS, RANDOM
from alljax.data.readers import open_all
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
