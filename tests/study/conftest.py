"""Copies of the toy study that a test may change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from alljax.study import workdir

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


def change_json(path: Path, **changes: object) -> None:
    """Changes a file and its entry in checksums.json, as a prepared folder has it."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    workdir.record(path.parent, [path.name])
