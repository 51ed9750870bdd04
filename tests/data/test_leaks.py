"""What leaks is counted, and refused unless the protocol is declared leaky."""

import numpy as np
import pytest

from alljax.data import splits
from alljax.data.dataset import Record
from alljax.data.subjects import unite
from alljax.errors import LeakError

OPTIONS = {
    "classes": ("hem", "all"), "folds": 2, "repeats": 1, "seed": 0, "test_fraction": 0.5, "stratified": True,
    "test_subset": "prelim", "validation": 0.0,
}  # fmt: skip


def cell(number, subject, label=1, field="", **place):
    return Record(f"{number}.png", label, subject, field, **place)


def test_leaks_are_counted():
    cells = [
        *(cell(0, "1", field="1"), cell(1, "1", field="1"), cell(2, "1", field="2")),
        *(cell(3, "2", field="1"), cell(4, "3"), cell(5, "4")),
    ]
    split = splits.Split(0, 0, np.array([0, 4]), np.array([1, 2, 3, 5]))
    people = ("1", "1", "1", "2", "3+4", "3+4")
    assert splits.leaks([split], cells, people) == {"test_cells": 4, "person": 3, "field": 1}
    counted = splits.leaks([split, split], cells, people, ["a", "b", "a", "c", "d", "d"])
    assert counted == {"test_cells": 8, "person": 6, "field": 2, "duplicate": 4}


def test_kin_in_validation_counts_as_kin_in_train():
    cells = [cell(number, subject) for number, subject in enumerate("1123")]
    split = splits.Split(0, 0, np.array([2]), np.array([1, 3]), validation=np.array([0]))
    assert splits.leaks([split], cells, list("1123"), list("abcb"))["person"] == 1
    assert splits.leaks([split], cells, list("1123"), list("abcc"))["duplicate"] == 1


def two_parts(*tested):
    """H1, 1 and 2 to train on; H2 and those given to test."""
    learned = [cell(0, "H1", 0, subset="train"), cell(1, "1", subset="train"), cell(2, "2", subset="train")]
    return [
        *learned,
        cell(3, "H2", 0, subset="prelim"),
        *(cell(n, who, subset="prelim") for n, who in enumerate(tested, 4)),
    ]


@pytest.mark.parametrize("protocol", ["prelim", "paper"])
def test_a_person_in_both_parts_is_refused_unless_that_is_declared(protocol):
    cells = two_parts("2", "2", "3", "1")
    if protocol in splits.LEAKY:
        splits.make_splits(protocol, cells, unite(cells), **OPTIONS)
        return
    with pytest.raises(
        LeakError,
        match=r"protocol prelim leaks in fold 0 of repeat 0: 3 of 5 test cells have cells of the same person on the "
        r"train side \(2 people: 1, 2\); take their images out of one of the parts",
    ):
        splits.make_splits(protocol, cells, unite(cells), **OPTIONS)


def test_names_that_share_an_image_are_refused_as_one_person_and_as_a_copy():
    cells = two_parts("3", "4")
    digests = list("abcdbe")
    with pytest.raises(LeakError, match=r"1 of 3 test cells have cells of the same person .* \(1 person: 1\+3\)"):
        splits.make_splits("prelim", cells, unite(cells, digests), digests, **OPTIONS)
    with pytest.raises(LeakError, match=r"1 of 3 test cells have the same image on the train side \(1 person: 3\)"):
        splits.make_splits("prelim", cells, unite(cells), digests, **OPTIONS)
    assert splits.make_splits("prelim", cells, unite(cells, "abcdef"), "abcdef", **OPTIONS)


def test_a_fault_of_ours_is_refused_too():
    for sides, which in ((([0], [2], [1]), "validation .* train"), (([2], [1], [0]), "test .* validation")):
        train, test, validation = (np.array(rows) for rows in sides)
        split = splits.Split(0, 3, train, test, validation)
        with pytest.raises(
            LeakError, match=f"subject_kfold leaks in fold 3 of repeat 0: 1 of 1 {which} side .*report it"
        ):
            splits._check_leaks([split], ("7", "7", "8"), (), "subject_kfold")
