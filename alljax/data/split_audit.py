"""Checks any division of images into training and test sets, given as a CSV, for what its sides share."""

import json
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alljax import config as configs
from alljax.data import splits
from alljax.data.archive import natural_sort
from alljax.data.inspection import inspect
from alljax.data.readers import open_all
from alljax.errors import DataError, first_few, plural
from alljax.files import write_text
from alljax.progress import show

if TYPE_CHECKING:
    from pandas import DataFrame

KINDS = {
    "subject": "the subject",
    "merged": "a subject that shares an identical image with it",
    "image": "the same image",
    "similar": "a similar image",
}
"""What an image can share with the other side, and how it is described."""


def audit_split(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compares the sides of a division of images, listed in a CSV with path, label, and optionally subject and split.

    `overrides` are words of the command line (``--config.data.classes=…``).  Returns the findings, ready for JSON:
    ``images`` by side, ``shared``: for each ordered pair of sides the number of images of the first that share each
    of `KINDS` with the second (None where it is unknown), ``rows`` with each such image and the first image of the
    other side that it shares it with, ``file_properties`` (see `inspection.measure_properties`) and ``notes``.

    Raises:
        DataError: the CSV cannot be read, or has a single side.
    """
    import pandas  # importing it takes half a second

    data = configs.load(overrides=overrides).data
    dataset = open_all(str(path), data.classes, data.name_pattern, data.synthetic)
    dataset, inspection = inspect(dataset, "skip")
    records = dataset.records
    table = pandas.DataFrame({
        "path": [record.path for record in records],
        "split": [record.subset for record in records],
        "subject": [record.subject or None for record in records],
        "merged": splits.merge_subjects(records, inspection.pixels, dataset.known_subjects),
        "image": inspection.pixels,
        "similar": inspection.similar,
    })  # fmt: skip
    sides = natural_sort(table["split"].unique())
    if len(sides) < 2:
        raise DataError(f"{path}: all images are in {sides[0]!r}; a column 'split' must name at least two sides")
    shared, rows = [], []
    for side, other in permutations(sides, 2):
        counts: dict[str, Any] = {"side": side, "other": other}
        for kind in KINDS:
            found = _shared(table[table["split"] == side], table[table["split"] == other], kind)
            known = table["subject"].notna().any() or kind in ("image", "similar")
            counts[kind] = len(found) if known else None
            rows += [{"side": side, "other": other, "shares": kind, **row} for row in found]
        shared.append(counts)
    return {
        "split": str(path),
        "images": table["split"].value_counts().to_dict(),
        "shared": shared,
        "rows": rows,
        "file_properties": inspection.file_properties,
        "notes": list(dataset.notes),
    }


def print_split_audit(found: Mapping[str, Any], out: Path | None = None) -> None:
    """Prints what `audit_split` finds; writes all of it to the JSON file `out`, and its rows to a CSV beside it."""
    import pandas

    counts = ", ".join(f"{side} {count:,}" for side, count in found["images"].items())
    show(f"{plural(sum(found['images'].values()), 'image')}: {counts}", *found["notes"], sep="\n")
    for counts in found["shared"]:
        shared = {kind: counts[kind] for kind in KINDS if counts[kind]}
        listed = ", ".join(f"{KINDS[kind]} of {count:,}" for kind, count in shared.items()) or "nothing that is known"
        of_side = plural(found["images"][counts["side"]], "image")
        show(f"of the {of_side} in {counts['side']}, {counts['other']} has {listed}")
    rows = [row for row in found["rows"] if found["images"][row["side"]] <= found["images"][row["other"]]]
    for kind, description in KINDS.items():
        if pairs := [f"{row['path']} = {row['other_path']}" for row in rows if row["shares"] == kind]:
            show(f"{description}: {first_few(pairs)}")
    if out:
        write_text(out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        table = pandas.DataFrame(found["rows"], columns=["side", "other", "shares", "path", "other_path"])
        write_text(out.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n"))
        show(f"{out}, {out.with_suffix('.csv')}: all findings")


def _shared(side: "DataFrame", other: "DataFrame", kind: str) -> list[dict[str, str]]:
    """Returns the images of one side whose `kind` occurs in the other, with the first such image there."""
    if kind == "merged":  # under the same name they are counted as ``subject``
        names = other.groupby("merged")["subject"].agg(set)
        side = side.dropna(subset=["subject"])
        pairs = zip(side["subject"], side["merged"], strict=True)
        side = side[[subject not in names.get(merged, ()) for subject, merged in pairs]]
    first = other.dropna(subset=[kind]).drop_duplicates(kind).set_index(kind)["path"]
    found = side[side[kind].isin(first.index)]
    return [{"path": path, "other_path": first[key]} for path, key in zip(found["path"], found[kind], strict=True)]
