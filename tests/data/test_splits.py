import csv
import dataclasses
import random
from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from alljax.data import cnmc, splits, synthetic
from alljax.data.dataset import Record
from alljax.data.subjects import unite
from alljax.errors import ConfigError, DataError, LeakError
from alljax.settings import SETTINGS

OPTIONS = {
    "classes": ("hem", "all"), "folds": 5, "repeats": 1, "seed": 0, "test_fraction": 0.2, "stratified": True,
    "test_subset": "prelim", "validation": 0.0,
}  # fmt: skip


def placed(cells):
    """The cells in official folds and two parts, people whole."""
    places = {subject: number for number, subject in enumerate(dict.fromkeys(each.subject for each in cells))}
    return [
        dataclasses.replace(
            each, fold=str(places[each.subject] % 3), subset="prelim" if places[each.subject] % 4 == 0 else "train"
        )
        for each in cells
    ]


CELLS = placed(synthetic.read_synthetic(24, 600, 32, 0).records)


def draw(protocol, records, people=None, digests=(), **options):
    people = unite(records) if people is None else people
    return splits.make_splits(protocol, records, people, digests, **{**OPTIONS, **options})


def record(subject, label=0, path=None, field="", **place):
    record.count += 1
    return Record(path or f"{record.count}.png", label, subject, field, **place)


record.count = 0


def all_tested(drawn, repeat=0):
    return np.sort(np.concatenate([split.test for split in drawn if split.repeat == repeat]))


def people_of(rows, records=CELLS):
    return {records[row].subject for row in rows}


def test_the_protocols_are_those_of_the_config():
    setting = SETTINGS["split.protocol"]
    assert {setting.default, *setting.choices.split()} == set(splits.PROTOCOLS)
    with pytest.raises(ConfigError, match="unknown protocol 'official'"):
        draw("official", CELLS)


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_the_order_and_the_layout_of_the_files_make_no_difference(protocol, validation):
    shuffled = [
        dataclasses.replace(each, path=f"{each.label}/{int(each.cell) % 3}/{each.path.removesuffix('bmp')}png")
        for each in random.Random(5).sample(CELLS, len(CELLS))
    ]
    repeats = 2 if protocol in splits.REDRAWN else 1
    one, other = (draw(protocol, cells, repeats=repeats, validation=validation) for cells in (CELLS, shuffled))
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        for (_, rows), (_, others) in zip(a.sides, b.sides, strict=True):
            who = [{(cells[row].subject, cells[row].field, cells[row].cell) for row in side}
                   for cells, side in ((CELLS, rows), (shuffled, others))]  # fmt: skip
            assert who[0] == who[1]
    again = random.Random(6).sample(shuffled, len(shuffled))
    drawn_again = draw(protocol, again, repeats=repeats, validation=validation)
    assert splits.fingerprint(other, shuffled) == splits.fingerprint(drawn_again, again)


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_seeds_and_repeats(protocol):
    prints = [splits.fingerprint(draw(protocol, CELLS, seed=seed), CELLS) for seed in (1, 1, 2)]
    assert prints[0] == prints[1]
    assert (prints[0] != prints[2]) == (protocol in splits.REDRAWN)
    if protocol in splits.REDRAWN:
        both = draw(protocol, CELLS, seed=1, repeats=2)
        alone = [*draw(protocol, CELLS, seed=1), *draw(protocol, CELLS, seed=2)]
        assert [each.test.tolist() for each in both] == [each.test.tolist() for each in alone]
    else:
        with pytest.raises(ConfigError, match=f"protocol {protocol} divides in one way only; set split.repeats=1"):
            draw(protocol, CELLS, repeats=2)


def test_file_names_stand_in_for_names_that_are_not_known():
    cells = [Record(f"{n % 3}/{n:03}.png", n % 2) for n in range(60)]
    moved = [dataclasses.replace(each, path=f"{each.label}/{each.path[2:]}") for each in cells]
    for protocol in splits.REDRAWN:
        one, other = draw(protocol, cells), draw(protocol, moved)
        assert [each.test.tolist() for each in one] == [each.test.tolist() for each in other]


