"""Each protocol: who is tested, independence of the order of files, and what is refused; `make_splits`."""

import dataclasses
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_predict, train_test_split

import alljax
from alljax.config import default_config, vary
from alljax.data import cnmc, splits, synthetic
from alljax.data.dataset import Dataset, Record, merge_subjects
from alljax.data.protocols import LEAKY, OF_SOURCES, RANDOM
from alljax.data.protocols import PROTOCOLS as ALL_PROTOCOLS
from alljax.data.readers import as_dataset
from alljax.data.splits import check_leaks, count_leaks
from alljax.errors import ConfigError, DataError, LeakError, UserError
from alljax.study.experiment import open_experiment
from alljax.study.sweep import expand


def dataset_of(records: Sequence[Record], classes: Sequence[str] = ("hem", "all")) -> Dataset:
    return Dataset("folder", tuple(classes), tuple(records), read=lambda record: b"")


def split(
    protocol: str, records: Sequence[Record], subjects: Sequence[str] | None = None, digests: Sequence[str] = (),
    seed: int = 0, classes: Sequence[str] = ("hem", "all"), **options: object,
) -> tuple[splits.Fold, ...]:  # fmt: skip
    """Divides records whose settings are the defaults but for `options`."""
    config = vary(default_config(), {"seed": seed, "split.protocol": protocol})
    config.split.update(options)
    dataset = dataset_of(records, classes)
    subjects = merge_subjects(dataset, digests) if subjects is None else subjects
    return splits.make_folds(dataset, subjects, digests, config)


def _placed(records: Sequence[Record]) -> list[Record]:
    """Puts subjects in official folds."""
    number = {subject: n for n, subject in enumerate(dict.fromkeys(each.subject for each in records))}
    return [dataclasses.replace(each, fold=str(number[each.subject] % 3)) for each in records]


PROTOCOLS = [name for name in ALL_PROTOCOLS if name not in OF_SOURCES]
IMAGES = _placed(synthetic.read_synthetic(24, 600, 32, 0).records)
TWO_SUBSETS = [
    dataclasses.replace(each, subset="prelim" if each.fold == "0" and each.subject[-1] in "147" else "train")
    for each in IMAGES
]


NUMBERS = itertools.count()


def images_for(protocol: str) -> list[Record]:
    return TWO_SUBSETS if protocol == "prelim" else IMAGES


def image(subject: str, label: int = 0, **fields: str) -> Record:
    return Record(f"{next(NUMBERS)}.png", label, subject, **fields)


def names_of(rows: np.ndarray, records: Sequence[Record] = IMAGES) -> set[str]:
    return {records[row].subject for row in rows}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_seeds_and_repeats(protocol: str) -> None:
    records = images_for(protocol)
    prints = [splits.fingerprint(split(protocol, records, seed=seed), records) for seed in (1, 1, 2)]
    assert prints[0] == prints[1]
    assert (prints[0] != prints[2]) == (protocol in RANDOM)
    if protocol in RANDOM:
        both = split(protocol, records, seed=1, repeats=2)
        single = [*split(protocol, records, seed=1), *split(protocol, records, seed=2)]
        assert [each.test.tolist() for each in both] == [each.test.tolist() for each in single]
    else:
        with pytest.raises(ConfigError, match=f"protocol {protocol} has one division only; set split.repeats=1"):
            split(protocol, records, repeats=2)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_validation_comes_from_the_training_side(protocol: str) -> None:
    records = images_for(protocol)
    without, folds = split(protocol, records), split(protocol, records, validation=0.25)
    for before, fold in zip(without, folds, strict=True):
        assert np.array_equal(before.test, fold.test)
        assert np.array_equal(before.train, np.sort(np.concatenate([fold.train, fold.validation])))
        assert {records[row].label for row in fold.train} == {records[row].label for row in fold.validation} == {0, 1}
        assert len(fold.validation) == pytest.approx(0.25 * len(before.train), abs=0.07 * len(before.train))
        separate = not names_of(fold.train, records) & names_of(fold.validation, records)
        assert separate == (protocol != "paper")


