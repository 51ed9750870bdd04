import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from alljax.study import restart, run
from alljax.study.restart import find_or_run, find_unchanged
from alljax.study.results import Study

SWEEP = ("model.stage", ("stem", "stage1")), ("train.optimizer", ("adam", "rmsprop"))


@pytest.fixture
def config(toy_config: Callable[..., ConfigDict]) -> ConfigDict:
    return toy_config(*SWEEP, study__seeds=2, train__epochs=3)


def test_unchanged_study_is_not_opened(config: ConfigDict, toy_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run_study", lambda *arguments: pytest.fail("the study was opened"))
    study = find_or_run(config, toy_study, (0, 1), False, False, lambda study: None)
    assert isinstance(study, Study)
    assert len(study.metrics["trials"]) == 4


def test_any_change_opens_the_study(
    config: ConfigDict, toy_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_unchanged(config, tmp_path) is None, "no study"
    copy = Path(shutil.copytree(toy_study, tmp_path / "study"))
    assert find_unchanged(config, copy) is not None
    (copy / "trials" / "efficientnet_lite0-adam-stage=stem" / "metrics.json").unlink()
    assert find_unchanged(config, copy) is None, "a trial was removed"
    with monkeypatch.context() as patch:
        patch.setattr(restart, "source_state", lambda trials: "other files")
        assert find_unchanged(config, toy_study) is None
    with monkeypatch.context() as patch:
        patch.setattr(restart.store, "digest", lambda path: "other weights")
        assert find_unchanged(config, toy_study) is None
    config.train.learning_rate = 0.5
    assert find_unchanged(config, toy_study) is None


def test_recognition_imports_no_heavy_library() -> None:
    heavy = {"jax", "flax", "orbax", "pandas", "sklearn", "scipy", "matplotlib", "tensorflow_datasets", "grain"}
    code = f"import sys; from alljax.study import restart; print(*sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
