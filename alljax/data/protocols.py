"""Who is tested: each protocol as the rows of its folds, and what it asks of the records."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from alljax.data.archive import natural
from alljax.data.dataset import Record
from alljax.data.folds import fold_of_person, held_out, nested_order
from alljax.errors import ConfigError, DataError, first_few, plural

Rows = NDArray[np.int64]
Drawn = Iterator[tuple[Rows, Rows]]
"""Training rows and test rows of each fold."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Records as columns, in an order that is their own.

    Attributes:
        records: N records.
        labels: (N,).
        people: names of their persons, N.
        persons: the same as numbers from 0 in the order in which they appear, (N,).
        classes: class names, for messages.
    """

    records: Sequence[Record]
    labels: Rows
    people: Sequence[str]
    persons: Rows
    classes: Sequence[str]

    @property
    def subjects(self) -> bool:
        """Whether anybody's name is known."""
        return any(record.subject for record in self.records)


def subject_kfold(cells: Cells, folds: int, seed: int) -> Drawn:
    """Folds of whole people; where every cell is its own person, scikit-learn's StratifiedKFold."""
    _check_people(cells, folds, f"split.folds is {folds}")
    if len(np.unique(cells.persons)) == len(cells.persons):
        divider = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return iter(divider.split(cells.labels, cells.labels))
    return _each(fold_of_person(cells.labels, cells.persons, folds, seed)[cells.persons])


def subject_holdout(cells: Cells, test_fraction: float, seed: int) -> Drawn:
    """One test side of whole people."""
    _check_people(cells, 2, "protocol subject_holdout needs 2")
    tested = held_out(cells.labels, cells.persons, test_fraction, seed)[cells.persons]
    yield np.flatnonzero(~tested), np.flatnonzero(tested)


def leave_one_subject_out(cells: Cells) -> Drawn:
    """Everybody is tested alone, in the order in which they appear."""
    if not cells.subjects:
        raise DataError(
            "protocol leave_one_subject_out needs subjects, and no image has one; name them by folders or "
            "data.name_pattern, or set split.protocol=subject_kfold"
        )
    _check_people(cells, 2, "protocol leave_one_subject_out needs 2")
    return _each(cells.persons)


def official_folds(cells: Cells, by_name: bool) -> Drawn:
    """The folds as published (`by_name`), or with everybody in the fold of `home_folds`."""
    home = home_folds(cells.records, cells.people)
    of_row = [
        record.fold if by_name else home[person] for record, person in zip(cells.records, cells.people, strict=True)
    ]
    names = natural({record.fold for record in cells.records})
    mend = "set split.protocol=subject_kfold"
    if lost := [record.path for record in cells.records if not record.fold]:
        raise DataError(
            f"{len(lost):,} of {plural(len(cells.records), 'image')} stand in no official fold ({first_few(lost)}); "
            f"put them into folders fold_0, fold_1, ... or {mend}"
        )
    if len(names) < 2:
        raise DataError(f"all images stand in one official fold ({names[0]!r}), so nothing is left to train; {mend}")
    number = {name: place for place, name in enumerate(names)}
    return _each(np.array([number[name] for name in of_row]), len(names))


