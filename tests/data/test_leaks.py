"""Leaks are counted, and refused unless the protocol is declared leaky."""

import numpy as np
import pytest
from data.test_splits import split

from alljax.data.dataset import Record
from alljax.data.splits import Fold, check_leaks, count_leaks
from alljax.errors import LeakError


def image(number: int, subject: str, label: int = 1, **fields: str) -> Record:
    return Record(f"{number}.png", label, subject, **fields)


def test_counts() -> None:
    images = [image(0, "1", field="1"), image(1, "1", field="1"), image(2, "1", field="2"), image(3, "2", field="1")]
    images += [image(4, "3"), image(5, "4")]
    fold = Fold(0, 0, np.array([0, 4]), np.array([1, 2, 3, 5]))
    subjects = ("1", "1", "1", "2", "3+4", "3+4")
    twice = count_leaks([fold, fold], images, subjects, ["a", "b", "a", "c", "d", "d"])
    assert twice == {"test_images": 8, "subject": 6, "field": 2, "duplicate": 4}
    validated = Fold(0, 0, np.array([2]), np.array([1, 3]), validation=np.array([0]))
    assert count_leaks([validated], images[:4], list("1123"), list("abcb"))["subject"] == 1


def two_subsets(*tested: str) -> list[Record]:
    """H1, 1 and 2 for training; H2 and `tested` for testing."""
    train = [image(0, "H1", 0, subset="train"), image(1, "1", subset="train"), image(2, "2", subset="train")]
    test = [image(number, name, subset="prelim") for number, name in enumerate(tested, 4)]
    return [*train, image(3, "H2", 0, subset="prelim"), *test]


def test_subject_in_two_subsets_is_refused() -> None:
    with pytest.raises(
        LeakError,
        match=r"protocol prelim leaks in fold 0 of repeat 0: 3 of 5 test images have images of the same subject on the "
        r"train side \(2 subjects: 1, 2\); remove their images from one of the subsets",
    ):
        split("prelim", two_subsets("2", "2", "3", "1"))


def test_identical_image_in_two_subsets_is_refused() -> None:
    images, digests = two_subsets("3", "4"), list("abcdbe")
    with pytest.raises(LeakError, match=r"1 of 3 test images have images of the same subject .* \(1 subject: 1\+3\)"):
        split("prelim", images, digests=digests)
    names = [record.subject for record in images]
    with pytest.raises(LeakError, match=r"1 of 3 test images have the same image on the train side \(1 subject: 3\)"):
        split("prelim", images, names, digests)
    assert split("prelim", images, digests=list("abcdef"))


@pytest.mark.parametrize(
    ("train", "test", "validation", "sides"), [(0, 2, 1, "validation .* train"), (2, 1, 0, "test .* validation")]
)
def test_leak_of_an_honest_protocol_is_a_bug(train: int, test: int, validation: int, sides: str) -> None:
    fold = Fold(0, 3, np.array([train]), np.array([test]), np.array([validation]))
    with pytest.raises(LeakError, match=f"subject_kfold leaks in fold 3 of repeat 0: 1 of 1 {sides} side .*report it"):
        check_leaks([fold], ("7", "7", "8"), (), "subject_kfold")
