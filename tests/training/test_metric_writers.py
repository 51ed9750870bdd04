"""Logged metrics are complete, without repeats after a resume, and a logger that fails is one line."""

import errno
import importlib.util
import json
import os
import sys
from pathlib import Path
from unittest.mock import MagicMock, call

import jax
import pytest

from alljax.errors import ConfigError, WorkdirError
from alljax.training.metric_writers import check, open_loggers

METRICS = {"loss": 0.5, "accuracy": 0.25}


def test_resumed_run_has_neither_gaps_nor_repeats(tmp_path: Path) -> None:
    """The first run is killed after step 5, the last checkpoint was step 3."""
    for start, steps, loss in ((0, range(1, 6), 9.0), (3, range(4, 8), 1.0)):
        with open_loggers(tmp_path, ("tensorboard",), start, {}) as write:
            for step in steps:
                write(step, {"loss": loss})
                assert f'"step": {step}, "loss"' in (tmp_path / "metrics.jsonl").read_text(), "on disk at once"
        if not start:
            with (tmp_path / "metrics.jsonl").open("a") as file:
                file.write('{"step": 6, "lo')
    expected = {step: 9.0 if step <= 3 else 1.0 for step in range(1, 8)}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"]: line["loss"] for line in lines} == expected
    assert len(lines) == 7
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_only_the_primary_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with open_loggers(tmp_path, ("tensorboard",), 0, {}) as write:
        write(2, METRICS)
    assert not list(tmp_path.iterdir())


def test_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_loggers(tmp_path, ("tensorboard",), 0, {}) as write, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkdirError, match=f"cannot write {tmp_path}: No space"):
            write(1, METRICS)


def test_missing_logger_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="wandb, which is not installed: pip install 'alljax.wandb.'"):
        check(["wandb"])


def make_service(name: str) -> tuple[MagicMock, MagicMock, MagicMock]:
    """Returns a stand-in for the module wandb or mlflow, its function that opens a run, and the one that logs."""
    service = MagicMock()
    service.init.return_value.id = service.start_run.return_value.info.run_id = "new"
    wandb = service.init, service.init.return_value.log
    return service, *(wandb if name == "wandb" else (service.start_run, service.log_metrics))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_resumed_run_continues_its_curves_in_a_service(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (service, opens, logs), folder = make_service(name), tmp_path / "study/trials/trial/runs/0-0-0"
    folder.mkdir(parents=True)
    monkeypatch.setitem(sys.modules, name, service)
    for step in (1, 2):
        with open_loggers(folder, (name,), step - 1, {"seed": 0}) as write:
            write(step, METRICS)
    assert [done.kwargs["id" if name == "wandb" else "run_id"] for done in opens.call_args_list] == [None, "new"]
    assert logs.call_args_list == [call(METRICS, step=1), call(METRICS, step=2)]
    assert opens.return_value.__exit__.call_count == 2


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_service_that_refuses_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, opens, _ = make_service(name)
    opens.side_effect = RuntimeError("api_key not configured\n(no-tty). call login")
    monkeypatch.setitem(sys.modules, name, service)
    with (
        pytest.raises(ConfigError, match=rf"{name} refuses \(api_key not configured \(no-tty\)\. call login\)"),
        open_loggers(tmp_path, (name,), 0, {}),
    ):
        pass
