"""`alljax study` as two processes of two devices each, against one process of four."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from multihost.several import ALLJAX, REPOSITORY, Several, finish, flags, free_port

from alljax.training import checkpoint

# Adam divides by the size of a gradient: where there is next to none, it makes steps of rounding errors.
TOY = [
    f"--config={REPOSITORY / 'configs/finetune.py'}:toy",
    "--config.train.optimizer=sgd",
    "--config.train.learning_rate=0.01",
    "--config.evaluation.resamples=100",
]
CELL = "cells/efficientnet_lite0-sgd"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Lets the processes of these tests share what JAX compiles."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def begin(
    several: Several, folder: Path, arguments: Sequence[str], **environment: str
) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    port = free_port()
    command = [*ALLJAX, "study", *TOY, f"--workdir={folder}", *arguments]
    first, second = (several.start([*command, *flags(port, 2, index)], **environment) for index in range(2))
    return first, second


def wait_for_checkpoint(folder: Path, *processes: subprocess.Popen[str]) -> None:
    while not list((folder / CELL).glob("runs/*/checkpoints/*.sha256")):
        assert all(process.poll() is None for process in processes), finish(*processes)
        time.sleep(0.1)


def assert_same_network(one: Path, other: Path) -> None:
    trees = [checkpoint.load(folder / CELL / "checkpoint") for folder in (one, other)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *trees)


def test_two_processes_learn_what_one_does(several: Several, tmp_path: Path, compiled: dict[str, str]) -> None:
    """And on the way one of them is told to stop: both do, saved after the same step, and go on from there."""
    alone = [*ALLJAX, "study", *TOY, f"--workdir={tmp_path / 'one'}", "--config.train.epochs=3"]
    [(code, _, err)] = finish(several.start(alone, devices=4, **compiled))
    assert code == 0, err

    together, length = tmp_path / "two", ["--config.train.epochs=3"]
    first, second = begin(several, together, length, ALLJAX_STOP_CODE="75", **compiled)
    wait_for_checkpoint(together, first, second)
    second.send_signal(signal.SIGUSR1)
    ends = finish(first, second)
    assert [code for code, _, _ in ends] == [75, 75], ends
    for _, _, err in ends:
        assert "stopped after step" in err.splitlines()[-1]

    ends = finish(*begin(several, together, length, **compiled))
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "goes on after step" in ends[0][1]
    assert ends[1][1] == "", "the second process prints nothing"
    assert_same_network(tmp_path / "one", together)
    for name in ("split.csv", f"{CELL}/history.csv", "report.html"):
        assert (together / name).is_file()
    assert len((together / CELL / "predictions.csv").read_text().splitlines()) == len(
        (tmp_path / "one" / CELL / "predictions.csv").read_text().splitlines()
    )


def test_a_process_that_dies_takes_the_run_with_it(several: Several, tmp_path: Path, compiled: dict[str, str]) -> None:
    first, second = begin(several, tmp_path, ["--config.train.epochs=500"], **compiled)
    wait_for_checkpoint(tmp_path, first, second)
    os.kill(second.pid, signal.SIGKILL)
    [(code, _, err)] = finish(first, timeout=60)
    assert code == 1
    assert err.splitlines()[-1].startswith("alljax: process 1 died or cannot be reached any more"), err
