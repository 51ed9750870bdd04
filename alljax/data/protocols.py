"""The fold that tests each image, by protocol, -1 for none: functions of the records, ``config.split`` and a seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray
from pandas import factorize

from alljax.data.archive import natural_key, natural_sort
from alljax.data.dataset import UNLABELED, Dataset, Record
from alljax.errors import ConfigError, DataError, first_few, plural

Rows = NDArray[np.int64]

LEAKY = ("paper", "official_folds_by_name")
"""Declared leaky: ``paper`` divides images, not subjects; the published folds separate names of the same subject."""

OF_SOURCES = ("leave_one_source_out", "source_pairs")
"""Protocols for several sources, `data.sources`."""

RANDOM = ("subject_kfold", "subject_holdout", "paper")
"""Protocols that depend on the seed; the others have one division only."""


@dataclass(frozen=True, eq=False)
class Table:
    """Records as columns, ordered by their identity, so that splits do not depend on the layout of the source."""

    rows: Rows  # indices in the data set
    labels: Rows
    groups: Rows  # subjects as numbers from 0 in order of first occurrence
    records: Sequence[Record]
    subjects: Sequence[str]
    classes: Sequence[str]  # names, for messages
    named: bool  # whether any subject name is known


def make_table(dataset: Dataset, subjects: Sequence[str], subsets: Sequence[str]) -> Table:
    """Returns the labeled records of some subsets as a `Table`."""
    key = cache(natural_key)
    records = dataset.records

    def identity(row: int) -> tuple[object, ...]:
        record = records[row]
        name = record.path.rpartition("/")[2]
        return key(record.subject), key(record.field), key(record.cell), key(name), record.path

    used = [row for row, each in enumerate(records) if each.label != UNLABELED and each.subset in subsets]
    rows = sorted(used, key=identity)
    chosen, names = [records[row] for row in rows], [subjects[row] for row in rows]
    labels = np.array([record.label for record in chosen], np.int64)
    groups = factorize(np.array(names, object))[0]
    named = any(record.subject for record in chosen)
    return Table(np.array(rows, np.int64), labels, groups, chosen, names, dataset.classes, named)


def subject_kfold(table: Table, settings: ConfigDict, seed: int) -> Rows:
    """Folds of whole subjects with balanced classes, see `balanced_folds`."""
    _check_subjects(table, settings.protocol, settings.folds)
    return balanced_folds(table.labels, table.groups, settings.folds, seed)


def subject_holdout(table: Table, settings: ConfigDict, seed: int) -> Rows:
    """One test set of whole subjects with about ``test_fraction`` of each class."""
    _check_subjects(table, settings.protocol, 2)
    return np.where(group_holdout(table.labels, table.groups, settings.test_fraction, seed), 0, -1)


def leave_one_subject_out(table: Table, settings: ConfigDict, seed: int) -> Rows:
    """Each subject is a fold, in order of first occurrence."""
    if not table.named:
        raise DataError(
            "protocol leave_one_subject_out needs subjects, and no image has one; name them by folders or "
            "data.name_pattern, or set split.protocol=subject_kfold"
        )
    _check_subjects(table, settings.protocol, 2)
    return table.groups


def official_folds(table: Table, settings: ConfigDict, seed: int) -> Rows:
    """The published folds, unchanged (leaky) or with each subject in the fold with most of its images."""
    names = natural_sort({record.fold for record in table.records})
    if "" in names or len(names) < 2:
        raise DataError(
            f"protocol {settings.protocol} needs an official fold for each image, and at least two of them; found "
            f"{first_few(name or 'images without one' for name in names)}; move the images to folders fold_0, fold_1, "
            "... or set split.protocol=subject_kfold"
        )
    fold_of_row = np.array([names.index(record.fold) for record in table.records])
    if settings.protocol == "official_folds_by_name":
        return fold_of_row
    numbers, counts = _class_counts(fold_of_row, table.groups)
    return counts.argmax(axis=1)[numbers]


def prelim(table: Table, settings: ConfigDict, seed: int) -> Rows:
    """Trains on the subset ``train`` and tests ``test_subset``."""
    if (tested := settings.test_subset) == "train":
        raise ConfigError("split.test_subset=train, but protocol prelim trains on it; name the subset to test")
    subset_of_row = np.array([record.subset for record in table.records])
    for subset in ("train", tested):
        if subset not in subset_of_row:
            raise DataError(
                f"protocol prelim needs the subsets 'train' and {tested!r} (split.test_subset), but there is no "
                f"{subset!r}; name another or set split.protocol=subject_kfold"
            )
    return np.where(subset_of_row == tested, 0, -1)


def sources(table: Table, settings: ConfigDict, seed: int) -> Rows:
    """Each of `data.sources` is a fold; ``source_pairs`` trains on a single other fold, for all pairs of folds."""
    return np.unique([record.fold for record in table.records], return_inverse=True)[1]


def paper(table: Table, settings: ConfigDict, seed: int) -> Rows:
    """scikit-learn's train_test_split of images (leaky)."""
    from sklearn.model_selection import train_test_split

    try:
        _, tested = train_test_split(
            np.arange(len(table.labels)),
            test_size=settings.test_fraction,
            stratify=table.labels if settings.stratified else None,
            random_state=seed,
        )
    except ValueError as error:
        raise DataError(
            f"split.test_fraction={settings.test_fraction} of {plural(len(table.labels), 'image')} is not possible "
            f"({error}); choose another fraction or add images"
        ) from error
    return np.where(np.isin(np.arange(len(table.labels)), tested), 0, -1)


