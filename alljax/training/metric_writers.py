"""What a run says while it learns: metrics.jsonl always, TensorBoard and others where they are asked for."""

import contextlib
import importlib
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from alljax.errors import ConfigError, WorkdirError
from alljax.files import write_text

LOGGERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""The choices of ``train.loggers``, and the package each needs."""


def check(loggers: Sequence[str]) -> None:
    """Looks whether the loggers are known and installed.

    Raises:
        ConfigError: one is not.
    """
    for name in loggers:
        if name not in LOGGERS:
            raise ConfigError(f"train.loggers names {name!r}; known are {', '.join(LOGGERS)}")
        if importlib.util.find_spec(LOGGERS[name]) is None:
            raise ConfigError(f"train.loggers names {name}, which is not installed: pip install {LOGGERS[name]}")


Logger = tuple[Callable[[int, Mapping[str, float]], None], Callable[[], Any]]
"""What writes the numbers of a step, and what ends it."""


class Logs:
    """Writes numbers of a step to every logger; a resumed run loses and repeats none in metrics.jsonl."""

    def __init__(self, folder: Path, loggers: Sequence[str], step: int, config: Mapping[str, Any]) -> None:
        """Opens the logs of one run; of several processes only the first has any.

        Args:
            folder: of the run.
            loggers: from ``train.loggers``, in addition to metrics.jsonl.
            step: steps done before; what was logged beyond them is dropped, it will come again.
            config: flattened, for those loggers that show it.

        Raises:
            WorkdirError: the folder cannot be written.
            ConfigError: a logger refuses.
        """
        self._folder = folder
        openers = {"jsonl": _jsonl, "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
        with contextlib.ExitStack() as opened, _told(folder):
            self._loggers: list[Logger] = []
            for name in ("jsonl", *loggers) if jax.process_index() == 0 else ():
                self._loggers.append(openers[name](folder, step, config))
                opened.callback(self._loggers[-1][1])
            self._opened = opened.pop_all()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of a step.

        Raises:
            WorkdirError: the disk is full.
        """
        with _told(self._folder):
            for log, _ in self._loggers:
                log(step, numbers)

    def close(self) -> None:
        """Ends all loggers.

        Raises:
            WorkdirError: the disk is full.
        """
        with _told(self._folder):
            self._opened.close()


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkdirError(f"cannot write the logs in {folder}: {error.strerror or error}; free space") from error


def _jsonl(folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
    del config
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in map(_read, lines) if line and line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    file = path.open("a", encoding="utf-8")

    def log(step: int, numbers: Mapping[str, float]) -> None:
        file.write(json.dumps({"step": step, **numbers}) + "\n")
        file.flush()
        os.fsync(file.fileno())  # a checkpoint that outlives this host expects the lines before it

    return log, file.close


def _read(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # cut off by a kill
        return None


def _tensorboard(folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
    """Writes at once: tensorboardX's own SummaryWriter leaves it to a thread, and hangs when the disk is full."""
    del config
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

    (folder / "tensorboard").mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(str(folder / "tensorboard" / "events"), f".{time.time_ns()}")  # no name twice a second

    def write(step: int, **content: Any) -> None:
        writer.write_event(Event(step=step, wall_time=time.time(), **content))
        writer.flush()

    def log(step: int, numbers: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        write(step, summary=Summary(value=values))

    write(step + 1, session_log=SessionLog(status=SessionLog.START))  # what was shown from there on is taken back
    return log, writer.close


def _wandb(folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
    del step
    wandb = importlib.import_module("wandb")
    with _agreed("wandb"):
        run = wandb.init(
            project="alljax", name=_name(folder), dir=str(folder), id=_known(folder, "wandb"), resume="allow",
            config=dict(config),
        )  # fmt: skip
    write_text(folder / "wandb.id", run.id)
    return lambda step, numbers: run.log(dict(numbers), step=step), run.finish


def _mlflow(folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
    del step
    mlflow = importlib.import_module("mlflow")
    with _agreed("mlflow"):
        mlflow.set_experiment("alljax")
        run = mlflow.start_run(run_id=_known(folder, "mlflow"), run_name=_name(folder))
        mlflow.log_dict(dict(config), "config.json")
    write_text(folder / "mlflow.id", run.info.run_id)
    return lambda step, numbers: mlflow.log_metrics(dict(numbers), step=step), mlflow.end_run


def _known(folder: Path, logger: str) -> str | None:
    """Returns under which id a logger knows this run, so that it goes on in its own curves; None for a new one."""
    path = folder / f"{logger}.id"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


@contextlib.contextmanager
def _agreed(logger: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each has exceptions of its own, for a missing login or server
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"train.loggers: {logger} refuses ({reason}); mend it, or leave it out") from error


def _name(folder: Path) -> str:
    """Returns the study's folder, the cell and the run in one word."""
    parts = folder.resolve().parts
    return "-".join((parts[-5], parts[-3], parts[-1]))


@contextlib.contextmanager
def profiler(steps: int, start: int, folder: Path) -> Iterator[Callable[[int, Any], None]]:
    """Yields what is told of each step and the state before it.

    The trace begins after two steps, the first of which is compiled, and holds `steps` of them.
    """

    def trace(step: int, state: Any) -> None:
        if steps and step in (start + 2, start + 2 + steps):
            jax.block_until_ready(state)  # steps run behind the loop that asks for them
            if step == start + 2:
                jax.profiler.start_trace(str(folder / "profile"))
            else:
                jax.profiler.stop_trace()

    try:
        yield trace
    finally:
        if steps:
            with contextlib.suppress(RuntimeError):  # it ended before
                jax.profiler.stop_trace()
