"""What the sides of a division of images, however it was made, have in common."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from pandas import DataFrame, isna

from alljax.data.archive import natural_sort
from alljax.data.arrays import as_dataset
from alljax.data.audit import tabulate
from alljax.data.dataset import Dataset
from alljax.data.inspection import inspect
from alljax.data.names import make_records
from alljax.errors import DataError, first_few, plural
from alljax.progress import format_table

SHARED = {"subject": "the subject", "image": "the same image", "similar": "a similar image"}
"""What an image can share with another side of a split; subjects that share an image are one."""


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
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    classes, records, notes = make_records(rows)
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
