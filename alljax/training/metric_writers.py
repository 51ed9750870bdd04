"""Metrics during training: metrics.jsonl always, TensorBoard, Weights & Biases and MLflow on request."""

import contextlib
import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from alljax.errors import ConfigError
from alljax.files import write_error, write_text

LOGGERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""The choices of ``train.loggers`` and the package that each needs."""

Logger = tuple[Callable[[int, Mapping[str, float]], Any], Callable[[], Any]]
"""Functions that write the metrics of a step and that close the log."""


def check(loggers: Sequence[str]) -> None:
    """Raises `ConfigError` if a logger is unknown or not installed."""
    for name in loggers:
        if name not in LOGGERS:
            raise ConfigError(f"train.loggers contains {name!r}; choices are {', '.join(LOGGERS)}")
        if importlib.util.find_spec(LOGGERS[name]) is None:
            raise ConfigError(f"train.loggers contains {name}, which is not installed: pip install {LOGGERS[name]}")


class MetricWriter:
    """Writes the metrics of training steps to all loggers; only the primary process writes.

    A resumed run continues its own curves: what was logged after its checkpoint is discarded.
    """

    def __init__(self, folder: Path, loggers: Sequence[str], step: int, config: Mapping[str, Any]) -> None:
        """Opens the logs of one training run.

        Args:
            folder: folder of the run.
            loggers: ``train.loggers``.
            step: number of steps before this start; 0 for a new run.
            config: the flattened config, shown by some loggers.

        Raises:
            WorkdirError: the folder cannot be written.
            ConfigError: a service refuses, for example without a login.
        """
        self._folder, self._writers = folder, list[Callable[[int, Mapping[str, float]], Any]]()
        openers = {"jsonl": _jsonl, "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
        with self._errors(), contextlib.ExitStack() as stack:
            for name in ("jsonl", *loggers) if jax.process_index() == 0 else ():
                write, close = openers[name](folder, step, dict(config))
                self._writers.append(write)
                stack.callback(close)
            self._closers = stack.pop_all()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics of a step.

        Raises:
            WorkdirError: the disk is full.
        """
        with self._errors():
            for write in self._writers:
                write(step, metrics)

    def close(self) -> None:
        """Closes all loggers.

        Raises:
            WorkdirError: the disk is full.
        """
        with self._errors():
            self._closers.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self._folder, error) from error


def _jsonl(folder: Path, step: int, config: dict[str, Any]) -> Logger:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    write_text(path, "".join(f"{line}\n" for line in lines if _step(line) <= step))
    file = path.open("a", encoding="utf-8")

    def write(step: int, metrics: Mapping[str, float]) -> None:
        file.write(json.dumps({"step": step, **metrics}) + "\n")
        file.flush()
        os.fsync(file.fileno())  # a resumed run expects the lines before its checkpoint, also after a power failure

    return write, file.close


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except ValueError:  # truncated by a kill
        return float("inf")


def _tensorboard(folder: Path, step: int, config: dict[str, Any]) -> Logger:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, filename_suffix=f".{step}")

    def write(step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write, writer.close


def _wandb(folder: Path, step: int, config: dict[str, Any]) -> Logger:
    wandb = importlib.import_module("wandb")
    with _service("wandb"):
        run = wandb.init(
            project="alljax", name=_name(folder), dir=folder, id=_run_id(folder, "wandb"), resume="allow", config=config
        )
    write_text(folder / "wandb.id", run.id)
    return lambda step, metrics: run.log(dict(metrics), step=step), run.finish


def _mlflow(folder: Path, step: int, config: dict[str, Any]) -> Logger:
    mlflow = importlib.import_module("mlflow")
    with _service("mlflow"):
        mlflow.set_experiment("alljax")
        run = mlflow.start_run(run_id=_run_id(folder, "mlflow"), run_name=_name(folder))
        mlflow.log_dict(config, "config.json")
    write_text(folder / "mlflow.id", run.info.run_id)
    return lambda step, metrics: mlflow.log_metrics(dict(metrics), step=step), mlflow.end_run


def _run_id(folder: Path, logger: str) -> str | None:
    """Returns the id under which a service knows this run, or None for a new run."""
    path = folder / f"{logger}.id"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _name(folder: Path) -> str:
    """Returns the names of the study, the trial and the run: folder is STUDY/trials/TRIAL/runs/RUN."""
    parts = folder.resolve().parts
    return "-".join((parts[-5], parts[-3], parts[-1]))


@contextlib.contextmanager
def _service(logger: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the services have many exceptions for a missing login or server
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"train.loggers: {logger} refuses ({reason}); fix it or remove the logger") from error


@contextlib.contextmanager
def profiler(steps: int, start: int, folder: Path) -> Iterator[Callable[[int, Any], None]]:
    """Yields a function that is called with each step's number and state and records a trace of `steps` steps.

    The trace begins after two steps, because the first one is compiled.
    """

    def trace(step: int, state: Any) -> None:
        if steps and step in (start + 2, start + 2 + steps):
            jax.block_until_ready(state)  # steps are dispatched asynchronously
            if step == start + 2:
                jax.profiler.start_trace(str(folder / "profile"))
            else:
                jax.profiler.stop_trace()

    try:
        yield trace
    finally:
        if steps:
            with contextlib.suppress(RuntimeError):  # already stopped
                jax.profiler.stop_trace()
