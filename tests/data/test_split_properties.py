"""What holds of every split, whoever the people are: tried on structures that hypothesis makes up."""

import dataclasses
import functools
import random
from collections import Counter

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alljax.data import splits
from alljax.data.dataset import Record
from alljax.data.subjects import unite
from alljax.errors import DataError

# The same examples in every run, none written to disk.
thorough = settings(
    derandomize=True, deadline=None, database=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow]
)
CLASSES = ("hem", "all")
HONEST = tuple(protocol for protocol in splits.PROTOCOLS if protocol not in splits.LEAKY)


@dataclasses.dataclass(frozen=True)
class Structure:
    """Records, the digests of their files, and sets of names known to be one person."""

    records: list[Record]
    digests: list[str]
    known: list[frozenset[str]]

    @functools.cached_property
    def people(self) -> tuple[str, ...]:
        return unite(self.records, self.digests, self.known)

    @functools.cached_property
    def mixed(self) -> bool:
        """Whether a person has cells of both classes, which a file under two classes is enough for."""
        pairs = {(person, each.label) for person, each in zip(self.people, self.records, strict=True)}
        return len(pairs) > len(set(self.people))

    def draw(self, protocol: str, **options: object) -> tuple[splits.Split, ...]:
        settled = {"folds": 3, "repeats": 1, "seed": 0, "test_fraction": 0.3, "stratified": True, "validation": 0.0}
        return splits.make_splits(
            protocol, self.records, self.people, self.digests, classes=CLASSES, test_subset="test", **settled | options
        )

    def shuffled(self, seed: int) -> "Structure":
        order = random.Random(seed).sample(range(len(self.records)), len(self.records))
        return Structure([self.records[row] for row in order], [self.digests[row] for row in order], self.known)

    def moved(self) -> "Structure":
        """The same cells in another layout."""
        renamed = [
            dataclasses.replace(each, path=f"{each.label}/{each.subset}/{each.path.rpartition('/')[2]}")
            for each in self.records
        ]
        return Structure(renamed, self.digests, self.known)

    def largest_and_smallest(self, rows: np.ndarray, label: int) -> tuple[int, int]:
        """The most and the fewest cells of a class that one person has among these rows."""
        sizes = Counter(self.people[row] for row in rows if self.records[row].label == label).values()
        return max(sizes), min(sizes)

    def count(self, rows: np.ndarray, label: int) -> int:
        return sum(self.records[row].label == label for row in rows)


