import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from study.conftest import TRIAL

from alljax.study import restart, run
from alljax.study.restart import find_or_run, find_unchanged
from alljax.study.results import Study


def test_unchanged_study_is_not_opened(config: ConfigDict, toy_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run_study", lambda *arguments: pytest.fail("the study was opened"))
    study = find_or_run(config, toy_study, (0, 1), False, False, lambda study: None)
    assert isinstance(study, Study)
    assert len(study.metrics["trials"]) == 4


def test_any_change_opens_the_study(
    config: ConfigDict, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_unchanged(config, tmp_path) is None, "no study"
    assert find_unchanged(config, copy) is not None
    for module, name in ((restart, "source_state"), (restart.store, "digest")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda changed: "other files")
            assert find_unchanged(config, copy) is None
    (copy / "trials" / TRIAL / "metrics.json").unlink()
    assert find_unchanged(config, copy) is None, "a trial was removed"
    config.train.learning_rate = 0.5
    assert find_unchanged(config, copy) is None


def test_recognition_imports_no_heavy_library() -> None:
    heavy = {"jax", "flax", "orbax", "pandas", "sklearn", "scipy", "matplotlib", "tensorflow_datasets", "grain"}
    code = f"import sys; from alljax.study import restart; print(*sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
