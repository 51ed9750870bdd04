import dataclasses
import random
from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from alljax.data import cnmc, images, splits, synthetic
from alljax.data.records import Record
from alljax.data.source import open_source
from alljax.errors import ConfigError, DataError, LeakError

OPTIONS = {"classes": ("hem", "all"), "folds": 5, "repeats": 1, "seed": 0, "test_fraction": 0.2}
CELLS = synthetic.read(24, 600, 32, 0).records


def draw(protocol, records, people=None, **options):
    people = splits.people(records) if people is None else people
    return splits.make_splits(protocol, records, people, **{**OPTIONS, **options})


def record(subject, label=0, path=None, field=""):
    record.count += 1
    return Record(path or f"{record.count}.png", label, subject, field)


record.count = 0


def test_people_without_ties_are_the_subjects():
    records = [record("2"), record("H1"), record("2"), record("", path="a.png"), record("", path="b.png")]
    assert splits.people(records, list("abcde")) == ("2", "H1", "2", "a.png", "b.png")
    assert splits.people(records) == ("2", "H1", "2", "a.png", "b.png")


def test_identical_images_unite_people_along_chains():
    records = [record(name) for name in ("H10", "H2", "H2", "H3", "7", "H3", "7")]
    people = splits.people(records, ["a", "a", "b", "b", "c", "d", "c"])
    assert people == ("H2+H3+H10",) * 4 + ("7", "H2+H3+H10", "7")


def test_known_people_are_united_and_absent_names_ignored():
    records = [record(name) for name in ("20", "21", "3", "51", "78")]
    people = splits.people(records, list("abcde"), cnmc.KNOWN_PEOPLE)
    assert people == ("20+21", "20+21", "3", "51+78", "51+78")


def test_identical_images_without_subject_stay_together():
    records = [record("", path="b.png"), record("", path="a.png"), record("", path="c.png"), record("9", path="d.png")]
    assert splits.people(records, ["x", "x", "y", "z"]) == ("a.png", "a.png", "c.png", "9")
    assert splits.people(records, ["x", "x", "y", "x"]) == ("9", "9", "c.png", "9")


def test_a_path_is_no_subject():
    records = [record("same"), record("", path="same")]
    assert len(splits.people(records, ["a", "b"])) == 2
    with pytest.raises(ValueError, match="zip"):
        splits.people(records, ["a"])


def all_tested(drawn, repeat):
    return np.sort(np.concatenate([split.test for split in drawn if split.repeat == repeat]))


def test_subject_folds():
    drawn = draw("subject_kfold", CELLS, repeats=3)
    assert [(split.repeat, split.fold) for split in drawn] == [(r, f) for r in range(3) for f in range(5)]
    for split in drawn:
        assert not {CELLS[row].subject for row in split.train} & {CELLS[row].subject for row in split.test}
        assert np.array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(600))
        assert (np.diff(split.train) > 0).all()
        assert (np.diff(split.test) > 0).all()
        assert {CELLS[row].label for row in split.test} == {0, 1}
    for repeat in range(3):
        assert np.array_equal(all_tested(drawn, repeat), np.arange(600))


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_the_order_of_the_records_makes_no_difference(protocol):
    shuffled = list(CELLS)
    random.Random(5).shuffle(shuffled)
    one, other = draw(protocol, CELLS, repeats=2), draw(protocol, shuffled, repeats=2)
    for a, b in zip(one, other, strict=True):
        assert {CELLS[row].path for row in a.test} == {shuffled[row].path for row in b.test}
    assert splits.fingerprint(one, CELLS) == splits.fingerprint(other, shuffled)


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_another_layout_of_the_same_cells_splits_alike(protocol):
    moved = [dataclasses.replace(each, path=f"{each.label}/fold_{int(each.cell) % 3}/{each.path}") for each in CELLS]
    for a, b in zip(draw(protocol, CELLS), draw(protocol, moved), strict=True):
        assert np.array_equal(a.test, b.test)


def test_seeds():
    first = splits.fingerprint(draw("subject_kfold", CELLS, seed=1), CELLS)
    assert first == splits.fingerprint(draw("subject_kfold", CELLS, seed=1), CELLS)
    assert first != splits.fingerprint(draw("subject_kfold", CELLS, seed=2), CELLS)