def test_validation_follows_the_seed_where_the_test_side_is_given():
    (one,), (same,), (other,) = (draw("prelim", CELLS, validation=0.2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.validation, same.validation)
    assert not np.array_equal(one.validation, other.validation)
    assert np.array_equal(one.test, other.test)


def test_subject_folds():
    drawn = draw("subject_kfold", CELLS, repeats=3)
    assert [(split.repeat, split.fold) for split in drawn] == [(r, f) for r in range(3) for f in range(5)]
    for split in drawn:
        assert not people_of(split.train) & people_of(split.test)
        assert np.array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(600))
        assert (np.diff(split.train) > 0).all()
        assert (np.diff(split.test) > 0).all()
        assert not len(split.validation)
        assert {CELLS[row].label for row in split.test} == {0, 1}
    for repeat in range(3):
        assert np.array_equal(all_tested(drawn, repeat), np.arange(600))


def test_repeats_draw_other_folds_as_even():
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


def test_a_holdout_tests_other_people_each_time_and_about_the_same_share():
    drawn = draw("subject_holdout", CELLS, repeats=20, test_fraction=0.3)
    assert [(each.repeat, each.fold) for each in drawn] == [(repeat, 0) for repeat in range(20)]
    for each in drawn:
        assert not people_of(each.train) & people_of(each.test)
        assert len(each.train) + len(each.test) == 600
        assert len(each.test) == pytest.approx(180, abs=20)
        for label in (0, 1):
            own = [CELLS[row].label for row in each.test].count(label)
            assert own == pytest.approx(0.3 * sum(cell.label == label for cell in CELLS), abs=15)
    times = Counter(subject for each in drawn for subject in people_of(each.test))
    assert len({frozenset(people_of(each.test)) for each in drawn}) == 20
    assert max(times.values()) < 16


def test_a_holdout_takes_one_of_two_large_people():
    cells = [record(name, label) for name, label in (("1", 1), ("2", 1), ("H1", 0), ("H2", 0)) for _ in range(9)]
    for fraction in (0.05, 0.95):
        (split,) = draw("subject_holdout", cells, test_fraction=fraction)
        assert len(people_of(split.test, cells)) == len(people_of(split.train, cells)) == 2
        assert sorted(cells[row].label for row in split.test) == [0] * 9 + [1] * 9


def test_everybody_is_tested_alone():
    people = ["20+21" if each.subject in ("1", "2") else each.subject for each in CELLS]
    drawn = draw("leave_one_subject_out", CELLS, people)
    alone = [{people[row] for row in each.test} for each in drawn]
    assert {len(each) for each in alone} == {1}
    assert len(alone) == len(set(people)) == 23
    assert np.array_equal(all_tested(drawn), np.arange(600))
    assert all(len(each.train) + len(each.test) == 600 for each in drawn)


def test_official_folds():
    drawn = draw("official_folds", CELLS)
    assert [{CELLS[row].fold for row in each.test} for each in drawn] == [{"0"}, {"1"}, {"2"}]
    assert np.array_equal(all_tested(drawn), np.arange(600))
    assert splits.moved(CELLS, unite(CELLS)) == ""


def test_a_person_in_several_official_folds_goes_where_most_cells_are():
    cells = [
        *(record("1", 1, fold=fold) for fold in "0112"),
        *(record("2", 1, fold=fold) for fold in "20"),  # as many in each: the first
        *(record(f"H{fold}", 0, fold=fold) for fold in "012"),
        *(record(name, 1, fold=name[1]) for name in ("a0", "a1", "a2")),
    ]
    people = unite(cells)
    drawn = draw("official_folds", cells, people)
    assert [people_of(each.test, cells) for each in drawn] == [{"2", "H0", "a0"}, {"1", "H1", "a1"}, {"H2", "a2"}]
    said = splits.moved(cells, people)
    assert said == "3 cells moved to the official fold that has most cells of the same person: 1, 2"
    by_name = draw("official_folds_by_name", cells, people)
    assert [{cells[row].fold for row in each.test} for each in by_name] == [{"0"}, {"1"}, {"2"}]
    assert splits.leaks(by_name, cells, people)["person"] == 6


def test_the_preliminary_phase():
    other = [record("x", 1, subset="extra")]
    (split,) = draw("prelim", CELLS + other)
    assert {CELLS[row].subset for row in split.train} == {"train"}
    assert {CELLS[row].subset for row in split.test} == {"prelim"}
    assert len(split.train) + len(split.test) == 600
    other_name = [dataclasses.replace(each, subset=each.subset.replace("prelim", "test")) for each in CELLS]
    (renamed,) = draw("prelim", other_name, test_subset="test")
    assert np.array_equal(renamed.test, split.test)


