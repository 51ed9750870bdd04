"""Records divided into train, validation and test, and the count of what leaks between them."""

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations

import numpy as np

from alljax.data import protocols
from alljax.data.archive import natural, natural_key
from alljax.data.dataset import Record
from alljax.data.folds import held_out
from alljax.data.protocols import Cells, Drawn, Rows
from alljax.errors import ConfigError, DataError, LeakError, first_few, plural

LEAKY = ("paper", "official_folds_by_name")
"""Declared leaky: ``paper`` splits cells, whoever they come from; the published folds part names of one person."""

REDRAWN = ("subject_kfold", "subject_holdout", "paper")
"""Drawn by chance; the others divide the records in one way only."""

PROTOCOLS = (*REDRAWN[:2], "leave_one_subject_out", "official_folds", "official_folds_by_name", "prelim", "paper")


@dataclass(frozen=True, eq=False)
class Split:
    """One division of the records.

    Attributes:
        repeat: which drawing of the protocol, from 0.
        fold: which fold of that drawing, from 0.
        train: indices into the records, ascending.
        test: indices into the records, ascending.
        validation: indices into the records, ascending: set aside from the training cells, often none.
    """

    repeat: int
    fold: int
    train: Rows
    test: Rows
    validation: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def sides(self) -> tuple[tuple[str, Rows], ...]:
        """The names and rows of the three sides."""
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def make_splits(
    protocol: str,
    records: Sequence[Record],
    people: Sequence[str],
    digests: Sequence[str] = (),
    *,
    classes: Sequence[str],
    folds: int,
    repeats: int,
    seed: int,
    test_fraction: float,
    stratified: bool,
    test_subset: str,
    validation: float,
    train_subjects: int = 0,
) -> tuple[Split, ...]:
    """Divides the records by a protocol.

    - ``subject_kfold``: folds of whole people with about the same share of each class; where every
      record is its own person, scikit-learn's StratifiedKFold.
    - ``subject_holdout``: whole people with about `test_fraction` of each class are tested.
    - ``leave_one_subject_out``: every person is a fold.
    - ``official_folds``: the published folds; a person in several goes wholly to the one with most of
      its cells (`moved` says who).
    - ``official_folds_by_name``: the published folds as they are.
    - ``prelim``: trains on the records of the part ``train``, tests those of `test_subset`.
    - ``paper``: scikit-learn's train_test_split over cells.

    All records are used, but under ``prelim`` those of other parts.  Repeat r is drawn with the seed
    ``seed + r`` from the records in an order of their own (subject, field, cell, file name, path), so
    that the order they come in makes no difference.

    Args:
        protocol: one of `PROTOCOLS`.
        records: N records.
        people: their persons, from `people.unite`.
        digests: of their files or pixels, none of which may stand on two sides; empty to trust `people`.
        classes: class names, for messages.
        folds: number of folds of a repeat (``subject_kfold``).
        repeats: how often the division is drawn anew; 1 for protocols not in `REDRAWN`.
        seed: of the first repeat.
        test_fraction: share of the cells that ``paper`` and ``subject_holdout`` test.
        stratified: whether ``paper`` gives both sides the same share of each class.
        test_subset: what ``prelim`` tests.
        validation: share of the training cells that is set aside, by whole people (``paper``: by cell).
        train_subjects: how many people (where none are known: cells) each split then learns from, 0 for all of them;
            drawn by the split's seed so that those of a smaller number are among those of a larger one, and the
            classes have about their shares of them.  Cells of the others are on no side.

    Returns:
        Splits ordered by repeat and fold.

    Raises:
        ConfigError: an unknown protocol, repeats that would all be the same, or more or fewer people to learn from
            than can be.
        DataError: the records lack what the protocol needs, or people (or cells) of a class.
        LeakError: a person or a file on two sides under a protocol that is not in `LEAKY`.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r} (split.protocol); take one of {', '.join(PROTOCOLS)}")
    if repeats > 1 and protocol not in REDRAWN:
        raise ConfigError(
            f"split.repeats is {repeats}, but protocol {protocol} divides in one way only; set split.repeats=1 "
            "(study.seeds trains several heads)"
        )
    order, cells = _ordered(records, people, classes)

    def draw(seed: int) -> Drawn:
        match protocol:
            case "subject_kfold":
                return protocols.subject_kfold(cells, folds, seed)
            case "subject_holdout":
                return protocols.subject_holdout(cells, test_fraction, seed)
            case "leave_one_subject_out":
                return protocols.leave_one_subject_out(cells)
            case "prelim":
                return protocols.prelim(cells, test_subset)
            case "paper":
                return protocols.paper(cells, test_fraction, stratified, seed)
            case _:
                return protocols.official_folds(cells, by_name=protocol == "official_folds_by_name")

    splits = []
    for repeat in range(repeats):
        for fold, (train, test) in enumerate(draw(seed + repeat)):
            split = Split(repeat, fold, train, test)
            _check_sides(split, cells, protocol)
            if validation:
                # A declared leaky split of cells stays one: its curves would else be of another question than its test.
                persons = np.arange(len(order)) if protocol == "paper" else cells.persons
                split = _set_aside(split, cells.labels, persons, validation, (seed + repeat, fold, 1))
            splits.append(split)
    if train_subjects:
        fewer = protocols.fewer_people(
            [((each.repeat, each.fold), each.train) for each in splits], cells, train_subjects, seed
        )
        splits = [replace(each, train=train) for each, train in zip(splits, fewer, strict=True)]
    splits = [
        Split(each.repeat, each.fold, *(np.sort(order[rows]) for rows in (each.train, each.test, each.validation)))
        for each in splits
    ]
    if protocol not in LEAKY:
        _check_leaks(splits, people, digests, protocol)
    return tuple(splits)


def moved(records: Sequence[Record], people: Sequence[str]) -> str:
    """Says whose cells ``official_folds`` takes to another fold, and how many; empty if nobody's."""
    home = protocols.home_folds(records, people)
    there = [person for record, person in zip(records, people, strict=True) if record.fold != home[person]]
    if not there:
        return ""
    return (
        f"{plural(len(there), 'cell')} moved to the official fold that has most cells of the same person: "
        f"{first_few(natural(set(there)))}"
    )