def test_repeats_and_seeds_draw_other_folds_as_even():
    drawn = draw("subject_kfold", CELLS, repeats=8)
    subjects = sorted({each.subject for each in CELLS})
    together = []
    for repeat in range(8):
        fold_of = {CELLS[row].subject: each.fold for each in drawn if each.repeat == repeat for row in each.test}
        together.append([fold_of[a] == fold_of[b] for a in subjects for b in subjects if a < b])
    agreement = np.corrcoef(np.array(together, float))[np.triu_indices(8, 1)]
    # scikit-learn's StratifiedGroupKFold has .9 on the real set: repeats that repeat nothing new.
    assert abs(agreement.mean()) < 0.15
    for each in drawn:
        share = np.mean([CELLS[row].label for row in each.test])
        assert share == pytest.approx(np.mean([each.label for each in CELLS]), abs=0.1)
        assert len(each.test) == pytest.approx(120, abs=30)


def structure(seed):
    """People of random sizes, up to two of them with cells of both classes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 13, rng.integers(8, 21))
    both = rng.integers(3)
    return [
        Record(f"{person}_{cell}.png", int(person + (cell if person < both else 0)) % 2, str(person))
        for person, size in enumerate(sizes)
        for cell in range(size)
    ]


@pytest.mark.parametrize("seed", range(30))
def test_no_person_on_both_sides_and_each_cell_tested_once(seed):
    cells = structure(seed)
    drawn = draw("subject_kfold", cells, folds=2 + seed % 2, seed=seed, repeats=2)
    assert splits.leaks(drawn, cells, splits.people(cells))["person"] == 0
    for repeat in range(2):
        assert np.array_equal(all_tested(drawn, repeat), np.arange(len(cells)))


def test_the_papers_split():
    cells = [Record(f"{n}.png", int(n < 7_272), str(n % 73), str(n % 500)) for n in range(10_661)]
    drawn = draw("paper", cells, repeats=2, seed=3)
    assert [(len(each.train), len(each.test)) for each in drawn] == [(8_528, 2_133)] * 2
    assert -(-len(drawn[0].train) // 32) == 267
    assert Counter(cells[row].label for row in drawn[0].test) == {1: 1_455, 0: 678}
    leaks = splits.leaks(drawn, cells, splits.people(cells))
    assert leaks["person"] == leaks["test_cells"] == 2 * 2_133


def test_the_papers_split_is_scikit_learns():
    cells = [Record(f"{n:04}.png", n % 2) for n in range(100)]
    labels = [each.label for each in cells]
    _, wanted = train_test_split(np.arange(100), test_size=0.3, stratify=labels, random_state=4)
    (split,) = draw("paper", cells, seed=4, test_fraction=0.3)
    assert split.test.tolist() == sorted(wanted)


def test_cells_without_subjects():
    cells = [record("", n % 2) for n in range(50)]
    drawn = draw("subject_kfold", cells)
    assert [Counter(cells[row].label for row in each.test) for each in drawn] == [{0: 5, 1: 5}] * 5
    # Two of them are the same picture.
    people = splits.people(cells, ["same" if n in (3, 5) else str(n) for n in range(50)])
    drawn = draw("subject_kfold", cells, people)
    assert any({3, 5} <= set(each.test.tolist()) for each in drawn)


def test_leaks_are_counted():
    cells = [
        *(record("1", field="1"), record("1", field="1"), record("1", field="2")),
        *(record("2", field="1"), record("3"), record("4")),
    ]
    split = splits.Split(0, 0, np.array([0, 4]), np.array([1, 2, 3, 5]))
    people = ("1", "1", "1", "2", "3+4", "3+4")
    assert splits.leaks([split], cells, people) == {"test_cells": 4, "person": 3, "field": 1}
    counted = splits.leaks([split, split], cells, people, ["a", "b", "a", "c", "d", "d"])
    assert counted == {"test_cells": 8, "person": 6, "field": 2, "duplicate": 4}


@pytest.mark.parametrize(
    ("subjects", "folds", "message"),
    [
        (("1", "2", "3"), 4, r"class 'all' has 3 people but split\.folds is 4; set split\.folds to 3 or less"),
        (("1",), 2, r"class 'all' has 1 person but split\.folds is 2; add people of this class"),
        (("", ""), 3, r"class 'all' has 2 cells but split\.folds is 3"),
    ],
)
def test_too_few_people(subjects, folds, message):
    normal = [record(f"H{n}" if subjects[0] else "") for n in range(9)]
    cells = normal + [record(name, 1) for name in subjects]
    with pytest.raises(DataError, match=message):
        draw("subject_kfold", cells, folds=folds)


def test_united_people_count_once():
    cells = [record(f"H{n}") for n in range(9)] + [record(name, 1) for name in ("20", "21", "3")]
    people = splits.people(cells, known_people=cnmc.KNOWN_PEOPLE)
    with pytest.raises(DataError, match="class 'all' has 2 people"):
        draw("subject_kfold", cells, people, folds=3)


@pytest.mark.parametrize(
    ("labels", "fraction", "message"),
    [([0, 0, 0, 1], 0.5, "class 'all' has 1 image"), ([0, 0, 1, 1], 0.1, "leaves a side with fewer images")],
)
def test_too_few_cells_for_the_paper(labels, fraction, message):
    with pytest.raises(DataError, match=message):
        draw("paper", [record("", label) for label in labels], test_fraction=fraction)


def test_a_training_side_without_a_class():
    cells = [record(str(n), n % 2) for n in range(4)]
    split = splits.Split(0, 1, np.array([0, 2]), np.array([1, 3]))
    with pytest.raises(DataError, match="fold 1 of repeat 0 would train without class 'all'"):
        splits._check_splits([split], cells, ("hem", "all"))


def test_a_leak_is_refused():
    split = splits.Split(0, 0, np.array([0, 1]), np.array([2]))
    with pytest.raises(LeakError, match=r"protocol subject_kfold puts people on both sides of fold 0 \(1 of them\): 7"):
        splits._check_leaks([split], ("7", "8", "7"), "subject_kfold")


def test_an_unknown_protocol():
    with pytest.raises(ConfigError, match="unknown protocol 'official'"):
        draw("official", CELLS)


def test_rows_of_the_split_file():
    cells = [Record("a.bmp", 0, "H1"), Record("b.bmp", 1, "2"), Record("c.bmp", 1, "3")]
    drawn = [splits.Split(0, 0, np.array([0, 2]), np.array([1])), splits.Split(0, 1, np.array([1]), np.array([0, 2]))]
    assert len(splits.COLUMNS) == 7
    assert list(splits.rows(drawn, cells, ("H1", "2+9", "3"), ("hem", "all"))) == [
        ("a.bmp", "H1", "H1", "hem", "train", 0, 0),
        ("b.bmp", "2", "2+9", "all", "test", 0, 0),
        ("c.bmp", "3", "3", "all", "train", 0, 0),
        ("a.bmp", "H1", "H1", "hem", "test", 0, 1),
        ("b.bmp", "2", "2+9", "all", "train", 0, 1),
        ("c.bmp", "3", "3", "all", "test", 0, 1),
    ]


@pytest.mark.real
def test_the_real_cells_keep_their_people_together(cnmc_zip, settings):
    dataset = open_source(settings(cnmc_zip))
    inspection = images.inspect(dataset)
    people = splits.people(dataset.records, inspection.digests, dataset.known_people)
    by_subject = {each.subject: person for each, person in zip(dataset.records, people, strict=True)}
    assert by_subject["20"] == by_subject["21"] == "20+21"
    assert by_subject["51"] == by_subject["78"]
    assert by_subject["H2"] == by_subject["H4"] == by_subject["H5"] == by_subject["H6"] == "H2+H4+H5+H6"
    assert by_subject["H3"] == by_subject["H10"]
    assert by_subject["3"] == "3"
    drawn = draw("subject_kfold", dataset.records, people)
    leaks = splits.leaks(drawn, dataset.records, people, inspection.digests)
    assert leaks == {"test_cells": 512, "person": 0, "field": 0, "duplicate": 0}


def test_folders_of_people_that_count_as_classes():
    records = [record("", label) for label in range(3) for _ in range(2)]
    with pytest.raises(DataError, match="if 'p1' is a person, point data.source at the folder that holds the classes"):
        draw("subject_kfold", records, classes=("p1", "p2", "p3"))