def test_the_papers_split():
    cells = [Record(f"{n}.png", int(n < 7_272), str(n % 73), str(n % 500)) for n in range(10_661)]
    drawn = draw("paper", cells, repeats=2, seed=3)
    assert [(len(each.train), len(each.test)) for each in drawn] == [(8_528, 2_133)] * 2
    assert -(-len(drawn[0].train) // 32) == 267
    assert Counter(cells[row].label for row in drawn[0].test) == {1: 1_455, 0: 678}
    leaks = splits.leaks(drawn, cells, unite(cells))
    assert leaks["person"] == leaks["test_cells"] == 2 * 2_133


@pytest.mark.parametrize("stratified", [True, False])
def test_the_papers_split_is_scikit_learns(stratified):
    cells = [Record(f"{n:04}.png", n % 2) for n in range(100)]
    labels = [each.label for each in cells]
    _, wanted = train_test_split(np.arange(100), test_size=0.3, stratify=labels if stratified else None, random_state=4)
    (split,) = draw("paper", cells, seed=4, test_fraction=0.3, stratified=stratified)
    assert split.test.tolist() == sorted(wanted)
    assert (sum(labels[row] for row in split.test) == 15) == stratified


def test_cells_without_subjects():
    cells = [record("", n % 2) for n in range(50)]
    drawn = draw("subject_kfold", cells)
    assert [Counter(cells[row].label for row in each.test) for each in drawn] == [{0: 5, 1: 5}] * 5
    (split,) = draw("subject_holdout", cells)
    assert Counter(cells[row].label for row in split.test) == {0: 5, 1: 5}
    # Two of them are the same picture.
    people = unite(cells, ["same" if n in (3, 5) else str(n) for n in range(50)])
    drawn = draw("subject_kfold", cells, people)
    assert any({3, 5} <= set(each.test.tolist()) for each in drawn)


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_validation_is_set_aside_from_the_training_cells(protocol):
    without, drawn = draw(protocol, CELLS), draw(protocol, CELLS, validation=0.25)
    for before, each in zip(without, drawn, strict=True):
        assert np.array_equal(before.test, each.test)
        assert np.array_equal(before.train, np.sort(np.concatenate([each.train, each.validation])))
        assert {CELLS[row].label for row in each.train} == {CELLS[row].label for row in each.validation} == {0, 1}
        assert len(each.validation) == pytest.approx(0.25 * len(before.train), abs=0.07 * len(before.train))
        whole = not people_of(each.train) & people_of(each.validation)
        assert whole == (protocol != "paper")
    assert splits.fingerprint(drawn, CELLS) != splits.fingerprint(without, CELLS)
    if len(drawn) > 1:
        assert len({tuple(sorted(people_of(each.validation))) for each in drawn}) > 1


def test_the_papers_validation_is_of_cells_as_its_test_is():
    (split,) = draw("paper", CELLS, validation=0.1)
    labels = np.array([each.label for each in CELLS])
    for label in (0, 1):
        of_training = (labels[split.train] == label).sum() + (labels[split.validation] == label).sum()
        assert (labels[split.validation] == label).sum() == pytest.approx(0.1 * of_training, abs=0.5)


@pytest.mark.parametrize(
    ("subjects", "folds", "message"),
    [
        (("1", "2", "3"), 4, r"class 'all' has 3 people but split\.folds is 4; set split\.folds to 3 or less"),
        (("1",), 2, r"class 'all' has 1 person but split\.folds is 2; add people of this class"),
        (("", ""), 3, r"class 'all' has 2 cells but split\.folds is 3; set split\.folds to 2 or less"),
    ],
)
def test_too_few_people_for_the_folds(subjects, folds, message):
    normal = [record(f"H{n}" if subjects[0] else "") for n in range(9)]
    with pytest.raises(DataError, match=message):
        draw("subject_kfold", normal + [record(name, 1) for name in subjects], folds=folds)


@pytest.mark.parametrize("protocol", ["subject_holdout", "leave_one_subject_out"])
def test_one_person_of_a_class_cannot_be_both_learned_and_tested(protocol):
    cells = [record(f"H{n}") for n in range(9)] + [record("1", 1) for _ in range(9)]
    with pytest.raises(DataError, match=f"class 'all' has 1 person but protocol {protocol} needs 2; add people"):
        draw(protocol, cells)


def test_united_people_count_once():
    cells = [record(f"H{n}") for n in range(9)] + [record(name, 1) for name in ("20", "21", "3")]
    people = unite(cells, known_subjects=cnmc.KNOWN_SUBJECTS)
    with pytest.raises(DataError, match="class 'all' has 2 people"):
        draw("subject_kfold", cells, people, folds=3)


def test_folders_of_people_that_count_as_classes():
    records = [record("", label) for label in range(3) for _ in range(2)]
    with pytest.raises(DataError, match="if 'p1' is a person, point data.source at the folder that holds the classes"):
        draw("subject_kfold", records, classes=("p1", "p2", "p3"))


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 0, 0, 1], {"test_fraction": 0.5}, "class 'all' has 1 image, too few"),
        ([0, 0, 1, 1], {"test_fraction": 0.1}, "of 4 images leaves a side with fewer images than the 2 classes"),
        ([0, 1], {"test_fraction": 0.9, "stratified": False}, "leaves a side with no image; choose another fraction"),
        ([0] * 9 + [1], {"stratified": False, "seed": 1}, "train without class 'all'; set split.stratified or another"),
    ],
)
def test_too_few_cells_for_the_paper(labels, options, message):
    with pytest.raises(DataError, match=message):
        draw("paper", [record("", label) for label in labels], **options)