def home_folds(records: Sequence[Record], people: Sequence[str]) -> dict[str, str]:
    """Returns the official fold that has most of each person's cells; of equals the first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record, person in zip(records, people, strict=True):
        counts[person][record.fold] += 1
    return {person: max(natural(folds), key=folds.__getitem__) for person, folds in counts.items()}


def prelim(cells: Cells, test_subset: str) -> Drawn:
    """Trains on the part ``train`` and tests the part `test_subset`."""
    if test_subset == "train":
        raise ConfigError("split.test_subset is 'train', which protocol prelim trains on; name the part that is tested")
    parts = Counter(record.subset for record in cells.records)
    for part, key in (("train", "protocol prelim trains on it"), (test_subset, "split.test_subset")):
        if not parts[part]:
            there = ", ".join(f"{name} ({count:,} images)" for name, count in sorted(parts.items()))
            raise DataError(
                f"there is no part {part!r} ({key}), only {there}; name another or set split.protocol=subject_kfold"
            )
    part_of_row = np.array([record.subset for record in cells.records])
    yield np.flatnonzero(part_of_row == "train"), np.flatnonzero(part_of_row == test_subset)


def paper(cells: Cells, test_fraction: float, stratified: bool, seed: int) -> Drawn:
    """scikit-learn's train_test_split over cells, whoever they come from."""
    count = len(cells.labels)
    tested = int(np.ceil(test_fraction * count))
    if stratified:
        for name, own in zip(cells.classes, np.bincount(cells.labels, minlength=len(cells.classes)), strict=True):
            if own < 2:
                raise DataError(f"class {name!r} has {own} image, too few to divide into train and test; add images")
    if min(tested, count - tested) < (len(cells.classes) if stratified else 1):
        fewer = f"fewer images than the {len(cells.classes)} classes" if stratified else "no image"
        raise DataError(
            f"split.test_fraction={test_fraction} of {plural(count, 'image')} leaves a side with {fewer}; "
            "choose another fraction or add images"
        )
    train, test = train_test_split(
        np.arange(count),
        test_size=test_fraction,
        stratify=cells.labels if stratified else None,
        random_state=seed,
    )
    yield train, test


def fewer_people(learned: Sequence[tuple[tuple[int, int], Rows]], cells: Cells, count: int, seed: int) -> list[Rows]:
    """The rows of the first `count` people of each training side, in an order of its own (`folds.nested_order`).

    Args:
        learned: repeat and fold, and the rows learned from, of each split.
        cells: all of them.
        count: of people; of cells where nobody is known.
        seed: of the first repeat.

    Raises:
        ConfigError: a side has fewer people, or so few would leave a class out.
    """
    what, people = "people" if cells.subjects else "cells", [len(np.unique(cells.persons[rows])) for _, rows in learned]
    if count > min(people):
        repeat, fold = learned[int(np.argmin(people))][0]
        raise ConfigError(
            f"split.train_subjects={count}, but fold {fold} of repeat {repeat} has {min(people):,} {what} to train on, "
            f"the fewest of all; set {min(people)} or less, or 0 for all"
        )
    kept = []
    for (repeat, fold), rows in learned:
        labels, persons = cells.labels[rows], np.unique(cells.persons[rows], return_inverse=True)[1]
        chosen = rows[np.isin(persons, nested_order(labels, persons, (seed + repeat, fold, 2))[:count])]
        if lost := set(labels.tolist()).difference(cells.labels[chosen].tolist()):
            raise ConfigError(
                f"split.train_subjects={count} leaves fold {fold} of repeat {repeat} without class "
                f"{cells.classes[min(lost)]!r}; set more {what}, at least one a class, or 0 for all"
            )
        kept.append(chosen)
    return kept


def _each(fold_of_row: Rows, folds: int = 0) -> Drawn:
    for fold in range(folds or fold_of_row.max() + 1):
        yield np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)


def _check_people(cells: Cells, needed: int, why: str) -> None:
    """Raises DataError where a class has fewer than `needed` people."""
    for label, name in enumerate(cells.classes):
        there = len(np.unique(cells.persons[cells.labels == label]))
        if there < needed:
            one, many = ("person", "people") if cells.subjects else ("cell", "cells")
            mend = f"set split.folds to {there} or less" if there > 1 else f"add {many} of this class"
            if not cells.subjects and len(cells.classes) > 2:
                # Pointed at one class, whose folders of people then count as the classes.
                mend += f"; if {name!r} is a person, point data.source at the folder that holds the classes"
            raise DataError(f"class {name!r} has {there} {one if there == 1 else many} but {why}; {mend}")
