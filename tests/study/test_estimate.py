from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict

from alljax.errors import Problems
from alljax.study import estimate
from alljax.study.run import dry_run

GROUPS = ("head/.*", 1.0), ("backbone/stage1/.*", 0.1, 1.0, 5), ("backbone/stem/.*", 0.0)


def test_plan_is_printed_and_nothing_is_written(
    toy_config: Callable[..., ConfigDict], toy_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = toy_config(("train.optimizer", ("adam", "rmsprop")), ("train.epochs", (2, 4)))
    dry_run(config, tmp_path / "new", (1, 2), False, Problems())
    assert not (tmp_path / "new").exists()
    plan = capsys.readouterr().out
    assert "4 trials in 2 trainings" in plan
    assert "2 of them would be trained now" in plan
    assert "  efficientnet_lite0-rmsprop-epochs=2 and 1 more: 2 trials, 2, 4 epochs, about " in plan
    stages = ("model.stage", ("stem", "stage1")), ("train.optimizer", ("adam", "rmsprop"))
    dry_run(toy_config(*stages, study__seeds=2, train__epochs=3), toy_study, (0, 1), False, Problems())
    assert "0 of them would be trained now" in capsys.readouterr().out


def test_time_of_fine_tuning(
    toy_config: Callable[..., ConfigDict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 7 bytes")

    config = toy_config(train__epochs=10, train__mode="finetune", train__groups=GROUPS)
    monkeypatch.setattr(estimate, "_measure", lambda steps: (4.0, 1.0))  # 4 s to compile; steps of 1 s
    dry_run(config, tmp_path, (0, 1), False, Problems())
    # 10 epochs × 2 folds × 2 batches × (1 s + 1/3 s)
    assert "efficientnet_lite0-adam: 1 trial, 10 epochs, about 57 s" in capsys.readouterr().out
    monkeypatch.setattr(estimate, "_measure", fail)
    dry_run(config, tmp_path, (0, 1), False, Problems())
    assert "efficientnet_lite0-adam: device error: RESOURCE_EXHAUSTED: Out of memory\n" in capsys.readouterr().out
