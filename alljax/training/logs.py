"""What a run says while it learns: metrics.jsonl always, TensorBoard and others where they are asked for."""

import contextlib
import importlib
import importlib.util
import json
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


class Logs:
    """Writes numbers of a step to every logger; a resumed run loses and repeats none in metrics.jsonl."""

    def __init__(self, folder: Path, loggers: Sequence[str], step: int, config: Mapping[str, Any]) -> None:
        """Opens the logs of one run.

        Args:
            folder: of the run.
            loggers: from ``train.loggers``.
            step: steps done before; what was logged beyond them is dropped, it will come again.
            config: flattened, for those loggers that show it.

        Raises:
            WorkdirError: the folder cannot be written.
        """
        self._path = folder / "metrics.jsonl"
        kept = []
        if self._path.is_file():
            kept = [line for line in map(_read, self._path.read_text(encoding="utf-8").splitlines()) if line]
        kept = [line for line in kept if line["step"] <= step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self._path.open("a", encoding="utf-8")
        openers = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
        self._others = [openers[name](folder, step, config) for name in loggers]

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of a step.

        Raises:
            WorkdirError: the disk is full.
        """
        try:
            self._file.write(json.dumps({"step": step, **numbers}) + "\n")
            self._file.flush()
            for log, _ in self._others:
                log(step, numbers)
        except OSError as error:
            raise WorkdirError(f"cannot write {self._path}: {error.strerror or error}; free space") from error

    def close(self) -> None:
        """Ends all loggers."""
        self._file.close()
        for _, close in self._others:
            close()


Logger = tuple[Callable[[int, Mapping[str, float]], None], Callable[[], Any]]
"""What writes the numbers of a step, and what ends it."""


def _read(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # cut off by a kill
        return None


def _tensorboard(folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
    del config
    writer = importlib.import_module("tensorboardX").SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            writer.add_scalar(name, number, step)

    return log, writer.close


def _wandb(folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
    del step
    wandb = importlib.import_module("wandb")
    # One name a run, so that a resumed run goes on in its own curves.
    run = wandb.init(project="alljax", dir=str(folder), id=_name(folder), resume="allow", config=dict(config))
    return lambda step, numbers: run.log(dict(numbers), step=step), run.finish


def _mlflow(folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
    del step
    mlflow = importlib.import_module("mlflow")
    mlflow.set_experiment("alljax")
    mlflow.start_run(run_name=_name(folder))
    mlflow.log_params({key: str(value) for key, value in config.items()})
    return lambda step, numbers: mlflow.log_metrics(dict(numbers), step=step), mlflow.end_run


def _name(folder: Path) -> str:
    return "-".join(folder.resolve().parts[-4:]).replace("/", "-")


@contextlib.contextmanager
def profiler(steps: int, start: int, folder: Path) -> Iterator[Callable[[int], None]]:
    """Yields what is told of each step; writes a trace of `steps` of them after the first two, which compile."""

    def trace(step: int) -> None:
        if steps and step == start + 2:
            jax.profiler.start_trace(str(folder / "profile"))
        if steps and step == start + 2 + steps:
            jax.profiler.stop_trace()

    yield trace
    if steps:
        with contextlib.suppress(RuntimeError):  # it ended before
            jax.profiler.stop_trace()
