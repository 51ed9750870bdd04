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
from alljax.files import write_errors, write_text

LOGGERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}  # ``train.loggers`` and its package
Write = Callable[[int, Mapping[str, float]], Any]  # step and its metrics


def check(loggers: Sequence[str]) -> None:
    """Raises `ConfigError` if a logger is not installed."""
    for name in loggers:
        if importlib.util.find_spec(LOGGERS[name]) is None:
            raise ConfigError(f"train.loggers contains {name}, which is not installed: pip install 'alljax[{name}]'")


@contextlib.contextmanager
def open_loggers(folder: Path, loggers: Sequence[str], step: int, config: dict[str, Any]) -> Iterator[Write]:
    """Yields a function that writes the metrics of a step to all loggers; what was logged after `step` is discarded."""
    writers: list[Write] = []
    with contextlib.ExitStack() as stack:
        with write_errors(folder):
            if jax.process_index() == 0:
                writers.append(stack.enter_context(_jsonl(folder, step)))
                for name in loggers:
                    opened = _tensorboard(folder, step) if name == "tensorboard" else _service(name, folder, config)
                    writers.append(stack.enter_context(opened))

        def write(step: int, metrics: Mapping[str, float]) -> None:
            with write_errors(folder):
                for write_to_one in writers:
                    write_to_one(step, metrics)

        yield write


@contextlib.contextmanager
def _jsonl(folder: Path, step: int) -> Iterator[Write]:
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
def _tensorboard(folder: Path, step: int) -> Iterator[Write]:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, filename_suffix=f".{step}") as writer:

        def write(step: int, metrics: Mapping[str, float]) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        yield write


@contextlib.contextmanager
def _service(service: str, folder: Path, config: dict[str, Any]) -> Iterator[Write]:
    """Weights & Biases or MLflow; a file in `folder` has the id of the run in the service, which a resume continues."""
    module, path, parts = importlib.import_module(service), folder / f"{service}.id", folder.resolve().parts
    name = "-".join((parts[-5], parts[-3], parts[-1]))  # STUDY/trials/TRIAL/runs/RUN
    id = path.read_text().strip() if path.is_file() else None
    try:
        if service == "wandb":
            run = module.init(project="alljax", name=name, dir=folder, id=id, resume="allow", config=config)
            write, id = run.log, run.id
        else:
            module.set_experiment("alljax")
            run = module.start_run(run_id=id, run_name=name)
            module.log_dict(config, "config.json")
            write, id = module.log_metrics, run.info.run_id
    except Exception as error:  # the services have many exceptions for a missing login or server
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"train.loggers: {service} refuses ({reason}); fix it or remove the logger") from error
    write_text(path, id)
    with run:
        yield lambda step, metrics: write(dict(metrics), step=step)