@st.composite
def structures(draw: st.DrawFn, mixed: bool = True, tied: bool = True) -> Structure:
    """People of both classes, few or many, of any sizes.

    Args:
        draw: from hypothesis.
        mixed: some people have cells of both classes, some cells no subject.
        tied: some images are the same file, some names one person.
    """
    kinds = st.tuples(
        st.integers(1, 12),  # cells
        st.sampled_from((0, 1, 2) if mixed else (0, 1)),  # 2: of both classes
        st.integers(0, 2),  # official fold, sometimes two
        st.booleans() if mixed else st.just(False),
        st.sampled_from(("train", "train", "test")),
    )
    people = draw(st.lists(kinds, min_size=4, max_size=24))
    nameless = draw(st.integers(0, 4)) if mixed else 0
    records = []
    for number, (size, kind, fold, spans, part) in enumerate([*people, *[(1, 0, 0, False, "train")] * nameless]):
        subject = f"{number}" if number < len(people) else ""
        for cell in range(size):
            label = cell % 2 if kind == 2 else kind
            own_fold = str((fold + (spans and cell % 3 == 0)) % 3)
            path = f"fold_{own_fold}/{CLASSES[label]}/{number}_{cell}.png"
            records.append(Record(path, label, subject, str(cell // 4), str(cell), own_fold, part))
    digests = [str(number) for number in range(len(records))]
    known = []
    if tied:
        row = st.integers(0, len(records) - 1)
        for one, other in draw(st.lists(st.tuples(row, row), max_size=4)):
            digests[one] = digests[other]
        names = st.integers(0, len(people) - 1).map(str)
        known = draw(st.lists(st.frozensets(names, min_size=2, max_size=3), max_size=2))
    return Structure(records, digests, known)


def attempt(structure: Structure, protocol: str, **options: object) -> tuple[splits.Split, ...]:
    """The splits; none if the structure is refused, with a mend."""
    try:
        return structure.draw(protocol, **options)
    except DataError as error:
        if "; " not in str(error):
            raise AssertionError("no mend") from error
        return ()


def assert_apart(structure: Structure, one: np.ndarray, other: np.ndarray) -> None:
    """No name, file or known person in both, told without `unite`."""
    names, files = ([{kinds[row] for row in rows} for rows in (one, other)] for kinds in (
        [each.subject or f" {each.path}" for each in structure.records], structure.digests
    ))  # fmt: skip
    assert not names[0] & names[1]
    assert not files[0] & files[1]
    for same in structure.known:
        assert not (same & names[0] and same & names[1])


@thorough
@given(structures(), st.sampled_from(HONEST), st.sampled_from((0.0, 0.2, 0.5)), st.integers(0, 99))
def test_nobody_is_on_two_sides(structure: Structure, protocol: str, validation: float, seed: int) -> None:
    for split in attempt(structure, protocol, validation=validation, seed=seed):
        assert_apart(structure, split.train, split.test)
        assert_apart(structure, split.train, split.validation)
        assert_apart(structure, split.validation, split.test)
        assert (len(split.validation) > 0) == (validation > 0)
        every = np.concatenate([split.train, split.validation, split.test])
        assert np.array_equal(np.sort(every), np.arange(len(structure.records)))
        assert {structure.records[row].label for row in split.train} == {0, 1}
    drawn = attempt(structure, protocol, seed=seed)
    leaks = splits.leaks(drawn, structure.records, structure.people, structure.digests)
    assert leaks["person"] == leaks["duplicate"] == 0


@thorough
@given(
    structures(),
    st.sampled_from(["subject_kfold", "leave_one_subject_out", "official_folds", "official_folds_by_name"]),
    st.integers(2, 5),
)
def test_every_cell_is_tested_once_a_repeat(structure: Structure, protocol: str, folds: int) -> None:
    repeats = 2 if protocol in splits.REDRAWN else 1
    drawn = attempt(structure, protocol, folds=folds, repeats=repeats)
    for repeat in range(repeats if drawn else 0):
        tested = np.concatenate([split.test for split in drawn if split.repeat == repeat])
        assert np.array_equal(np.sort(tested), np.arange(len(structure.records)))


@thorough
@given(structures(), st.integers(2, 6))
def test_folds_are_refused_only_where_people_lack(structure: Structure, folds: int) -> None:
    """The number of people of each class decides; of mixed people a fold may besides have all of a class."""
    people = structure.people
    fewest = min(
        len({person for person, each in zip(people, structure.records, strict=True) if each.label == label})
        for label in (0, 1)
    )
    drawn = attempt(structure, "subject_kfold", folds=folds)
    if fewest < folds:
        assert not drawn
    elif not structure.mixed:
        assert len(drawn) == folds
    assert bool(attempt(structure, "subject_holdout")) == (fewest >= 2)
    subjects = any(each.subject for each in structure.records)
    assert bool(attempt(structure, "leave_one_subject_out")) == (fewest >= 2 and subjects)


@thorough
@given(structures(mixed=False), st.integers(2, 5), st.integers(0, 99))
def test_folds_are_even(structure: Structure, folds: int, seed: int) -> None:
    """In a class, two folds differ by no more than its largest person: each goes where the class has least."""
    every = np.arange(len(structure.records))
    drawn = attempt(structure, "subject_kfold", folds=folds, seed=seed)
    for label in (0, 1) if drawn and not structure.mixed else ():
        counts = [structure.count(split.test, label) for split in drawn]
        largest, _ = structure.largest_and_smallest(every, label)
        assert max(counts) - min(counts) <= largest
        assert min(counts) > 0


@thorough
@given(
    structures(mixed=False, tied=False),
    st.sampled_from((0.1, 0.2, 0.35, 0.5, 0.8)),
    st.sampled_from((0.1, 0.25, 0.5)),
    st.integers(0, 99),
)
def test_held_out_shares_are_near_what_was_asked(
    structure: Structure, fraction: float, validation: float, seed: int
) -> None:
    """In a class, half of the largest person or all of the smallest may be too much or too little."""
    for split in attempt(structure, "subject_holdout", test_fraction=fraction, validation=validation, seed=seed):
        learned = np.concatenate([split.train, split.validation])
        for held, whole, share in (
            (split.test, np.concatenate([learned, split.test]), fraction), (split.validation, learned, validation),
        ):  # fmt: skip
            for label in (0, 1):
                largest, smallest = structure.largest_and_smallest(whole, label)
                wanted = share * structure.count(whole, label)
                assert abs(structure.count(held, label) - wanted) <= max(largest / 2, smallest) + 1e-6
        assert {structure.records[row].label for row in split.test} == {0, 1}


@thorough
@given(structures(), st.sampled_from(splits.PROTOCOLS), st.integers(0, 99), st.sampled_from((0.0, 0.3)))
def test_neither_order_nor_layout_matters(structure: Structure, protocol: str, seed: int, validation: float) -> None:
    drawn = attempt(structure, protocol, seed=seed, validation=validation)
    for other in (structure.shuffled(seed), structure.moved(), structure.moved().shuffled(seed)):
        again = attempt(other, protocol, seed=seed, validation=validation)
        assert len(drawn) == len(again)
        for before, after in zip(drawn, again, strict=True):
            for (side, rows), (_, others) in zip(before.sides, after.sides, strict=True):
                cells = [
                    {(each.subject, each.field, each.cell, each.path.rpartition("/")[2]) for each in chosen}
                    for chosen in ([structure.records[row] for row in rows], [other.records[row] for row in others])
                ]
                assert cells[0] == cells[1], side
    shuffled = structure.shuffled(seed + 1)
    again = attempt(shuffled, protocol, seed=seed, validation=validation)
    assert splits.fingerprint(drawn, structure.records) == splits.fingerprint(again, shuffled.records)