def leaks(
    splits: Sequence[Split], records: Sequence[Record], people: Sequence[str], digests: Sequence[str] = ()
) -> dict[str, int]:
    """Counts the tested cells that have kin among those trained on or validated with, summed over the splits.

    Args:
        splits: from `make_splits`.
        records: N records.
        people: their persons.
        digests: of their files or pixels; empty to leave duplicates uncounted.

    Returns:
        ``test_images`` in all; of them with their ``subject`` in train; with a cell of the same
        ``field`` (same subject, same photograph) in train; and, given digests, with the same
        image (``duplicate``) in train.
    """
    # Where no field is known every record gets one of its own: nothing is shared.
    fields = [(each.subject, each.field) if each.field else (each.path, "") for each in records]
    counts = {
        "test_images": sum(len(split.test) for split in splits),
        "subject": _shared(splits, people),
        "field": _shared(splits, fields),
    }
    return counts | ({"duplicate": _shared(splits, digests)} if digests else {})


def fingerprint(splits: Sequence[Split], records: Sequence[Record]) -> str:
    """Returns the SHA-256 of which file is on which side where, whatever the order of the records.

    It is that of the sorted lines ``repeat TAB fold TAB side TAB path``.
    """
    lines = np.array([f"{record.path}\n" for record in records], object)
    place = np.empty(len(lines), np.int64)
    place[np.argsort(lines, kind="stable")] = np.arange(len(lines))
    sides = {f"{each.repeat}\t{each.fold}\t{side}\t": rows for each in splits for side, rows in each.sides}
    digest = hashlib.sha256()
    for start in sorted(sides):
        for line in lines[sides[start][np.argsort(place[sides[start]])]]:
            digest.update(f"{start}{line}".encode(errors="surrogateescape"))
    return digest.hexdigest()


COLUMNS = ("path", "subject_name", "subject", "label", "subset", "repeat", "fold")
"""Columns of split.csv."""


