"""Copies of the toy study that a test may change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
from ml_collections import ConfigDict

from alljax.study import results, workdir
from alljax.study.ensemble import open_ensemble

TRIAL = "efficientnet_lite0-adam-stage=stem"
"""The first trial of the toy study."""

STAGES, OPTIMIZERS = ("model.stage", ("stem", "stage1")), ("train.optimizer", ("adam", "rmsprop"))


@pytest.fixture
def copy(toy_study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_study, tmp_path / "study"))


@pytest.fixture
def config(toy_config: Callable[..., ConfigDict]) -> ConfigDict:
    """The config of the toy study."""
    return toy_config(STAGES, OPTIMIZERS, study__seeds=2, train__epochs=3)


def predicted_as_stored(folder: Path, config: ConfigDict, trial: str) -> np.ndarray:
    """Each classifier predicts what the study stored for its held-out images; returns all predictions."""
    dataset, opened = results.open_records(config), open_ensemble(folder, trial)
    found = np.concatenate([block.probabilities for block in opened.predict(dataset)], axis=1)
    rows = {record.path: row for row, record in enumerate(dataset.records)}
    table = pandas.read_csv(folder / "trials" / trial / "predictions.csv")
    assert len(table) == len(rows) * config.study.seeds * config.split.repeats
    for number, place in enumerate(opened.heads):
        held_out = table[(table[["repeat", "fold", "seed"]] == np.array(place)).all(axis=1)]
        expected = held_out[["prob_hem", "prob_all"]]
        np.testing.assert_allclose(found[number, held_out["path"].map(rows)], expected, atol=1e-4)
    return found


def change_json(path: Path, **changes: object) -> None:
    """Changes a file and its entry in checksums.json, as a prepared folder has it."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    workdir.record(path.parent, [path.name])