PROTOCOLS: dict[str, Callable[[Table, ConfigDict, int], Rows]] = {
    "subject_kfold": subject_kfold,
    "subject_holdout": subject_holdout,
    "leave_one_subject_out": leave_one_subject_out,
    "official_folds": official_folds,
    "official_folds_by_name": official_folds,
    "prelim": prelim,
    "leave_one_source_out": sources,
    "source_pairs": sources,
    "paper": paper,
}


def _check_subjects(table: Table, protocol: str, needed: int) -> None:
    """Raises DataError where a class has fewer than `needed` subjects; names the smallest class."""
    members = [set(np.array(table.subjects)[table.labels == label].tolist()) for label in range(len(table.classes))]
    name, smallest = min(zip(table.classes, members, strict=True), key=lambda pair: len(pair[1]))
    if (count := len(smallest)) < needed:
        unit = "subject" if table.named else "image"
        fix = f"set split.folds to {count} or less" if count > 1 else f"add {unit}s of this class"
        # The source may be the folder of one class, whose subject folders are then read as classes.
        if not table.named:
            fix += "; if it is a subject, set data.source to the folder that contains the classes"
        listed = first_few(natural_sort(smallest))
        raise DataError(
            f"class {name!r} has {plural(count, unit)} ({listed}), but protocol {protocol} needs {needed}; {fix}"
        )


def balanced_folds(labels: Rows, groups: Rows, folds: int, seed: int) -> Rows:
    """Returns the fold of each image by `group_folds`; by StratifiedKFold where no group has two images."""
    if len(np.unique(groups)) < len(groups):
        return group_folds(labels, groups, folds, seed)
    from sklearn.model_selection import StratifiedKFold

    fold_of_row, divider = np.zeros(len(labels), np.int64), StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, tested) in enumerate(divider.split(labels, labels)):
        fold_of_row[tested] = fold
    return fold_of_row


def group_folds(labels: Rows, groups: Rows, folds: int, seed: int) -> Rows:
    """Returns the fold of each image: large groups are placed first, where they leave the classes most balanced.

    This is scikit-learn's StratifiedGroupKFold, in which the seed only breaks ties of size (6 different divisions of
    C-NMC from 12 seeds), with sizes multiplied by log-normal noise (sigma 0.3).
    """
    rng = np.random.default_rng(seed)
    numbers, counts = _class_counts(labels, groups)
    shares = counts / counts.sum(axis=0)
    sizes = shares.max(axis=1) * np.exp(0.3 * rng.standard_normal(len(shares)))
    filled = np.zeros((folds, shares.shape[1]))
    fold_of_group = np.zeros(len(shares), np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        # options[k] is the content of the folds if the group goes to fold k
        options = filled + np.eye(folds)[:, :, None] * shares[group]
        imbalance = options.std(axis=1).sum(axis=1)
        best = np.flatnonzero(imbalance <= imbalance.min() + 1e-12)
        fold_of_group[group] = rng.choice(best)
        filled = options[fold_of_group[group]]
    return fold_of_group[numbers]


def group_holdout(labels: Rows, groups: Rows, fraction: float, seed: int | Sequence[int]) -> NDArray[np.bool_]:
    """Returns whether each image is held out: groups that contain about `fraction` of each class.

    In random order, groups are held out if that brings the fractions closer: in the first of twenty orders with every
    class within 1 %, else the closest.  A class that is on one side only gives its smallest group to the other side.
    """
    rng = np.random.default_rng(seed)
    numbers, counts = _class_counts(labels, groups)
    shares = counts / counts.sum(axis=0)
    closest = np.inf
    for _ in range(20):
        order, chosen = rng.permutation(len(shares)), np.zeros(len(shares), np.bool_)
        missing = np.full(shares.shape[1], fraction)
        for group in order:
            rest = missing - shares[group]
            if np.abs(rest).sum() < np.abs(missing).sum():
                chosen[group], missing = True, rest
        if np.abs(missing).max() < closest:
            held_out, closest = chosen, np.abs(missing).max()
        if closest <= 0.01:
            break
    for side in (True, False):
        for of_class in shares.T:
            if not of_class[held_out == side].any():
                candidates = order[of_class[order] > 0]
                held_out[candidates[of_class[candidates].argmin()]] = side
    return held_out[numbers]


def nested_groups(labels: Rows, groups: Rows, seed: int | Sequence[int]) -> Rows:
    """Returns the rank of each image's group in a random order whose beginnings have all classes as the whole."""
    numbers, counts = _class_counts(labels, groups)
    class_of, shuffled = counts.argmax(axis=1), np.random.default_rng(seed).permutation(len(counts))
    position = np.zeros(len(counts))
    for label in np.unique(class_of):
        of_class = shuffled[class_of[shuffled] == label]
        position[of_class] = np.arange(len(of_class)) / len(of_class)
    return np.argsort(np.argsort(position, kind="stable"))[numbers]


def _class_counts(labels: Rows, groups: Rows) -> tuple[Rows, Rows]:
    """Returns the number of each image's group, from 0, and how many images of each class each group has, (G, C)."""
    names, numbers = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), labels.max() + 1), np.int64)
    np.add.at(counts, (numbers, labels), 1)
    return numbers, counts
