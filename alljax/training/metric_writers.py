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

Write = Callable[[int, Mapping[str, float]], Any]
"""Logs the metrics of a step."""


def check(loggers: Sequence[str]) -> None:
    """Raises `ConfigError` if a logger is unknown or not installed."""
    for name in loggers:
        if name not in LOGGERS:
            raise ConfigError(f"train.loggers contains {name!r}; choices are {', '.join(LOGGERS)}")
        if importlib.util.find_spec(LOGGERS[name]) is None:
            raise ConfigError(f"train.loggers contains {name}, which is not installed: pip install {LOGGERS[name]}")


@contextlib.contextmanager
def open_loggers(folder: Path, loggers: Sequence[str], step: int, config: Mapping[str, Any]) -> Iterator[Write]:
    """Yields a function that writes the metrics of a step to all loggers; only the primary process writes.

    A resumed run continues its own curves: what was logged after its checkpoint is discarded.

    Args:
        folder: folder of the run.
        loggers: ``train.loggers``.
        step: number of steps before this start; 0 for a new run.
        config: the flattened config, shown by some loggers.

    Raises:
        WorkdirError: the folder cannot be written, also later, when the disk is full.
        ConfigError: a service refuses, for example without a login.
    """
    names = ("jsonl", *loggers) if jax.process_index() == 0 else ()
    with contextlib.ExitStack() as stack:
        with _write_errors(folder):
            writers = [stack.enter_context(OPENERS[name](folder, step, dict(config))) for name in names]

        def write(step: int, metrics: Mapping[str, float]) -> None:
            with _write_errors(folder):
                for write_to_one in writers:
                    write_to_one(step, metrics)

        yield write


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(folder, error) from error


@contextlib.contextmanager
def _jsonl(folder: Path, step: int, config: dict[str, Any]) -> Iterator[Write]:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    complete = [line for line in lines if line.endswith("}")]  # a kill may have truncated the last one
    write_text(path, "".join(f"{line}\n" for line in complete if json.loads(line)["step"] <= step))
    with path.open("a", encoding="utf-8") as file:

        def write(step: int, metrics: Mapping[str, float]) -> None:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a resumed run expects the lines before its checkpoint, also after a power failure

        yield write


@contextlib.contextmanager
def _tensorboard(folder: Path, step: int, config: dict[str, Any]) -> Iterator[Write]:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, filename_suffix=f".{step}") as writer:

        def write(step: int, metrics: Mapping[str, float]) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        yield write


@contextlib.contextmanager
def _wandb(folder: Path, step: int, config: dict[str, Any]) -> Iterator[Write]:
    wandb = importlib.import_module("wandb")
    with _service("wandb", folder) as (name, id):
        run = wandb.init(project="alljax", name=name, dir=folder, id=id, resume="allow", config=config)
    write_text(folder / "wandb.id", run.id)
    with run:
        yield lambda step, metrics: run.log(dict(metrics), step=step)


@contextlib.contextmanager
def _mlflow(folder: Path, step: int, config: dict[str, Any]) -> Iterator[Write]:
    mlflow = importlib.import_module("mlflow")
    with _service("mlflow", folder) as (name, id):
        mlflow.set_experiment("alljax")
        run = mlflow.start_run(run_id=id, run_name=name)
        mlflow.log_dict(config, "config.json")
    write_text(folder / "mlflow.id", run.info.run_id)
    with run:
        yield lambda step, metrics: mlflow.log_metrics(dict(metrics), step=step)


OPENERS = {"jsonl": _jsonl, "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


@contextlib.contextmanager
def _service(logger: str, folder: Path) -> Iterator[tuple[str, str | None]]:
    """Yields the name of a run in a service and the id under which the service knows it, None for a new run."""
    path, parts = folder / f"{logger}.id", folder.resolve().parts  # STUDY/trials/TRIAL/runs/RUN
    try:
        yield "-".join((parts[-5], parts[-3], parts[-1])), path.read_text().strip() if path.is_file() else None
    except Exception as error:  # the services have many exceptions for a missing login or server
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"train.loggers: {logger} refuses ({reason}); fix it or remove the logger") from error


@contextlib.contextmanager
def profiler(steps: int, start: int, folder: Path) -> Iterator[Callable[[int, Any], None]]:
    """Yields a function that is called with each step's number and state and records a trace of `steps` steps.

    The trace begins after two steps, because the first one is compiled.
    """
    first = start + 2 if steps else -1
    with contextlib.ExitStack() as stack:

        def trace(step: int, state: Any) -> None:
            if step in (first, first + steps):
                jax.block_until_ready(state)  # steps are dispatched asynchronously
                stack.close()
            if step == first:
                stack.enter_context(jax.profiler.trace(str(folder / "profile")))

        yield trace