def test_folds_of_subjects() -> None:
    folds = split("subject_kfold", IMAGES, repeats=2)
    assert [(fold.repeat, fold.fold) for fold in folds] == [(r, f) for r in range(2) for f in range(5)]
    assert [len(fold.test) for fold in folds] == pytest.approx([120] * 10, abs=30)
    assert sorted(row for fold in folds[:5] for row in fold.test) == list(range(600))
    holdouts = split("subject_holdout", IMAGES, repeats=10, test_fraction=0.3)
    assert len({frozenset(names_of(fold.test)) for fold in holdouts}) == 10
    assert [len(fold.test) for fold in holdouts] == pytest.approx([180] * 10, abs=20)
    subjects = ["20+21" if each.subject in ("1", "2") else each.subject for each in IMAGES]
    folds = split("leave_one_subject_out", IMAGES, subjects)
    assert [len({subjects[row] for row in fold.test}) for fold in folds] == [1] * 23
    assert sorted(row for fold in folds for row in fold.test) == list(range(600))


def test_official_folds_keep_subjects_in_one_fold() -> None:
    records = [
        *(image("1", 1, fold=fold) for fold in "0112"),
        *(image("2", 1, fold=fold) for fold in "20"),  # equally many: the first
        *(image(f"H{fold}", 0, fold=fold) for fold in "012"),
        *(image(name, 1, fold=name[1]) for name in ("a0", "a1", "a2")),
    ]
    subjects = merge_subjects(dataset_of(records))
    folds = split("official_folds", records)
    assert [names_of(fold.test, records) for fold in folds] == [{"2", "H0", "a0"}, {"1", "H1", "a1"}, {"H2", "a2"}]
    by_name = split("official_folds_by_name", records)
    assert [{records[row].fold for row in fold.test} for fold in by_name] == [{"0"}, {"1"}, {"2"}]
    assert count_leaks(by_name, {"subject": subjects}) == {"test_images": 12, "subject": 6}


