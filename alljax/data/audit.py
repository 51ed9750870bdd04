"""Duplicates and related subjects in a data set, and what each split protocol would leak."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.data import duplicates, splits
from alljax.data.archive import natural_sort
from alljax.data.dataset import Dataset, Record, check
from alljax.data.inspection import map_images
from alljax.data.protocols import LEAKY, PROTOCOLS, RANDOM
from alljax.data.readers import open_all
from alljax.data.verify import format_table, write_findings
from alljax.errors import LeakError, UserError, first_few, plural
from alljax.progress import show

DUPLICATE_COLUMNS = {
    "kind": "duplicates", "pairs": "pairs", "subject_names": "two names", "subjects": "two subjects",
    "folds": "two folds", "subsets": "two subsets", "classes": "two classes",
}  # fmt: skip
PROTOCOL_COLUMNS = {
    "protocol": "protocol", "folds": "folds", "test_images": "tested", "subject": "subject", "field": "photograph",
    "duplicate": "image", "near": "similar",
}  # fmt: skip


def audit(source: str, protocol: str = "", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compares all images of all subsets of a source, labeled or not, and counts what leaks.

    Subject names that share an image, or are known to belong to one subject, are merged.  Near duplicates are reported
    and do not merge subjects.

    Args:
        source: as ``data.source``.
        protocol: a name in `PROTOCOLS`; empty for all, those without randomness with one repeat.
        overrides: words of the command line, for example ``["--config.split.folds=3"]``.

    Returns:
        The findings, ready for JSON: ``images``, ``subject_names`` (numbers), ``exact`` and ``near`` duplicates
        (`duplicates.summarize`), ``merged`` subjects, ``unreadable`` (path → reason), ``notes`` of the data set,
        ``protocols``: the test images of each of which related images are in the training data, by ``subject``,
        ``field`` (None where unknown), ``duplicate`` and ``near`` (similar) image, and ``error``: why the given
        protocol is impossible, or how a protocol leaks that is not declared leaky; empty if all is well.
    """
    changes = {"data.source": source} | ({"split.protocol": protocol} if protocol else {})
    config = configs.check(configs.vary(configs.load(overrides=overrides), changes))
    dataset = open_all(source, config.data.classes, config.data.name_pattern, config.data.synthetic)
    if not dataset.records:
        check(dataset, source)
    prints, unreadable = map_images(dataset, duplicates.fingerprint, "read images")
    records = tuple(record for record in dataset.records if record.path in prints)
    dataset, pixels = replace(dataset, records=records), [digest for digest, _ in prints.values()]
    groups = duplicates.exact_groups(pixels)
    distinct = np.setdiff1d(np.arange(len(records)), [row for group in groups for row in group[1:]])
    pairs = distinct[duplicates.near_pairs([prints[records[row].path][1] for row in distinct])].tolist()
    subjects = splits.merge_subjects(records, pixels, dataset.known_subjects)
    similar = splits.connected_groups(len(records), [*groups, *pairs])
    found, error = [], ""
    for name in (protocol,) if protocol else PROTOCOLS:
        repeats = config.split.repeats if protocol or name in RANDOM else 1
        settings = configs.vary(config, {"split.protocol": name, "split.repeats": repeats})
        try:
            found.append(_leaks(settings, dataset, subjects, pixels, similar))
        except UserError as refusal:
            found.append({"protocol": name, "declared": name in LEAKY, "refused": str(refusal)})
            if protocol or isinstance(refusal, LeakError):
                error = error or str(refusal)
    return {
        "source": source,
        "images": len(records),
        "subject_names": len({record.subject for record in records} - {""}),
        "exact": duplicates.summarize(records, subjects, groups),
        "near": duplicates.summarize(records, subjects, pairs),
        "merged": _merged(dataset, pixels, subjects),
        "protocols": found,
        "unreadable": unreadable,
        "notes": list(dataset.notes),
        "error": error,
    }


