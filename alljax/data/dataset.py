"""What one image is, and what makes a set of them valid."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from alljax.errors import DataError, first_few, plural

UNLABELED = -1
"""The label of an image whose class nobody has told."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image.

    Attributes:
        path: POSIX path inside the source, unique in the set.
        label: index into `Dataset.classes`, or `UNLABELED`.
        subject: the name the source gives the person; empty where it is unknown.
        field: the microscope field (the photograph) the cell was cut from; empty where unknown.
        cell: the cell's number inside its field; empty where unknown.
        fold: the official fold; empty where there is none.
        subset: ``train``, ``prelim``, ``test``, ... as the source divides its images.
    """

    path: str
    label: int
    subject: str = ""
    field: str = ""
    cell: str = ""
    fold: str = ""
    subset: str = "train"


@dataclass(frozen=True)
class Dataset:
    """Records with their classes and the way to their bytes.

    Attributes:
        name: ``cnmc``, ``folder``, ``npz`` or ``synthetic``.
        classes: class names in the order of the labels; of two, class 1 is the positive one.
        records: one an image, in an order that does not depend on the file system.
        read: gives the encoded bytes of a record's image file.  May be called from several threads.
        notes: what a person should know of the reading (names left out, folders passed over), one line each.
        known_subjects: sets of subject names known to be one person.
        crops: (width, height) of images that are cut, about their center, to another (width, height)
            before anything else, because they show the same scale on a larger ground.
        stamp: identifies the state of a record's file without reading it (path, size, modification time); None where no
            such stamp exists, as for generated images.
        class_names: the classes as the authors of the data set write them, for reports; empty: as `classes`.
    """

    name: str
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    read: Callable[[Record], bytes] = field(repr=False)
    notes: tuple[str, ...] = ()
    known_subjects: tuple[frozenset[str], ...] = ()
    crops: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    stamp: Callable[[Record], str] | None = field(default=None, repr=False)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fills in the display names."""
        object.__setattr__(self, "class_names", self.class_names or self.classes)


def check(dataset: Dataset, source: str) -> Dataset:
    """Returns `dataset` if it can be learned from.

    Args:
        dataset: what a reader made of the source.
        source: the source as the person wrote it, for the message.

    Raises:
        DataError: no images, fewer than two classes, a class without images, or two records of one path.
    """
    if not dataset.records:
        why = f" ({'; '.join(dataset.notes)})" if dataset.notes else ""
        raise DataError(f"{source}: no labeled images found{why}; expected a folder for each class with images inside")
    if len(dataset.classes) < 2:
        raise DataError(
            f"{source}: only one class ({dataset.classes[0]!r}); a classifier needs at least two class folders "
            "(if the classes lie deeper, point data.source at the folder that holds them)"
        )
    counts = Counter(record.label for record in dataset.records)
    if empty := [name for label, name in enumerate(dataset.classes) if not counts[label]]:
        raise DataError(f"{source}: class {empty[0]!r} has no image; add images or remove the empty class folder")
    paths = Counter(record.path for record in dataset.records)
    if twice := [path for path, count in paths.items() if count > 1]:
        raise DataError(f"{source}: {twice[0]} is listed {paths[twice[0]]} times; every path may stand once")
    return dataset


def choose_classes(wanted: Sequence[str], there: Sequence[str], source: object) -> tuple[str, ...]:
    """Returns the classes in label order: those a person names, else all that are there.

    Raises:
        DataError: one of `wanted` is not there.
    """
    if missing := [name for name in wanted if name not in there]:
        raise DataError(f"{source}: data.classes names {missing[0]!r}, but the classes there are {first_few(there)}")
    return tuple(wanted) or tuple(there)


def subject_notes(records: Sequence[Record]) -> tuple[str, ...]:
    """Says what a person should know of the subjects: none known, some unknown, one under two classes."""
    labeled = [record for record in records if record.label != UNLABELED]
    if not any(record.subject for record in labeled):
        return ("no subjects known: cell-level only",)
    notes = []
    if nameless := sum(1 for record in labeled if not record.subject):
        notes.append(f"{nameless:,} of {plural(len(labeled), 'image')} have no subject; each counts as its own person")
    labels = defaultdict(set)
    for record in labeled:
        labels[record.subject].add(record.label)
    if both := [subject for subject, seen in labels.items() if subject and len(seen) > 1]:
        notes.append(
            f"{plural(len(both), 'subject')} under more than one class, taken for the same person: {first_few(both)}"
        )
    return tuple(notes)
