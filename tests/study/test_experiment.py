from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alljax.config import default_config, vary
from alljax.data.splits import LEAKY
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
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / path)


def two_classes(subjects: int, images: int) -> dict[str, int]:
    paths = [f"{label}/p{label}{n}/{i}.png" for label in "ab" for n in range(subjects) for i in range(images)]
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
    assert not division(experiment).leaks["subject"]


def test_description_counts_the_images_of_each_fold(tmp_path: Path) -> None:
    write_images(tmp_path, two_classes(subjects=8, images=2))
    protocol = open_folder(tmp_path, folds=4, validation=0.34).describe()["protocol"]
    assert protocol["training_images"] == [16] * 4
    assert protocol["test_images"] == [8] * 4
