"""Several processes on this machine, as several hosts would be."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from alljax.training import checkpoints

ROOT = Path(__file__).resolve().parents[2]
# With Adam, tiny gradients would turn rounding differences into different steps.
TOY = [
    f"--config={ROOT / 'configs/finetune.py'}:toy", "--config.train.optimizer=sgd", "--config.train.learning_rate=0.01",
    "--config.train.epochs=2", "--config.evaluation.resamples=100",
]  # fmt: skip
TRIAL = "trials/efficientnet_lite0-sgd"
SCHEDULERS = ("SLURM_", "OMPI_", "PMIX_", "JAX_COORDINATOR", "JAX_NUM", "JAX_PROCESS", "JOB_COMPLETION")

PATIENCE = 600.0
"""Seconds after which a test fails because nothing happens."""

Start = Callable[..., "subprocess.Popen[str]"]


def environment(devices: int = 2, **more: str) -> dict[str, str]:
    """Returns an environment without schedulers, with this Python's `alljax` on the PATH."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SCHEDULERS)}
    return clean | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        **more,
    }


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def wait_for(condition: Callable[[], bool], *processes: "subprocess.Popen[str]") -> None:
    """Waits for a condition; fails with the output of the processes if one ends first."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert all(process.poll() is None for process in processes), [each.communicate() for each in processes]
        assert time.monotonic() < end
        time.sleep(0.1)


def wait_for_checkpoint(folder: Path, *processes: "subprocess.Popen[str]") -> None:
    wait_for(lambda: any((folder / TRIAL).glob("runs/*/checkpoints/checksums.json")), *processes)


def assert_same_network(first: Path, second: Path) -> None:
    trees = [checkpoints.load(folder / TRIAL / "checkpoint") for folder in (first, second)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *trees)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `alljax study` with the toy; none of the processes survives the test."""
    processes: list[subprocess.Popen[str]] = []

    def run(folder: Path, *words: str, devices: int = 2, **more: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "alljax.cli", "study", *TOY, f"--workdir={folder}", *words]
        pipe = subprocess.PIPE
        processes.append(
            subprocess.Popen(command, env=environment(devices, **more), stdout=pipe, stderr=pipe, text=True)
        )
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        with process:  # waits and closes its pipes
            pass


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy of one process with four devices."""
    folder = tmp_path_factory.mktemp("single")
    command = [sys.executable, "-m", "alljax.cli", "study", *TOY, f"--workdir={folder}"]
    done = subprocess.run(command, env=environment(devices=4), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder
