"""One image (`Record`) and a set of images (`Dataset`), and the checks that a data set must pass."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alljax.data.archive import natural_sort
from alljax.errors import DataError, first_few, plural

UNLABELED = -1  # the label of an image of unknown class

SKIPPED = {
    "odd_name": "names that are not C-NMC names",
    "unlabeled": "numbers without labels (is the label CSV of the preliminary phase beside them?)",
    "repeated": "repeated (the first is used)",
    "contradictory": "the name contradicts the folder or another name",
    "outside": "of none of the classes",
}
"""Reasons why a reader skips an image, and their descriptions."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image; texts that are unknown are empty."""

    path: str  # POSIX path inside the source, unique in the data set
    label: int  # index into `Dataset.classes`, or `UNLABELED`
    subject: str = ""  # the source's name for the subject
    field: str = ""  # the microscope field (photograph) that the image was cropped from
    cell: str = ""  # number of the cell in its field
    fold: str = ""  # official fold
    subset: str = "train"  # ``train``, ``prelim``, ``test``, ... as the source divides its images

    def __post_init__(self) -> None:
        for name in (self.path, self.subject):
            if "\r" in name or "\n" in name:
                raise DataError(f"{name!r} contains a line break; rename the file, folder or subject")


@dataclass(frozen=True, repr=False)
class Dataset:
    """Images with their classes."""

    name: str  # ``cnmc``, ``folder``, ``npz``, ``sources``, ``synthetic``, ``table``, or that of another package
    classes: tuple[str, ...]  # names in label order; of two classes, class 1 is the positive one
    records: tuple[Record, ...]  # one per image, in an order independent of the file system
    # Returns the encoded bytes of a record's image file; safe to call from several threads.
    read: Callable[[Record], bytes]
    notes: tuple[str, ...] = ()  # remarks for the user, such as skipped files, one line each
    known_subjects: Sequence[set[str]] = ()  # disjoint sets of subject names known to be the same subject
    # Center crops by (width, height), for images that show more background at the same scale.
    crops: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    # Returns path, size and modification time of a record's file; None if there is no file, as for generated images.
    stamp: Callable[[Record], str] | None = None
    class_names: tuple[str, ...] = ()  # display names as the authors of the data set write them; empty: `classes`
    # Other columns of a CSV by name: the value of each image, by its path.
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # Images without a record by reason, a key of `SKIPPED`.
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "\n  ".join([f"Dataset {self.name!r}: {self.counts}", *self.notes])

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """The label of each record, int32 (N,)."""
        return np.array([record.label for record in self.records], np.int32)

    @property
    def counts(self) -> str:
        """The numbers of images and of subject names, and the images of each class."""
        by_class = Counter(self.classes[label] for label in self.labels if label != UNLABELED)
        names = natural_sort({record.subject for record in self.records} - {""})
        parts = [", ".join(f"{name} {count:,}" for name, count in sorted(by_class.items()))]
        parts.append(f"{plural(len(names), 'subject name')}: {first_few(names)}" if names else "")
        return f"{plural(len(self.records), 'image')}: {'; '.join(filter(None, parts))}".removesuffix(": ")


def check(dataset: Dataset, source: str) -> Dataset:
    """Returns `dataset` if it has two classes or more, each with images; `source` is its name for messages."""
    if not dataset.records or not dataset.classes:
        notes = f" ({'; '.join(dataset.notes)})" if dataset.notes else ""
        raise DataError(f"{source}: no labeled images found{notes}; expected one folder per class with images inside")
    if len(dataset.classes) < 2:
        raise DataError(
            f"{source}: only one class ({dataset.classes[0]!r}); a classifier needs at least two class folders "
            "(if the class folders are deeper, name them in data.classes)"
        )
    counts = Counter(record.label for record in dataset.records)
    if empty := [name for label, name in enumerate(dataset.classes) if not counts[label]]:
        raise DataError(f"{source}: class {empty[0]!r} has no images; add images or remove the empty class folder")
    return dataset


def merge_subjects(dataset: Dataset, digests: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the subject of each record: names that share an image or are known to be one, joined by ``+``."""
    records = dataset.records
    known = {name: number for number, names in enumerate(dataset.known_subjects) for name in names}
    groups: dict[object, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        if record.subject:
            groups[known.get(record.subject, record.subject)].append(row)
    for row, digest in enumerate(digests):
        groups["digest", digest].append(row)
    component = connected_groups(len(records), groups.values())
    names, paths = defaultdict(set), defaultdict(set)
    for number, record in zip(component, records, strict=True):
        names[number].add(record.subject)
        paths[number].add(record.path)
    merged = {n: "+".join(natural_sort(names[n] - {""})) or natural_sort(paths[n])[0] for n in paths}
    return tuple(merged[number] for number in component)


def connected_groups(count: int, groups: Iterable[Sequence[int]]) -> list[int]:
    """Returns for each of `count` nodes a number that is equal for all nodes that the groups connect."""
    edges = np.array([(group[0], other) for group in groups for other in group[1:]], int).reshape(-1, 2)
    from scipy.sparse import coo_array, csgraph  # here, since a finished study is recognized without SciPy

    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return csgraph.connected_components(graph, directed=False)[1].tolist()