def rows(
    splits: Sequence[Split], records: Sequence[Record], people: Sequence[str], classes: Sequence[str]
) -> Iterator[tuple[str | int, ...]]:
    """Yields the rows of split.csv, in `COLUMNS`: each record of a split, as ``train``, ``validation`` or ``test``.

    The label is the class's name.
    """
    for split in splits:
        for row, side in sorted((int(row), side) for side, rows in split.sides for row in rows):
            record = records[row]
            yield record.path, record.subject, people[row], classes[record.label], side, split.repeat, split.fold


def _ordered(records: Sequence[Record], people: Sequence[str], classes: Sequence[str]) -> tuple[Rows, Cells]:
    """Returns the records by who they are first, so that another layout of the same set splits alike."""
    key = cache(natural_key)

    def identity(row: int) -> tuple[object, ...]:
        record = records[row]
        name = record.path.rpartition("/")[2]
        return key(record.subject), key(record.field), key(record.cell), natural_key(name), record.path

    order = np.array(sorted(range(len(records)), key=identity), np.int64)
    labels = np.array([records[row].label for row in order], np.int64)
    names = [people[row] for row in order]
    return order, Cells([records[row] for row in order], labels, names, _codes(names), classes)


def _set_aside(split: Split, labels: Rows, persons: Rows, fraction: float, seed: Sequence[int]) -> Split:
    """Moves people from the training side to the validation side."""
    numbers = np.unique(persons[split.train], return_inverse=True)[1]
    aside = held_out(labels[split.train], numbers, fraction, seed)[numbers]
    if not aside.any():
        raise DataError(
            f"fold {split.fold} of repeat {split.repeat} has no two people of a class to train on, so nobody can be "
            "set aside; set split.validation=0 or add people"
        )
    return replace(split, train=split.train[~aside], validation=split.train[aside])


def _check_sides(split: Split, cells: Cells, protocol: str) -> None:
    """Raises DataError where a side is empty or a class is not learned."""
    where = f"fold {split.fold} of repeat {split.repeat}"
    mend = {
        "subject_kfold": "set fewer folds (split.folds) or another seed",
        "paper": "set split.stratified or another seed",
        "prelim": "add images to that part",
    }.get(protocol, "add images or set split.protocol=subject_kfold")
    for side, rows in (("train", split.train), ("test", split.test)):
        if len(rows) == 0:
            raise DataError(f"{where} has nothing to {side}; {mend}")
    for label in set(range(len(cells.classes))).difference(cells.labels[split.train].tolist()):
        raise DataError(f"{where} would train without class {cells.classes[label]!r}; {mend}")


def _check_leaks(splits: Sequence[Split], people: Sequence[str], digests: Sequence[str], protocol: str) -> None:
    """Raises LeakError where two sides of a split share a person or a file."""
    mend = "this is a fault, please report it"
    if protocol == "prelim":
        mend = "take their images out of one of the parts, or set split.protocol=subject_kfold"
    for kinds, kin in ((people, "cells of the same person"), (digests, "the same image")):
        codes = _codes(kinds)
        for split in splits if len(codes) else ():
            for (one, left), (other, right) in combinations(split.sides, 2):
                shared = right[np.isin(codes[right], codes[left])]
                if len(shared):
                    names = natural({people[row] for row in shared})
                    raise LeakError(
                        f"protocol {protocol} leaks in fold {split.fold} of repeat {split.repeat}: {len(shared):,} of "
                        f"{len(right):,} {other} cells have {kin} on the {one} side ({len(names):,} "
                        f"{'person' if len(names) == 1 else 'people'}: {first_few(names)}); {mend}"
                    )


def _shared(splits: Sequence[Split], kinds: Sequence[Hashable]) -> int:
    """Returns how many tested cells are of a kind that the training side has too."""
    codes = _codes(kinds)
    return sum(int(np.isin(codes[each.test], codes[np.r_[each.train, each.validation]]).sum()) for each in splits)


def _codes(kinds: Sequence[Hashable]) -> Rows:
    """Returns a number for each kind, from 0 in the order in which they appear."""
    number = {kind: code for code, kind in enumerate(dict.fromkeys(kinds))}
    return np.array([number[kind] for kind in kinds], np.int64)
