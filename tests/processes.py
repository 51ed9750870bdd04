"""`alljax study` in processes of their own, mostly ``configs/finetune.py:toy``."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOY = (
    f"--config={ROOT / 'configs/finetune.py'}:toy", "--config.evaluation.resamples=100",
    "--config.data.synthetic.images=96", "--config.data.synthetic.subjects=8", "--config.split.test_fraction=0.25",
    "--config.split.validation=0.25", "--config.train.epochs=6", "--config.train.batch_size=8",
    "--config.train.learning_rate=1e-3", "--config.train.checkpoint_steps=4", "--config.train.log_steps=2",
)  # fmt: skip
PATIENCE = 600.0
"""Seconds after which a test fails because nothing happens."""
SCHEDULERS = ("SLURM_", "OMPI_", "PMIX_", "JAX_COORDINATOR", "JAX_NUM", "JAX_PROCESS", "JOB_COMPLETION")

Process = subprocess.Popen[str]
Start = Callable[..., Process]


def environment(devices: int = 2, **more: str) -> dict[str, str]:
    """Returns an environment without schedulers, with this Python's `alljax` on the PATH."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SCHEDULERS)}
    return clean | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        **more,
    }


def start_study(folder: Path, *words: str, devices: int = 1, **variables: str) -> Process:
    """Starts `alljax study`; its errors are part of its output."""
    command = [sys.executable, "-m", "alljax.cli", "study", f"--workdir={folder}", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment(devices, **variables), stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def start() -> Iterator[Start]:
    """`start_study`; none of the processes survives the test."""
    processes: list[Process] = []

    def run(*arguments: str | Path, **options: str | int) -> Process:
        processes.append(start_study(*arguments, **options))  # type: ignore[arg-type]
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        with process:  # waits and closes its pipe
            pass


def finish(process: Process, code: int = 0) -> str:
    """Waits until a process ends with this code and returns its output."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    return output


def wait_for(
    condition: Callable[[], bool], *processes: Process, may_end: bool = False, context: Callable[[], object] = str
) -> bool:
    """Waits for a condition; where a process ends first, returns False or fails with the output of all.

    After `PATIENCE` seconds it fails and shows `context`.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        if any(process.poll() is not None for process in processes):
            assert may_end, [process.communicate()[0] for process in processes]
            return False
        assert time.monotonic() < end, f"nothing happened for {PATIENCE:g} s {context()}"
        time.sleep(0.005)
    return True


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]