def print_audit(found: Mapping[str, Any], out: Path | None = None) -> None:
    """Prints the findings of `audit`, of long lists the beginning, and writes all of them to the JSON file `out`."""
    show(
        f"{plural(found['images'], 'image')}, {plural(found['subject_names'], 'subject name')}",
        *found["notes"],
        sep="\n",
    )
    if bad := found["unreadable"]:
        listed = first_few(f"{path} ({why})" for path, why in bad.items())
        show(f"{plural(len(bad), 'image')} skipped, cannot be read: {listed}")
    show(f"\n{format_table([{'kind': kind} | found[kind] for kind in ('exact', 'near')], DUPLICATE_COLUMNS)}")
    for kind in ("exact", "near"):
        for title, key in (("", "groups"), (" with several classes", "contradictory")):
            if groups := found[kind][key]:
                rest = [f"and {len(groups) - 5:,} more"] if len(groups) > 5 else []
                show(f"{kind} duplicates{title}:", *map(" = ".join, groups[:5]), *rest, sep="\n  ")
    for subject in found["merged"]:
        sharing = " and ".join(" = ".join(names) for names in subject["sharing"])
        why = f"{sharing} share {plural(subject['images'], 'image')}" if sharing else "no shared image in this copy"
        show(f"one subject: {' = '.join(subject['names'])} ({why}{'; known' if subject['known'] else ''})")
    if possible := [leaks for leaks in found["protocols"] if "refused" not in leaks]:
        show("\nTest images whose subject, photograph, image or a similar image is in the training data:")
        show(format_table(possible, PROTOCOL_COLUMNS))
    if declared := [leaks["protocol"] for leaks in possible if leaks["declared"]]:
        show(f"declared leaky: {', '.join(declared)}")
    for leaks in found["protocols"]:
        if leaks.get("refused", found["error"]) != found["error"]:
            show(f"{leaks['protocol']} is impossible: {leaks['refused']}")
    show("Near duplicates do not merge subjects.")
    write_findings(found, out)


def _leaks(
    config: ConfigDict, dataset: Dataset, subjects: Sequence[str], pixels: Sequence[str], similar: Sequence[int]
) -> dict[str, Any]:
    """Returns the counts of one protocol."""
    folds, protocol = splits.make_splits(dataset, subjects, pixels, config), config.split.protocol
    counts: dict[str, int | None] = {**splits.count_leaks(folds, dataset.records, subjects, pixels)}
    used = [dataset.records[row] for _, rows in folds[0].sides for row in rows]
    for key in ("subject", "field"):
        if not any(getattr(record, key) for record in used):
            counts[key] = None
    near = splits.count_leaks(folds, dataset.records, subjects, similar)["duplicate"]
    return {"protocol": protocol, "declared": protocol in LEAKY, "folds": len(folds), **counts, "near": near}


def _merged(dataset: Dataset, pixels: Sequence[str], subjects: Sequence[str]) -> list[dict[str, Any]]:
    """Returns per subject with several names: names, groups that share images, number of images, whether known."""
    records = dataset.records
    images, sharing = _several_names(records, pixels), _several_names(records, splits.merge_subjects(records, pixels))
    return [
        {
            "names": names,
            "known": any(known.issuperset(names) for known in dataset.known_subjects),
            "sharing": [group for group in sharing if set(group) <= set(names)],
            "images": sum(set(group) <= set(names) for group in images),
        }
        for names in _several_names(records, subjects)
    ]


def _several_names(records: Sequence[Record], keys: Sequence[str]) -> list[list[str]]:
    """Returns the subject names of the records of each key, sorted by key, where there are several."""
    names = defaultdict[str, set[str]](set)
    for record, key in zip(records, keys, strict=True):
        names[key] |= {record.subject} - {""}
    return [natural_sort(names[key]) for key in natural_sort(names) if len(names[key]) > 1]
