from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alljax.config import default_config, vary
from alljax.data.splits import LEAKY
from alljax.study.experiment import Experiment, open_experiment, open_images
from alljax.study.sweep import expand
from alljax.weights import store


def open_folder(folder: Path, images: dict[str, int], **split: Any) -> Experiment:
    """Writes images given as path: seed, and opens them."""
    for path, seed in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / path)
    settings = {"data.source": str(folder), "split.folds": 2, "data.allow_partial": True}
    config = vary(default_config(), settings | {f"split.{key}": value for key, value in split.items()})
    return open_experiment(config, expand(config))


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
    paths = [f"{label}/p{label}{n}/{i}.png" for label in "ab" for n in range(2) for i in range(2)]
    open_folder(tmp_path, {path: 0 if path == "b/pb0/0.png" else seed for seed, path in enumerate(paths)})
    Image.new("RGB", (60, 60)).save(tmp_path / "a/pa1/1.png")
    dataset, _ = open_images(vary(default_config(), {"data.source": str(tmp_path)}))
    assert any("7 of 40 × 40 pixels, 1 of 60 × 60" in message for message in messages)
    assert "8 images: a 4, b 4; 4 subject names: pa0, pa1, pb0, pb1" in messages
    note = "1 image under two classes, one label is wrong: a/pa0/0.png and b/pb0/0.png"
    assert note in messages
    assert note in dataset.notes


@pytest.mark.parametrize("protocol", sorted(LEAKY))
def test_leaks_of_a_leaky_protocol_are_logged_and_stored(protocol: str, tmp_path: Path, messages: list[str]) -> None:
    described = open_folder(tmp_path, in_official_folds(), protocol=protocol).description
    leaks = described["leaks"]
    assert leaks["subject"] >= leaks["field"] > leaks["duplicate"] == 0
    assert (
        f"protocol {protocol!r} leaks: training images have the subject of {leaks['subject']}, the photograph of "
        f"{leaks['field']}, the same image of 0 of the {leaks['test_images']} test images" in messages
    )
    assert described["protocol"]["leaky"]


def test_without_subjects_only_photographs_and_copies_leak(tmp_path: Path, messages: list[str]) -> None:
    images = {f"{label}/{n}.png": 10 * n for label in "ab" for n in range(6)}
    experiment = open_folder(tmp_path, images, protocol="paper", stratified=False, test_fraction=0.4)
    assert experiment.interval_unit == "images"
    assert any("training images have the photograph of 0, the same image of " in message for message in messages)


def test_weights_trained_on_the_data_set_under_test_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    known = {name: replace(source, trained_on=["raabin"]) for name, source in store.sources().items()}
    monkeypatch.setattr(store, "sources", lambda: known)
    paths = [f"{label}/p{label}{n}/{i}.png" for label in "ab" for n in range(2) for i in range(2)]
    experiment = open_folder(tmp_path / "Raabin-WBC", {path: seed for seed, path in enumerate(paths)})
    (note,) = (note for note in experiment.dataset.notes if "were trained on images of raabin" in note)
    assert note in messages
