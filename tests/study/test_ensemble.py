"""The ensemble of a trial, and the function that is exported, predict what the study stored for held-out images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from study.conftest import predicted_as_stored

from alljax.data import images
from alljax.data.readers import as_dataset
from alljax.evaluation.calibration import scale
from alljax.models.preprocessing import Preprocessing
from alljax.study import results
from alljax.study.ensemble import open_ensemble
from alljax.study.exports import make_function, resize
from alljax.study.run import run_study


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_heads_predict_as_in_the_study(
    mode: str, toy_config: Callable[..., ConfigDict], tmp_path: Path, compilations: list[str]
) -> None:
    """Block by block, without labels, and without compiling again for a second data set."""
    settings = {"train__mode": mode, "split__repeats": 2, "study__seeds": 2, "features__batch_size": 10, "seed": 3}
    config = toy_config(**settings)
    run_study(config, tmp_path)
    opened = open_ensemble(tmp_path)
    assert len(opened.heads) == len(set(opened.heads)) == 8
    found, dataset = predicted_as_stored(tmp_path, config, opened.trial), results.open_records(config)
    unlabeled = [replace(record, label=-1) for record in dataset.records[::-1]]
    next(opened.predict(dataset))
    compiled = len(compilations)
    again = next(opened.predict(replace(dataset, records=tuple(unlabeled), stamp=None)))
    np.testing.assert_allclose(again.probabilities[:, :5], found[:, :-6:-1], atol=1e-5)
    assert len(compilations) == compiled


FILTERS = [(name, True) for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")]


@pytest.mark.parametrize(("interpolation", "antialias"), [*FILTERS, ("bilinear", False)])
@pytest.mark.parametrize(("height", "width", "size"), [(45, 60, 32), (20, 31, 32), (32, 70, 32)])
def test_images_are_resized_to_the_same_bits(
    height: int, width: int, size: int, interpolation: str, antialias: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (2, height, width, 3), np.uint8) * np.uint8(255)
    expected = np.zeros((2, size, size, 3), np.uint8)
    for image, square in zip(pixels, expected, strict=True):
        images.resize(image, square, interpolation, antialias)
    found = jax.jit(lambda pixels: resize(pixels, Preprocessing("", size, interpolation, antialias)))(pixels)
    difference = np.abs(np.asarray(found, np.int32) - expected)
    assert difference.max() <= (0 if antialias else 1), "without antialiasing in float32, where halves are close"
    assert difference.mean() < 1e-3


def test_function_predicts_what_the_ensemble_predicts(toy_config: Callable[..., ConfigDict], tmp_path: Path) -> None:
    """Of frozen features, of selected ones, of sequences, of fine-tuned networks."""
    keys = "train.mode", "features.select", "classifier.name", "model.pool"
    rows = (
        ("frozen", (), "mlp", "average"),
        ("frozen", ("standardize", "anova", "pca"), "linear", "average"),
        ("frozen", (), "lstm", "flatten"),
        ("finetune", (), "mlp", "max"),
    )
    config = toy_config((keys, rows), model__stage="stem", evaluation__inner_folds=2, features__keep=10)
    run_study(config, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), np.uint8)
    for name in open_ensemble(tmp_path).study.metrics["trials"]:
        opened = open_ensemble(tmp_path, name)
        probabilities = np.concatenate([block.probabilities for block in opened.predict(as_dataset(pixels))], axis=1)
        expected = scale(probabilities, opened.result["temperature"]).mean(0)
        np.testing.assert_allclose(jax.jit(make_function(opened))(pixels), expected, atol=1e-5, err_msg=name)
