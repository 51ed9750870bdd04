import json
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from study.conftest import TRIAL

from alljax.study import results, workdir
from alljax.study.results import find_unchanged


def test_any_change_opens_the_study(
    config: ConfigDict, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_unchanged(config, tmp_path) is None, "no study"
    study = find_unchanged(config, copy)
    assert study is not None
    assert len(study.metrics["trials"]) == 4
    for module, name in ((results, "source_state"), (results.store, "digest")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda changed: "other files")
            assert find_unchanged(config, copy) is None
    trials = json.loads((copy / "trials.json").read_text())
    for trial in trials:
        del trial["config"]["evaluation.metrics"]
    workdir.write_study(copy, {"trials.json": trials})
    assert find_unchanged(config, copy) is not None, "a setting that is newer than the study has its default"
    (copy / "trials" / TRIAL / "metrics.json").unlink()
    assert find_unchanged(config, copy) is None, "a trial was removed"
    config.train.learning_rate = 0.5
    assert find_unchanged(config, copy) is None


def test_recognition_imports_no_heavy_library() -> None:
    heavy = {"jax", "flax", "orbax", "pandas", "sklearn", "scipy", "matplotlib", "tensorflow_datasets"}
    code = f"import sys; from alljax.study import results; print(*sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
