from pathlib import Path
from typing import Any

import pytest
from pictures import picture
from PIL import Image

from alljax.config import check, default_config, vary
from alljax.data.splits import LEAKY
from alljax.errors import ConfigError, DataError, LeakError
from alljax.study.experiment import Division, Experiment, open_experiment, open_images
from alljax.study.sweep import expand


def open_folder(folder: Path, folds: int = 2, **split: Any) -> Experiment:
    settings = {"data.source": str(folder), "split.folds": folds, "data.allow_partial": True}
    config = vary(default_config(), settings | {f"split.{key}": value for key, value in split.items()})
    return open_experiment(config, expand(config))


def division(experiment: Experiment) -> Division:
    return next(iter(experiment.divisions.values()))


def write_images(folder: Path, images: dict[str, int]) -> None:
    """Writes images given as path: seed."""
    for path, seed in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(picture(seed, suffix=path.rpartition(".")[2]))


def two_classes(subjects: int, images: int) -> dict[str, int]:
    paths = [f"{label}/p{label}{n}/{i}.png" for label in "ab" for n in range(subjects) for i in range(images)]
    return {path: seed for seed, path in enumerate(paths)}


def of_subset(subjects: dict[str, str]) -> dict[str, int]:
    """Images SUBSET/class/subject/N.png, given as SUBSET/class: names of subjects."""
    paths = [f"{place}/{name}/{n}.png" for place, names in subjects.items() for name in names.split() for n in range(3)]
    return {path: seed for seed, path in enumerate(paths)}


def in_official_folds() -> dict[str, int]:
    """C-NMC names in three folds; subject 1 is in two of them."""
    names = [(fold, f"{'H' * hem}{10 * fold + n}", hem) for fold in range(3) for n in (1, 2) for hem in (True, False)]
    names.append((1, "1", False))
    return {
        f"fold_{fold}/{'hem' if hem else 'all'}/UID_{name}_1_{n}_{'hem' if hem else 'all'}.png": 100 * index + n
        for index, (fold, name, hem) in enumerate(names)
        for n in (range(4, 6) if (fold, name) == (1, "1") else range(1, 4))
    }


def are_merged(experiment: Experiment, *names: str) -> bool:
    """Whether these subject names are one subject, tested in the same folds."""
    records = experiment.dataset.records
    subjects = {
        subject for subject, record in zip(experiment.subjects, records, strict=True) if record.subject in names
    }
    tested = [
        {fold.fold for fold in division(experiment).folds for row in fold.test if records[row].subject == name}
        for name in names
    ]
    return len(subjects) == 1 and all(folds == tested[0] for folds in tested)


def test_subjects_that_share_an_image_are_merged(tmp_path: Path) -> None:
    write_images(tmp_path, two_classes(subjects=5, images=2))
    assert not are_merged(open_folder(tmp_path), "pa0", "pa3")
    (tmp_path / "a/pa3/0.png").write_bytes((tmp_path / "a/pa0/1.png").read_bytes())
    assert are_merged(open_folder(tmp_path), "pa0", "pa3")


def test_known_subjects_of_cnmc_are_merged(tmp_path: Path) -> None:
    """Subjects 20 and 21 share images in the complete set, but none of those that are present here."""
    names = [*(f"UID_{n}_1_1_all" for n in (20, 21, 1, 2, 3)), *(f"UID_H{n}_1_1_hem" for n in (1, 7, 8, 9))]
    write_images(tmp_path, {f"fold_0/{name[-3:]}/{name}.bmp": seed for seed, name in enumerate(names)})
    assert are_merged(open_folder(tmp_path), "20", "21")


def test_different_sizes_and_contradictory_labels_are_logged(tmp_path: Path, messages: list[str]) -> None:
    write_images(tmp_path, two_classes(subjects=2, images=2))
    (tmp_path / "b/pb0/0.png").write_bytes((tmp_path / "a/pa0/0.png").read_bytes())
    Image.new("RGB", (60, 60)).save(tmp_path / "a/pa1/1.png")
    dataset, _ = open_images(vary(default_config(), {"data.source": str(tmp_path)}))
    assert any("7 of 40 × 40 pixels, 1 of 60 × 60" in message for message in messages)
    note = "1 image under two classes, one label is wrong: a/pa0/0.png and b/pb0/0.png"
    assert note in messages
    assert note in dataset.notes