def test_what_a_protocol_needs_and_the_records_lack():
    nameless = [dataclasses.replace(each, subject="") for each in CELLS]
    with pytest.raises(DataError, match=r"needs subjects, and no image has one; name them .*=subject_kfold"):
        draw("leave_one_subject_out", nameless)
    for protocol in ("official_folds", "official_folds_by_name"):
        lost = [dataclasses.replace(each, fold=each.fold.replace("1", "")) for each in CELLS]
        with pytest.raises(DataError, match=r"\d+ of 600 images stand in no official fold \(UID_.* more\); put them"):
            draw(protocol, lost)
        alone = [dataclasses.replace(each, fold="0") for each in CELLS]
        with pytest.raises(DataError, match=r"all images stand in one official fold \('0'\), so nothing is left"):
            draw(protocol, alone)
    emptied = [record("1", 1, fold=fold) for fold in "00111"] + [record(f"H{fold}", 0, fold="1") for fold in range(3)]
    with pytest.raises(DataError, match="fold 0 of repeat 0 has nothing to test; add images or set split.protocol="):
        draw("official_folds", emptied)
    with pytest.raises(DataError, match="fold 1 of repeat 0 would train without class 'hem'"):
        draw("official_folds_by_name", emptied)


def test_a_part_that_is_not_there():
    with pytest.raises(
        DataError, match=r"no part 'test' \(split.test_subset\), only prelim \(\d+ images\), train \(\d"
    ):
        draw("prelim", CELLS, test_subset="test")
    with pytest.raises(DataError, match="no part 'train' .protocol prelim trains on it., only prelim"):
        draw("prelim", [each for each in CELLS if each.subset == "prelim"])
    with pytest.raises(ConfigError, match="split.test_subset is 'train', which protocol prelim trains on"):
        draw("prelim", CELLS, test_subset="train")
    one = [dataclasses.replace(each, subset="train" if each.label else "prelim") for each in CELLS]
    with pytest.raises(DataError, match="would train without class 'hem'; add images to that part"):
        draw("prelim", one)


def test_nobody_to_set_aside():
    cells = [record(name, label) for name, label in (("1", 1), ("2", 1), ("H1", 0), ("H2", 0)) for _ in range(3)]
    with pytest.raises(
        DataError, match="no two people of a class to train on, so nobody can be set aside; set split.val"
    ):
        draw("subject_kfold", cells, folds=2, validation=0.3)


def test_a_training_side_without_a_class():
    """Each two of three people have a class to themselves, so no two folds suit."""
    cells = [
        record(who, label) for who, labels in (("1", "01"), ("2", "02"), ("3", "12")) for label in map(int, labels)
    ]
    with pytest.raises(DataError, match="would train without class '[abc]'; set fewer folds .split.folds. or another"):
        draw("subject_kfold", cells, folds=2, classes="abc")