@pytest.mark.parametrize("stratified", [True, False])
def test_paper_is_train_test_split(stratified: bool) -> None:
    records, labels = [Record(f"{n:04}.png", n % 2) for n in range(100)], np.arange(100) % 2
    _, expected = train_test_split(range(100), test_size=0.3, stratify=labels if stratified else None, random_state=4)
    (fold,) = split("paper", records, seed=4, test_fraction=0.3, stratified=stratified)
    assert fold.test.tolist() == sorted(expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_training_subjects_are_nested(protocol: str) -> None:
    records, options = images_for(protocol), {"test_fraction": 0.3, "folds": 4}
    complete, previous = split(protocol, records, **options), None
    for count in (2, 5, 9):
        folds = split(protocol, records, train_subjects=count, **options)
        for number, (fold, whole) in enumerate(zip(folds, complete, strict=True)):
            names = names_of(fold.train, records)
            assert len(names) == count
            assert fold.train.tolist() == [row for row in whole.train if records[row].subject in names]
            assert {records[row].label for row in fold.train} == {0, 1}
            assert np.array_equal(fold.test, whole.test)
            assert previous is None or names_of(previous[number].train, records) < names
        previous = folds


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_training_images_are_drawn_over_subjects_and_nested(protocol: str) -> None:
    records, options = images_for(protocol), {"test_fraction": 0.3, "folds": 4}
    larger = split(protocol, records, **options)
    for count in (40, 5, 1):
        folds = split(protocol, records, train_images=count, **options)
        for fold, other in zip(folds, larger, strict=True):
            assert np.array_equal(fold.test, other.test)
            assert set(fold.train) < set(other.train)
            for label in (0, 1):
                few, more = ([row for row in one.train if records[row].label == label] for one in (fold, other))
                assert len(few) == count
                assert len(names_of(few, records)) == min(count, len(names_of(more, records)))
        larger = folds


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        (
            "subject_kfold",
            {"train_images": 300},
            r"train_images=300, but fold 0 of repeat 0 has \d+ training images of",
        ),
        ("subject_kfold", {"folds": 30}, r"class 'hem' has \d+ subjects .*, but protocol subject_kfold needs 30; set"),
        ("subject_kfold", {"train_subjects": 24}, r"train_subjects=24, but fold \d of repeat 0 has \d+ subj"),
        ("subject_kfold", {"train_subjects": 1}, "train_subjects=1, but fold 0 of repeat 0 .* at least one per class"),
        ("prelim", {"test_subset": "test"}, r"'test' \(split.test_subset\), but there is no 'test';"),
        ("prelim", {"test_subset": "train"}, "split.test_subset=train, but protocol prelim trains on it"),
        ("paper", {"test_fraction": 0.001}, "0.001 of 600 images is not possible"),
    ],
)
def test_impossible_settings(protocol: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(protocol, IMAGES, stratified=True, **options)


def test_records_lack_what_the_protocol_needs() -> None:
    with pytest.raises(DataError, match="needs subjects, and no image has one"):
        split("leave_one_subject_out", [dataclasses.replace(each, subject="") for each in IMAGES])
    with pytest.raises(DataError, match="class 'all' has 1 subject .* subject_holdout needs 2; add subject"):
        split("subject_holdout", [image(f"H{n}") for n in range(9)] + [image("1", 1) for _ in range(9)])
    with pytest.raises(DataError, match="needs an official fold for each image, .*; found images without one, 0, 2"):
        split("official_folds", [dataclasses.replace(each, fold=each.fold.replace("1", "")) for each in IMAGES])
    with pytest.raises(DataError, match="at least two of them; found 0; move"):
        split("official_folds", [dataclasses.replace(each, fold="0") for each in IMAGES])
    few = [image(name, label) for name, label in (("1", 1), ("2", 1), ("H1", 0), ("H2", 0)) for _ in range(3)]
    with pytest.raises(DataError, match="no class with two subjects to train on"):
        split("subject_kfold", few, folds=2, validation=0.3)
    names = [image("", label) for label in range(3) for _ in range(2)]
    with pytest.raises(DataError, match="class 'p1' .*; if it is a subject, set data.source to the folder"):
        split("subject_kfold", names, classes=("p1", "p2", "p3"))


def test_leaks_are_counted() -> None:
    fold = splits.Fold(0, 0, np.array([0, 4]), np.array([1, 2, 3, 5]))
    leaks = count_leaks([fold, fold], {"subject": ("1", "1", "1", "2", "3+4", "3+4"), "duplicate": "abacdd"})
    assert leaks == {"test_images": 8, "subject": 6, "duplicate": 4}
    validated = splits.Fold(0, 0, np.array([2]), np.array([1, 3]), validation=np.array([0]))
    assert count_leaks([validated], {"subject": "1123"})["subject"] == 1
    records = [image("1", label, field=field) for label in (0, 1) for field in ("1", "1", "2", "")]
    inspection = SimpleNamespace(pixels=range(8), similar=range(8))
    config = vary(default_config(), {"split.protocol": "paper", "split.test_fraction": 0.5})
    (fold,) = found = splits.divide(dataset_of(records), inspection, config)
    trained = {records[row].field for row in fold.train} - {""}
    assert found.leaks["field"] == sum(records[row].field in trained for row in fold.test)
    assert found.leaks["near"] == found.leaks["duplicate"] == 0


@pytest.mark.parametrize(
    ("tested", "digests", "message"),
    [
        (
            "2231",
            "",
            r"3 of 5 test images have images of the same subject on the train side \(2 subjects: 1, 2\); remove",
        ),
        ("34", "abcdbe", r"1 of 3 test images have the same image on the train side \(1 subject: 3\)"),
    ],
)
def test_related_images_in_two_subsets_are_refused(tested: str, digests: str, message: str) -> None:
    train = [image("H1"), image("1", 1), image("2", 1)]
    records = [*train, image("H2", subset="prelim"), *(image(name, 1, subset="prelim") for name in tested)]
    with pytest.raises(LeakError, match=f"protocol prelim leaks in fold 0 of repeat 0: {message}"):
        split("prelim", records, merge_subjects(dataset_of(records)), list(digests))


def test_leaks_of_validation_images_are_refused() -> None:
    fold = splits.Fold(0, 3, np.array([0]), np.array([2]), np.array([1]))
    with pytest.raises(LeakError, match="subject_kfold leaks in fold 3 of repeat 0: 1 of 1 validation .* train side"):
        check_leaks([fold], ("7", "7", "8"), (), "subject_kfold")


@st.composite
def structures(draw: st.DrawFn) -> tuple[list[Record], list[str]]:
    """Returns records of subjects of any size and class, some without names, some identical."""
    kinds = st.tuples(st.integers(1, 10), st.sampled_from((0, 1, 2)), st.integers(0, 2), st.booleans())
    subjects = draw(st.lists(kinds, min_size=4, max_size=20))
    records = []
    for number, (size, kind, fold, spread) in enumerate([*subjects, *[(1, 0, 0, False)] * draw(st.integers(0, 3))]):
        name = str(number) if number < len(subjects) else ""
        for cell in range(size):
            label = cell % 2 if kind == 2 else kind
            own = str((fold + (spread and cell % 3 == 0)) % 3)
            records.append(Record(f"{own}/{label}/{number}_{cell}.png", label, name, str(cell // 4), str(cell), own))
    digests, row = [str(number) for number in range(len(records))], st.integers(0, len(records) - 1)
    for one, other in draw(st.lists(st.tuples(row, row), max_size=4)):
        digests[one] = digests[other]
    return records, digests


@settings(derandomize=True, deadline=None, database=None, max_examples=80, suppress_health_check=list(HealthCheck))
@given(structures(), st.sampled_from([p for p in PROTOCOLS if p != "prelim"]), st.sampled_from((0.0, 0.3)))
def test_properties_of_any_structure(structure: tuple, protocol: str, validation: float) -> None:
    """Sides cover the records, share neither names nor images, and do not depend on order or layout."""
    records, digests = structure
    options = {"folds": 3, "validation": validation, "stratified": True, "test_fraction": 0.3}
    order = random.Random(1).sample(range(len(records)), len(records))
    moved = [dataclasses.replace(records[row], path=f"x/{records[row].path.split('/')[-1]}") for row in order]
    options["digests"] = [digests[row] for row in order]
    try:
        folds = split(protocol, records, **options | {"digests": digests})
    except DataError:
        with pytest.raises(DataError, match="; "):  # with advice
            split(protocol, moved, **options)
        return
    again = split(protocol, moved, **options)
    for fold, other in zip(folds, again, strict=True):
        rows = np.sort(np.concatenate([fold.train, fold.validation, fold.test]))
        assert np.array_equal(rows, np.arange(len(records)))
        assert {records[row].label for row in fold.train} == {0, 1}
        assert (len(fold.validation) > 0) == (validation > 0)
        for (_, one), (_, two) in zip(fold.sides, other.sides, strict=True):
            assert sorted(one.tolist()) == sorted(order[row] for row in two)
        for one, two in ((fold.train, fold.test), (fold.train, fold.validation), (fold.validation, fold.test)):
            if protocol not in LEAKY:
                assert not {digests[row] for row in one} & {digests[row] for row in two}
                assert not (names_of(one, records) & names_of(two, records)) - {""}


@pytest.mark.real
def test_protocols_on_the_names_of_the_real_set() -> None:
    records = [record for record in cnmc.expected().values() if record.subset != "final"]
    subjects = merge_subjects(cnmc.make_dataset(tuple(records), read=lambda record: b""))
    train = [subject for subject, record in zip(subjects, records, strict=True) if record.subset == "train"]
    assert len(set(train)) == 73 - 7
    official = count_leaks(split("official_folds", records, subjects), {"subject": subjects})
    assert official == {"test_images": 10_661, "subject": 0}
    by_name = split("official_folds_by_name", records, subjects)
    assert [len(fold.test) for fold in by_name] == [3_527, 3_581, 3_553]
    with pytest.raises(LeakError, match="20"):
        check_leaks(by_name, subjects, (), "official_folds")
    for fold in split("subject_holdout", records, subjects, repeats=10, validation=0.1):
        tested = Counter(records[row].label for row in fold.test)
        assert (tested[1] / 7_272, tested[0] / 3_389) == pytest.approx((0.2, 0.2), abs=0.01)
    (prelim,) = split("prelim", records, subjects)
    assert (len(prelim.train), len(prelim.test)) == (10_661, 1_867)


@pytest.mark.parametrize(
    ("names", "digests", "merged"),
    [
        ("2 H1 2 - -", "abcde", "2 H1 2 3.png 4.png"),
        ("2 H1 2 - -", "", "2 H1 2 3.png 4.png"),
        ("H10 H2 H2 H3 7 H3 7", "aabbcdc", "H2+H3+H10 H2+H3+H10 H2+H3+H10 H2+H3+H10 7 H2+H3+H10 7"),
        ("20 21 3 51 78", "abcde", "20+21 20+21 3 51+78 51+78"),
        ("- - - 9", "xxyz", "0.png 0.png 2.png 9"),
        ("- - - 9", "xxyx", "9 9 2.png 9"),
    ],
)
def test_subjects_with_shared_images_or_known_names_are_merged(names: str, digests: str, merged: str) -> None:
    records = [Record(f"{number}.png", 0, name.strip("-")) for number, name in enumerate(names.split())]
    known = cnmc.KNOWN_SUBJECTS if "20" in names else ()
    dataset = dataclasses.replace(dataset_of(records), known_subjects=known)
    assert merge_subjects(dataset, [*digests]) == tuple(merged.split())


SMALL = {"synthetic__images": 48, "synthetic__subjects": 12, "synthetic__image_size": 48}


def test_folds_are_those_of_a_study(toy_config: Callable) -> None:
    config = toy_config(seed=3, split__folds=3, split__repeats=2, split__validation=0.25)
    studied = open_experiment(config, expand(config))
    expected = studied.folds(expand(config)[0])
    dataset = alljax.open_dataset("synthetic", **SMALL)
    found = alljax.make_splits(dataset, seed=3, folds=3, repeats=2, validation=0.25)
    assert splits.fingerprint([*found], dataset.records) == splits.fingerprint(expected, studied.dataset.records)
    table = found.to_pandas()
    assert list(table) == ["path", "subject_name", "subject", "label", "subset", "repeat", "fold"]
    assert all(row.path.endswith(f"_{row.label}.bmp") for row in table.itertuples())
    lines = sorted(f"{row.repeat}\t{row.fold}\t{row.subset}\t{row.path}\n" for row in table.itertuples())
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == splits.fingerprint(expected, dataset.records)
    assert table.groupby(["repeat", "fold", "subset"]).size().to_dict() == {
        (fold.repeat, fold.fold, side): len(rows) for fold in expected for side, rows in fold.sides
    }
    first = table[(table["repeat"] == 0) & (table["subset"] == "test")].set_index("path")["fold"]
    assert first[[record.path for record in dataset.records]].tolist() == found.fold_of_row.tolist()
    assert "no subject and no image is on two sides" in str(found)


def test_splits_are_a_cross_validator_of_scikit_learn() -> None:
    dataset = alljax.open_dataset("synthetic", **SMALL)
    division = alljax.make_splits(dataset, folds=3)
    predicted = cross_val_predict(DummyClassifier(), np.zeros((48, 1)), dataset.labels, cv=division)
    assert (predicted == dataset.classes.index("all")).all()
    leaky = alljax.make_splits(dataset, "paper", test_fraction=0.5)
    assert "leaks: training images have the subject of" in str(leaky)
    assert (leaky.fold_of_row == -1).sum() == 24


def test_sources_settings_and_subsets(plant: Callable) -> None:
    root = plant(["train/a/1.png", "train/a/2.png", "train/b/3.png", "train/b/4.png", "test/a/5.png", "test/b/6.png"])
    dataset = alljax.open_dataset(root, subsets=("train", "test"), classes=["b", "a"])
    assert "6 images: a 3, b 3\n  no subjects known" in str(dataset)
    assert dataset.labels.tolist() == [dataset.classes.index(record.path.split("/")[1]) for record in dataset.records]
    division = alljax.make_splits(dataset, "prelim", test_subset="test")
    assert [dataset.records[row].path for row in division[0].test] == ["test/a/5.png", "test/b/6.png"]
    joined = alljax.open_dataset([("one", str(root)), ("two", str(root))], classes=("a", "b"))
    assert str(joined).startswith("Dataset 'sources': 8 images: a 4, b 4")
    (root / "train/a/1.png").write_bytes(b"damaged")
    assert len(alljax.open_dataset(root, on_error="skip").records) == 3
    with pytest.raises(DataError, match="1 of 4 images cannot be read"):
        alljax.make_splits(alljax.open_dataset(root))


def test_bad_input() -> None:
    dataset = alljax.open_dataset("synthetic", **SMALL)
    with pytest.raises(ConfigError, match="unknown setting 'data.clases': did you mean 'data.classes'"):
        alljax.open_dataset("synthetic", clases=("all", "hem"))
    with pytest.raises(ConfigError, match="split.protocol='kfold' is not one of the choices 'subject_kfold'"):
        alljax.make_splits(dataset, "kfold")
    with pytest.raises(ConfigError, match="split.folds='5' has the wrong type"):
        alljax.make_splits(dataset, folds="5")
    with pytest.raises(DataError, match="no labeled images found"):
        alljax.make_splits(dataclasses.replace(dataset, records=()))
    with pytest.raises(DataError, match="no labeled images found"):
        alljax.make_splits(as_dataset(np.zeros((3, 8, 8, 3), np.uint8)))
