"""Learning curves: fewer people to learn from, nested, of both classes, and nothing else changed."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from data.test_splits import CELLS, draw, people_of, record

from alljax.data import splits
from alljax.data.dataset import Record
from alljax.data.folds import nested_order
from alljax.data.subjects import unite
from alljax.errors import ConfigError, DataError

ROOM = {"test_fraction": 0.3, "folds": 4}


def people_by_class(rows: Sequence[int]) -> list[int]:
    people = {CELLS[row].subject: CELLS[row].label for row in rows}
    return [list(people.values()).count(label) for label in (0, 1)]


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_nested_people_of_both_classes(protocol: str) -> None:
    everybody = draw(protocol, CELLS, **ROOM)
    most = min(len(people_of(split.train)) for split in everybody)
    before = [set[str]() for _ in everybody]
    for count in range(2, most + 1):
        drawn = draw(protocol, CELLS, train_subjects=count, **ROOM)
        for split, whole, smaller in zip(drawn, everybody, before, strict=True):
            people = people_of(split.train)
            assert len(people) == count
            assert smaller < people
            smaller |= people
            assert split.train.tolist() == [row for row in whole.train if CELLS[row].subject in people]
            assert np.array_equal(split.test, whole.test)
            shares = np.array(people_by_class(whole.train)) / len(people_of(whole.train))
            assert (np.abs(people_by_class(split.train) - shares * count) <= 1).all()
            assert min(people_by_class(split.train)) >= 1
    for split, whole in zip(drawn, everybody, strict=True):
        if len(people_of(whole.train)) == most:
            assert np.array_equal(split.train, whole.train)


def test_repeats_and_seeds_draw_other_people() -> None:
    drawn = draw("subject_holdout", CELLS, repeats=2, seed=3, train_subjects=6)
    (alone,) = draw("subject_holdout", CELLS, seed=4, train_subjects=6)
    assert np.array_equal(drawn[1].train, alone.train)
    fixed = [draw("leave_one_subject_out", CELLS, seed=seed, train_subjects=6)[0] for seed in (0, 0, 1)]
    assert np.array_equal(fixed[0].train, fixed[1].train)
    assert not np.array_equal(fixed[0].train, fixed[2].train)
    folds = draw("leave_one_subject_out", CELLS, train_subjects=6)
    assert len({frozenset(people_of(split.train)) for split in folds}) > 12, "each fold draws people of its own"


def test_the_order_of_the_files_makes_no_difference() -> None:
    shuffled = random.Random(5).sample(CELLS, len(CELLS))
    one, other = (draw("subject_kfold", cells, train_subjects=8, validation=0.2) for cells in (CELLS, shuffled))
    assert splits.fingerprint(one, CELLS) == splits.fingerprint(other, shuffled)


@pytest.mark.parametrize("protocol", ["subject_kfold", "paper"])
def test_people_set_aside_stay_the_same(protocol: str) -> None:
    fewer, whole = (draw(protocol, CELLS, validation=0.25, train_subjects=count) for count in (5, 0))
    for split, other in zip(fewer, whole, strict=True):
        assert np.array_equal(split.validation, other.validation)
        assert len(people_of(split.train)) == 5
        assert set(split.train) < set(other.train)


def test_rows_leaks_and_fingerprint_know_who_is_left_out() -> None:
    people = unite(CELLS)
    for protocol in ("subject_kfold", "paper"):
        fewer, whole = (draw(protocol, CELLS, train_subjects=count) for count in (5, 0))
        assert splits.fingerprint(fewer, CELLS) != splits.fingerprint(whole, CELLS)
        listed = list(splits.rows(fewer, CELLS, people, ("hem", "all")))
        assert len(listed) == sum(len(split.train) + len(split.test) for split in fewer) < len(CELLS) * len(fewer)
        assert len({(path, repeat, fold) for path, *_, repeat, fold in listed}) == len(listed)
        counts = splits.leaks(fewer, CELLS, people)
        assert counts["test_cells"] == sum(len(split.test) for split in fewer)
        trained = people_of(fewer[0].train)
        expected = sum(CELLS[row].subject in trained for row in fewer[0].test) if protocol == "paper" else 0
        assert counts["person"] == expected
        assert (counts["person"] > 0) == (protocol == "paper")


def test_cells_count_where_nobody_is_known() -> None:
    cells = [Record(f"{n:03}.png", int(n % 4 == 0)) for n in range(80)]
    for protocol in splits.REDRAWN:
        (split, *_) = draw(protocol, cells, train_subjects=20)
        assert len(split.train) == 20
        assert sum(cells[row].label for row in split.train) == 5
    with pytest.raises(ConfigError, match=r"=65, but fold 0 of repeat 0 has 64 cells to learn from, .* set 64 or less"):
        draw("subject_kfold", cells, train_subjects=65)
    with pytest.raises(ConfigError, match=r"set more cells, at least one a class"):
        draw("subject_kfold", cells, train_subjects=1)


def test_too_many_and_too_few() -> None:
    counts = {split.fold: len(people_of(split.train)) for split in draw("subject_kfold", CELLS)}
    fold = min(counts, key=counts.__getitem__)
    said = rf"split.train_subjects=24, but fold {fold} of repeat 0 has {counts[fold]} people to learn from, the fewest"
    with pytest.raises(ConfigError, match=said):
        draw("subject_kfold", CELLS, train_subjects=24)
    with pytest.raises(ConfigError, match=r"split.train_subjects=1 leaves fold 0 of repeat 0 without class 'all'"):
        draw("subject_kfold", CELLS, train_subjects=1)
    with pytest.raises(DataError, match="split.folds is 30"):
        draw("subject_kfold", CELLS, train_subjects=2, folds=30)


def test_a_person_of_two_classes_brings_both() -> None:
    """And a class that is nobody's larger part is there from the beginning."""
    cells = [record(str(n), label) for n in range(6) for label in (0, 0, 1)]
    (split, *_) = draw("subject_kfold", cells, folds=3, train_subjects=1)
    assert [cells[row].label for row in split.train] == [0, 0, 1]
    labels, persons = np.array([0, 0, 1, 0, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 1, 2])
    for seed in range(20):
        order = nested_order(labels, persons, seed)
        assert sorted(order) == [0, 1, 2]
        assert set(labels[np.isin(persons, order[:2])]) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_every_beginning_is_a_small_copy(seed: int) -> None:
    """On C-NMC's 47 people with leukaemia and 26 without, and on three classes of 1, 3 and 30."""
    for sizes in ((26, 47), (1, 3, 30)):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        order = nested_order(labels, np.arange(len(labels)), seed)
        assert sorted(order) == list(range(len(labels)))
        for count in range(len(sizes), len(order) + 1):
            own = np.bincount(labels[order[:count]], minlength=len(sizes))
            assert (own >= 1).all()
            assert (np.abs(own - count * np.array(sizes) / sum(sizes)) <= len(sizes) - 1).all()
    orders = [nested_order(labels, np.arange(len(labels)), number).tolist() for number in (seed, seed, seed + 1)]
    assert orders[0] == orders[1] != orders[2]