def test_rows_of_the_split_file():
    cells = [Record("a.bmp", 0, "H1"), Record("b.bmp", 1, "2"), Record("c.bmp", 1, "3"), Record("d.bmp", 1, "4")]
    drawn = [
        splits.Split(0, 0, np.array([0, 2]), np.array([1, 3])),
        splits.Split(0, 1, np.array([1]), np.array([0, 2]), validation=np.array([3])),
    ]
    assert len(splits.COLUMNS) == 7
    assert list(splits.rows(drawn, cells, ("H1", "2+9", "3", "4"), ("hem", "all"))) == [
        ("a.bmp", "H1", "H1", "hem", "train", 0, 0),
        ("b.bmp", "2", "2+9", "all", "test", 0, 0),
        ("c.bmp", "3", "3", "all", "train", 0, 0),
        ("d.bmp", "4", "4", "all", "test", 0, 0),
        ("a.bmp", "H1", "H1", "hem", "test", 0, 1),
        ("b.bmp", "2", "2+9", "all", "train", 0, 1),
        ("c.bmp", "3", "3", "all", "test", 0, 1),
        ("d.bmp", "4", "4", "all", "validation", 0, 1),
    ]


def test_the_fingerprint_is_that_of_the_split_file():
    cells = [*CELLS[:40], record("é", 1, path="ä\udcff.png")]
    drawn = draw("subject_kfold", cells, folds=3, repeats=2, classes=("hem",), validation=0.2)
    table = splits.rows(drawn, cells, unite(cells), ("hem", "all"))
    lines = sorted(f"{repeat}\t{fold}\t{side}\t{path}\n" for path, _, _, _, side, repeat, fold in table)
    wanted = splits.hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    assert splits.fingerprint(drawn, cells) == wanted


@pytest.fixture(scope="module")
def real_set(cnmc_manifest):
    """The records of the real set's train and prelim parts, their digests and people, from the list of its files."""
    with cnmc_manifest.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["phase"] != "final"]
    records = [
        Record(
            f"{row['phase']}/{row['file']}", cnmc.CLASSES.index(row["label"]), row["subject"].upper(), row["image"],
            row["cell"], row["fold"].removeprefix("fold_"), row["phase"],
        )
        for row in rows
    ]  # fmt: skip
    return records, [row["sha256"] for row in rows]


@pytest.mark.real
def test_protocols_on_the_real_set(real_set):
    every, their_digests = real_set
    records, digests = zip(
        *((each, digest) for each, digest in zip(every, their_digests, strict=True) if each.subset == "train"),
        strict=True,
    )
    people = unite(records, digests)
    assert len(set(people)) == 73 - 7
    folds = draw("official_folds", records, people, digests)
    assert splits.leaks(folds, records, people, digests) == {
        "test_cells": 10_661, "person": 0, "field": 0, "duplicate": 0,
    }  # fmt: skip
    assert splits.moved(records, people).endswith("same person: 20+21, 51+75+78, H2+H4+H5+H6, H3+H10")
    by_name = draw("official_folds_by_name", records, people, digests)
    assert [len(each.test) for each in by_name] == [3_527, 3_581, 3_553]
    leaks = splits.leaks(by_name, records, people, digests)
    assert (leaks["field"], leaks["duplicate"]) == (0, 2 * 94)
    assert 0 < leaks["person"] < 10_661
    with pytest.raises(LeakError, match="20"):
        splits._check_leaks(by_name, people, digests, "official_folds")
    alone = draw("leave_one_subject_out", records, people, digests, validation=0.1)
    assert len(alone) == 66
    for split in draw("subject_holdout", records, people, digests, repeats=30, validation=0.1):
        tested = Counter(records[row].label for row in split.test)
        assert tested[1] / 7_272 == pytest.approx(0.2, abs=0.01)
        assert tested[0] / 3_389 == pytest.approx(0.2, abs=0.01)
    (paper,) = draw("paper", records, people, digests)
    assert (len(paper.train), len(paper.test)) == (8_528, 2_133)
    people = unite(every, their_digests)
    (prelim,) = draw("prelim", every, people, their_digests)
    assert (len(prelim.train), len(prelim.test)) == (10_661, 1_867)
