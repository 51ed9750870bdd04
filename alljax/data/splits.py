"""Protocols that divide records into train and test, and the count of what leaks between the two."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedKFold, train_test_split

from alljax.data.folds import fold_of_person
from alljax.data.records import Record
from alljax.data.tree import natural, natural_key, some
from alljax.errors import ConfigError, DataError, LeakError

PROTOCOLS = ("subject_kfold", "paper")
"""`paper` is declared leaky: it splits cells, whoever they come from."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """One division of the records.

    Attributes:
        repeat: which drawing of the protocol, from 0.
        fold: which fold of that drawing, from 0.
        train: indices into the records, ascending.
        test: indices into the records, ascending.
    """

    repeat: int
    fold: int
    train: Rows
    test: Rows


def people(
    records: Sequence[Record], digests: Sequence[str] = (), known_people: Sequence[AbstractSet[str]] = ()
) -> tuple[str, ...]:
    """Returns the person of each record.

    Subjects that share a byte-identical image, or that are known to be one
    person, are united (connected components).  A record without a subject is a
    person of its own, unless another has the very same bytes.

    Args:
        records: N records.
        digests: one a record, equal where files are identical; empty to compare no files.
        known_people: sets of subject names that are one person.

    Returns:
        N names: a person's subject names, sorted, joined by ``+``; the first of its paths where no
        subject is known.
    """
    # A nameless record is a node of its own; a newline keeps its path apart from subject names.
    owners = [record.subject or f"\n{record.path}" for record in records]
    nodes = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
    groups = [[nodes[name] for name in same if name in nodes] for same in known_people]
    by_digest: dict[str, list[int]] = defaultdict(list)
    for owner, digest in zip(owners, digests, strict=bool(digests)):
        by_digest[digest].append(nodes[owner])
    groups += by_digest.values()
    edges = np.array([(group[0], other) for group in groups for other in group[1:]], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(nodes), len(nodes)))
    component = connected_components(graph, directed=False)[1]
    members: dict[int, list[str]] = defaultdict(list)
    for owner, number in nodes.items():
        members[component[number]].append(owner)
    names = {number: _person_name(united) for number, united in members.items()}
    return tuple(names[component[nodes[owner]]] for owner in owners)


def make_splits(
    protocol: str,
    records: Sequence[Record],
    people: Sequence[str],
    *,
    classes: Sequence[str],
    folds: int,
    repeats: int,
    seed: int,
    test_fraction: float,
) -> tuple[Split, ...]:
    """Divides the records by a protocol.

    - ``subject_kfold``: folds of whole people with about the same share of each class; where every
      record is its own person, scikit-learn's StratifiedKFold.
    - ``paper``: scikit-learn's stratified train_test_split over cells.

    Repeat r is drawn with the seed ``seed + r`` from the records in an order of their own (subject,
    field, cell, path), so that the order they come in makes no difference.

    Args:
        protocol: one of `PROTOCOLS`.
        records: N records.
        people: their persons, from `people`.
        classes: class names, for messages.
        folds: number of folds of a repeat.
        repeats: how often the division is drawn anew.
        seed: of the first repeat.
        test_fraction: share of the cells that ``paper`` tests.

    Returns:
        Splits ordered by repeat and fold.

    Raises:
        ConfigError: an unknown protocol.
        DataError: too few people (or cells) of a class for the folds.
        LeakError: a person on both sides under a protocol other than ``paper``.
    """
    order = np.array(sorted(range(len(records)), key=lambda row: _identity(records[row])), np.int64)
    labels = np.array([records[row].label for row in order])
    codes = {person: code for code, person in enumerate(natural(set(people)))}
    persons = np.array([codes[people[row]] for row in order])
    if protocol == "subject_kfold":
        _check_people(labels, persons, classes, folds, any(record.subject for record in records))
        drawn = _subject_kfold(labels, persons, folds, repeats, seed)
    elif protocol == "paper":
        _check_cells(labels, classes, test_fraction)
        drawn = _paper(labels, repeats, seed, test_fraction)
    else:
        raise ConfigError(f"unknown protocol {protocol!r} (split.protocol); take one of {', '.join(PROTOCOLS)}")
    splits = tuple(
        Split(repeat, fold, np.sort(order[train]), np.sort(order[test])) for repeat, fold, train, test in drawn
    )
    _check_splits(splits, records, classes)
    if protocol != "paper":
        _check_leaks(splits, people, protocol)
    return splits


def leaks(
    splits: Sequence[Split], records: Sequence[Record], people: Sequence[str], digests: Sequence[str] = ()
) -> dict[str, int]:
    """Counts the tested cells that have kin on the training side, summed over the splits.

    Args:
        splits: from `make_splits`.
        records: N records.
        people: their persons.
        digests: of their files; empty to leave duplicates uncounted.

    Returns:
        ``test_cells`` in all; of them with their ``person`` in train; with a cell of the same
        ``field`` (same subject, same photograph) in train; and, given digests, with a byte-identical
        ``duplicate`` in train.
    """
    # Where no field is known every record gets one of its own: nothing is shared.
    fields = [(each.subject, each.field) if each.field else (each.path, "") for each in records]
    counts = {
        "test_cells": sum(len(split.test) for split in splits),
        "person": _shared(splits, people),
        "field": _shared(splits, fields),
    }
    return counts | ({"duplicate": _shared(splits, digests)} if digests else {})


def fingerprint(splits: Sequence[Split], records: Sequence[Record]) -> str:
    """Returns the SHA-256 of which file is trained on and tested where, whatever the order of the records."""
    lines = sorted(
        f"{split.repeat}\t{split.fold}\t{side}\t{records[row].path}\n"
        for split in splits
        for side, rows in (("train", split.train), ("test", split.test))
        for row in rows
    )
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


COLUMNS = ("path", "subject", "person", "label", "split", "repeat", "fold")
"""Columns of split.csv."""


def rows(
    splits: Sequence[Split], records: Sequence[Record], people: Sequence[str], classes: Sequence[str]
) -> Iterator[tuple[str | int, ...]]:
    """Yields the rows of split.csv, in `COLUMNS`: each record once a split, as ``train`` or ``test``.

    The label is the class's name.
    """
    for split in splits:
        tested = set(split.test.tolist())
        for row in sorted(tested.union(split.train.tolist())):
            record = records[row]
            side = "test" if row in tested else "train"
            yield (
                record.path,
                record.subject,
                people[row],
                classes[record.label],
                side,
                split.repeat,
                split.fold,
            )


def _person_name(owners: Sequence[str]) -> str:
    subjects = [owner for owner in owners if not owner.startswith("\n")]
    return "+".join(natural(subjects)) if subjects else natural(owners)[0].removeprefix("\n")


def _identity(record: Record) -> tuple[object, ...]:
    """What a record sorts by: who it is first, so that another layout of the same set splits alike."""
    return (*(natural_key(part) for part in (record.subject, record.field, record.cell, record.path)),)


Drawn = Iterator[tuple[int, int, Rows, Rows]]


def _subject_kfold(labels: Rows, persons: Rows, folds: int, repeats: int, seed: int) -> Drawn:
    alone = len(np.unique(persons)) == len(persons)
    for repeat in range(repeats):
        if alone:
            divider = StratifiedKFold(folds, shuffle=True, random_state=seed + repeat)
            for fold, (train, test) in enumerate(divider.split(labels, labels)):
                yield repeat, fold, train, test
            continue
        fold_of_row = fold_of_person(labels, persons, folds, seed + repeat)[persons]
        for fold in range(folds):
            yield repeat, fold, np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)


def _paper(labels: Rows, repeats: int, seed: int, test_fraction: float) -> Drawn:
    for repeat in range(repeats):
        train, test = train_test_split(
            np.arange(len(labels)), test_size=test_fraction, stratify=labels, random_state=seed + repeat
        )
        yield repeat, 0, train, test


def _check_people(labels: Rows, persons: Rows, classes: Sequence[str], folds: int, subjects: bool) -> None:
    for label, name in enumerate(classes):
        there = len(np.unique(persons[labels == label]))
        if there < folds:
            one, many = ("person", "people") if subjects else ("cell", "cells")
            mend = f"set split.folds to {there} or less" if there > 1 else f"add {many} of this class"
            if not subjects and len(classes) > 2:
                # Pointed at one class, whose folders of people then count as the classes.
                mend += f"; if {name!r} is a person, point data.source at the folder that holds the classes"
            raise DataError(
                f"class {name!r} has {there} {one if there == 1 else many} but split.folds is {folds}; {mend}"
            )


def _check_cells(labels: Rows, classes: Sequence[str], test_fraction: float) -> None:
    for label, name in enumerate(classes):
        if (count := int(np.count_nonzero(labels == label))) < 2:
            raise DataError(f"class {name!r} has {count} image, too few to divide into train and test; add images")
    tested = int(np.ceil(test_fraction * len(labels)))
    if min(tested, len(labels) - tested) < len(classes):
        raise DataError(
            f"split.test_fraction={test_fraction} of {len(labels)} images leaves a side with fewer images than "
            f"the {len(classes)} classes; choose another fraction or add images"
        )


def _check_splits(splits: Sequence[Split], records: Sequence[Record], classes: Sequence[str]) -> None:
    for split in splits:
        for side, rows in (("train", split.train), ("test", split.test)):
            if len(rows) == 0:
                raise DataError(f"fold {split.fold} of repeat {split.repeat} has nothing to {side}; set fewer folds")
        learned = {records[row].label for row in split.train}
        for label, name in enumerate(classes):
            if label not in learned:
                raise DataError(
                    f"fold {split.fold} of repeat {split.repeat} would train without class {name!r}; "
                    "set fewer folds (split.folds) or another seed"
                )


def _check_leaks(splits: Sequence[Split], people: Sequence[str], protocol: str) -> None:
    for split in splits:
        both = {people[row] for row in split.train} & {people[row] for row in split.test}
        if both:
            raise LeakError(
                f"protocol {protocol} puts people on both sides of fold {split.fold} ({len(both)} of them): "
                f"{some(natural(both))}; this is a fault, please report it"
            )


def _shared(splits: Sequence[Split], kinds: Sequence[object]) -> int:
    count = 0
    for split in splits:
        learned = {kinds[row] for row in split.train}
        count += sum(1 for row in split.test if kinds[row] in learned)
    return count