@pytest.mark.parametrize("protocol", sorted(LEAKY))
def test_leaks_of_a_leaky_protocol_are_logged_and_stored(protocol: str, tmp_path: Path, messages: list[str]) -> None:
    write_images(tmp_path, in_official_folds())
    experiment = open_folder(tmp_path, protocol=protocol)
    leaks = division(experiment).leaks
    assert leaks["subject"] >= leaks["field"] > leaks["duplicate"] == 0
    assert (
        f"protocol {protocol!r} leaks: training images have the subject of {leaks['subject']}, the photograph of "
        f"{leaks['field']}, the same image of 0 of the {leaks['test_images']} test images" in messages
    )
    described = experiment.describe()
    assert described["leaks"] == leaks
    assert described["protocol"]["leaky"]


def test_without_subjects_only_photographs_and_copies_leak(tmp_path: Path, messages: list[str]) -> None:
    write_images(tmp_path, {f"{label}/{n}.png": 10 * n for label in "ab" for n in range(6)})
    experiment = open_folder(tmp_path, protocol="paper", stratified=False, test_fraction=0.4)
    assert experiment.interval_unit == "images"
    assert any("training images have the photograph of 0, the same image of " in message for message in messages)


def test_reassigned_subject_is_logged_and_stored(tmp_path: Path, messages: list[str]) -> None:
    write_images(tmp_path, in_official_folds())
    experiment = open_folder(tmp_path, protocol="official_folds")
    (note,) = [note for note in experiment.dataset.notes if "official fold" in note]
    assert note in messages
    assert note in experiment.describe()["dataset"]["notes"]
    assert are_merged(experiment, "1")
    assert not division(experiment).leaks["subject"]


def test_prelim_trains_on_one_subset_and_tests_another(tmp_path: Path) -> None:
    write_images(tmp_path, of_subset({"train/a": "p1 p2 p3", "train/b": "p4 p5", "test/a": "p6", "test/b": "p7 p8"}))
    experiment = open_folder(tmp_path, protocol="prelim", test_subset="test", validation=0.3)
    (fold,) = division(experiment).folds
    train, validation, test = (
        {experiment.dataset.records[row].subject for row in rows} for rows in (fold.train, fold.validation, fold.test)
    )
    assert train | validation == {"p1", "p2", "p3", "p4", "p5"}
    assert len(validation) == 2
    assert test == {"p6", "p7", "p8"}
    with pytest.raises(DataError, match="prelim"):
        open_folder(tmp_path, protocol="prelim")


def test_subject_in_both_subsets_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, of_subset({"train/a": "p1 p2", "train/b": "p3 p4", "test/a": "p5", "test/b": "p6"}))
    (tmp_path / "test/a/p5/0.png").write_bytes((tmp_path / "train/a/p2/1.png").read_bytes())
    with pytest.raises(LeakError, match=r"p2\+p5"):
        open_folder(tmp_path, protocol="prelim", test_subset="test")


def test_validation_of_all_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"split\.validation=1\.0"):
        check(vary(default_config(), {"split.validation": 1.0}))


@pytest.mark.parametrize(
    ("split", "training_images"), [({}, 24), ({"validation": 0.34}, 16), ({"train_subjects": 6}, 12)]
)
def test_description_counts_the_images_of_each_fold(split: Any, training_images: int, tmp_path: Path) -> None:
    write_images(tmp_path, two_classes(subjects=8, images=2))
    experiment = open_folder(tmp_path, folds=4, **split)
    protocol = experiment.describe()["protocol"]
    assert protocol["training_images"] == [training_images] * 4
    assert protocol["test_images"] == [8] * 4


def test_compared_study_needs_two_networks() -> None:
    config = vary(default_config(), {"study.compare": "paper"})
    with pytest.raises(ConfigError, match=r"study\.compare=paper"):
        open_experiment(config, expand(config))
