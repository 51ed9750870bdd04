"""Several processes on this machine, as several hosts would be."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from alljax.training import checkpoints

REPOSITORY = Path(__file__).resolve().parents[2]
ADDING = [sys.executable, str(REPOSITORY / "tests/multihost/adding.py")]
STUDY = [sys.executable, "-m", "alljax.cli", "study"]
# Adam divides by the size of a gradient: where there is next to none, it makes steps of rounding errors.
TOY = [
    f"--config={REPOSITORY / 'configs/finetune.py'}:toy",
    "--config.train.optimizer=sgd",
    "--config.train.learning_rate=0.01",
    "--config.train.epochs=2",
    "--config.evaluation.resamples=100",
]
CELL = "trials/efficientnet_lite0-sgd"
SCHEDULERS = ("SLURM_", "OMPI_", "PMIX_", "JAX_COORDINATOR", "JAX_NUM", "JAX_PROCESS", "JOB_COMPLETION")


def free_port() -> int:
    with socket.create_server(("", 0)) as taken:
        return taken.getsockname()[1]


def surroundings(devices: int = 2, **more: str) -> dict[str, str]:
    """Returns an environment without schedulers, with that many devices and this Python's `alljax` on the PATH."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SCHEDULERS)}
    return clean | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        **more,
    }


def flags(port: int, count: int, index: int) -> list[str]:
    return [f"--coordinator=localhost:{port}", f"--processes={count}", f"--process={index}"]


class Several:
    """Processes that are started together; to be closed, which kills those that are left."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(self, command: Sequence[str], devices: int = 2, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            env=surroundings(devices, **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()
            with process:  # waits, and closes its pipes
                pass


def finish(*processes: subprocess.Popen[str], timeout: float = 300) -> list[tuple[int, str, str]]:
    """Waits for all; returns exit code, standard output and error output of each."""
    ends = []
    for process in processes:
        out, err = process.communicate(timeout=timeout)
        ends.append((process.returncode, out, err))
    return ends


def checkpointed(folder: Path) -> bool:
    """Says whether a run of the toy has saved itself."""
    return any((folder / CELL).glob("runs/*/checkpoints/*.sha256"))


def wait_for_checkpoint(folder: Path, *processes: subprocess.Popen[str]) -> None:
    while not checkpointed(folder):
        assert all(process.poll() is None for process in processes), finish(*processes)
        time.sleep(0.1)


def assert_same_network(one: Path, other: Path) -> None:
    """Compares what two runs of the toy learned."""
    trees = [checkpoints.load(folder / CELL / "checkpoint") for folder in (one, other)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *trees)
