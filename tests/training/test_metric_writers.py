"""What a run says while it learns is complete, once, and never the reason that it hangs."""

import contextlib
import importlib.util
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from training.small_run import STEPS, Interrupted, Run, after, compiled_once, settings, small_network

from alljax.cli import main
from alljax.errors import ConfigError, WorkdirError
from alljax.training import metric_writers

REPOSITORY = Path(__file__).resolve().parents[2]
NUMBERS = {"loss": 0.5, "accuracy": 0.25}


def lines(folder: Path) -> list[dict[str, float]]:
    """Returns what was logged, but for the images per second."""
    read = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in read]


def curves(folder: Path) -> dict[tuple[int, str], float]:
    """Reads the TensorBoard files as TensorBoard does: what a new session takes back does not count."""
    shown: dict[tuple[int, str], float] = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4
            if event.session_log.status == SessionLog.START:
                shown = {key: number for key, number in shown.items() if key[0] < event.step}
            shown |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
    return shown


def test_a_run_that_was_interrupted_logs_what_one_that_was_not_logs(tmp_path: Path) -> None:
    """Neither gap nor repeat, in metrics.jsonl and TensorBoard, with steps logged that no checkpoint holds."""
    config = settings(loggers=("tensorboard",), checkpoint_steps=4, log_steps=1, keep_best=0)
    with compiled_once(tmp_path / "compiled"):
        network = small_network()
        Run(config, network, tmp_path / "whole").train()
        for steps in (3, 3, 5):  # 3 steps, lost; 3 steps, lost; 5 steps, 4 of them saved
            with pytest.raises(Interrupted):
                Run(config, network, tmp_path / "parts").train(after(steps))
        with (tmp_path / "parts/metrics.jsonl").open("a") as file:
            file.write('{"step": 6, "lo')  # cut off by a kill
        Run(config, network, tmp_path / "parts").train()
    whole = lines(tmp_path / "whole")
    assert lines(tmp_path / "parts") == whole
    assert [line["step"] for line in whole if "loss" in line] == list(range(1, 4 * STEPS + 1))
    assert [line["step"] for line in whole if "val_loss" in line] == [STEPS * epoch for epoch in range(1, 5)]
    expected = {
        (int(line["step"]), name): pytest.approx(line[name], rel=1e-6)
        for line in whole
        for name in line
        if name != "step"
    }
    for folder in ("whole", "parts"):
        found = {key: number for key, number in curves(tmp_path / folder).items() if key[1] != "images_per_second"}
        assert found == expected


def test_lines_are_on_disk_at_once(tmp_path: Path) -> None:
    log = metric_writers.Logs(tmp_path, ("tensorboard",), 0, {})
    log.write(2, NUMBERS)
    assert lines(tmp_path) == [{"step": 2, **NUMBERS}]
    assert curves(tmp_path) == {(2, "loss"): 0.5, (2, "accuracy"): 0.25}
    log.close()


def test_only_the_first_process_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    log = metric_writers.Logs(tmp_path, ("tensorboard",), 0, {})
    log.write(2, NUMBERS)
    log.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("moment", ["open", "write", "close"])
def test_a_full_disk_is_one_line(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    def fine(*arguments: object) -> None:
        pass

    def opened(*arguments: object) -> tuple[Callable[..., None], Callable[..., None]]:
        return (full if moment == "write" else fine), (full if moment == "close" else fine)

    monkeypatch.setattr(metric_writers, "_tensorboard", full if moment == "open" else opened)

    def use() -> None:
        with contextlib.closing(metric_writers.Logs(tmp_path, ("tensorboard",), 0, {})) as log:
            log.write(1, NUMBERS)

    with pytest.raises(WorkdirError, match=f"cannot write the logs in {tmp_path}: No space left on device"):
        use()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told before anything is read or written."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each, *more: None if each == name else find(each, *more))
    toy = f"--config={REPOSITORY / 'configs/finetune.py'}:toy"
    assert main(["train", toy, f"--workdir={tmp_path / 'run'}", f"--config.train.loggers={name}"]) == 2
    said = capsys.readouterr()
    assert said.err == f"alljax: train.loggers names {name}, which is not installed: pip install {name}\n"
    assert not said.out
    assert not (tmp_path / "run").exists()


def test_a_logger_nobody_knows() -> None:
    with pytest.raises(ConfigError, match="'tensorbord'; known are tensorboard, wandb, mlflow"):
        metric_writers.check(["tensorbord"])


class Service:
    """Stands for Weights & Biases or MLflow: takes their calls and keeps them."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.numbers: list[tuple[int | None, dict[str, float]]] = []
        self.ended = 0

    def wandb(self) -> ModuleType:
        module = ModuleType("wandb")
        module.init = self._init  # type: ignore[attr-defined]
        return module

    def _init(self, **settings: Any) -> SimpleNamespace:
        self.started.append(settings)
        return SimpleNamespace(id=settings["id"] or "drawn", log=self._log, finish=self._end)

    def mlflow(self) -> ModuleType:
        module = ModuleType("mlflow")
        module.set_experiment = lambda name: None  # type: ignore[attr-defined]
        module.start_run = self._start  # type: ignore[attr-defined]
        module.log_dict = lambda values, name: None  # type: ignore[attr-defined]
        module.log_metrics = self._log  # type: ignore[attr-defined]
        module.end_run = self._end  # type: ignore[attr-defined]
        return module

    def _start(self, run_id: str | None, run_name: str) -> SimpleNamespace:
        self.started.append({"id": run_id, "name": run_name})
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "drawn"))

    def _log(self, numbers: dict[str, float], step: int | None = None) -> None:
        self.numbers.append((step, numbers))

    def _end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_resumed_run_goes_on_in_its_own_curves(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, folder = Service(), tmp_path / "study/cells/cell/runs/0-0-0"
    folder.mkdir(parents=True)
    monkeypatch.setitem(sys.modules, name, getattr(service, name)())
    for step in (1, 2):
        log = metric_writers.Logs(folder, (name,), step - 1, {"seed": 0})
        log.write(step, NUMBERS)
        log.close()
    assert [each["id"] for each in service.started] == [None, "drawn"]
    assert {each["name"] for each in service.started} == {"study-cell-0-0-0"}
    assert service.numbers == [(1, NUMBERS), (2, NUMBERS)]
    assert service.ended == 2
    assert [line["step"] for line in lines(folder)] == [1, 2]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_service_that_refuses_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: Any) -> None:
        raise RuntimeError("api_key not configured\n(no-tty). call login")

    service = Service()
    module = getattr(service, name)()
    setattr(module, "init" if name == "wandb" else "start_run", refuse)
    monkeypatch.setitem(sys.modules, name, module)
    refused = rf"train\.loggers: {name} refuses \(api_key not configured \(no-tty\)"
    with pytest.raises(ConfigError, match=refused):
        metric_writers.Logs(tmp_path, (name,), 0, {})
