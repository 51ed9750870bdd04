"""Which arguments and variables start several processes; their runs are in tests/multihost."""

import contextlib
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jax
import pytest
from processes import ROOT, environment

from alljax import interrupts
from alljax.errors import ConfigError
from alljax.training import distributed

SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "4"}
JOBSET = {"JAX_COORDINATOR_ADDRESS": "host-0-0.host:12765", "JAX_NUM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "3"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}


class Reached(Exception):
    """Ends `distributed.initialize` where it calls JAX."""


@pytest.fixture
def initialize(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns the arguments that JAX would get in an environment, or None where there is one process."""

    initialize = Mock(side_effect=Reached)
    monkeypatch.setattr(interrupts, "several_processes", False)  # is set before the call
    monkeypatch.setattr(jax.distributed, "initialize", initialize)

    def run(environment: dict[str, str], *arguments: Any) -> Any:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with contextlib.suppress(Reached):
            distributed.initialize(*arguments)
            return None
        return *initialize.call_args.args, initialize.call_args.kwargs["local_device_ids"]

    return run


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, None),  # in the batch script, beside srun
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, None),  # a task of a job array
        ({"JOB_COMPLETION_INDEX": "3"}, None),  # an indexed job of independent pods
        (SLURM, (None, None, None, [])),
        (SLURM | {"SLURM_STEP_NUM_NODES": "2"}, (None, None, None, None)),
        (SLURM | {"JAX_LOCAL_DEVICE_IDS": "0,1"}, (None, None, None, None)),
        (JOBSET, ("host-0-0.host:12765", 4, 3, None)),
        (JOBSET | {"JAX_PROCESS_ID": "2"}, ("host-0-0.host:12765", 4, 2, None)),
        (OPEN_MPI, (None, None, None, None)),
        (OPEN_MPI | {"JAX_COORDINATOR_ADDRESS": "n1:1", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, ("n1:1", 4, 3, [])),
    ],
)
def test_schedulers_are_detected(environment: dict[str, str], expected: Any, initialize: Any) -> None:
    assert initialize(environment) == expected


def test_arguments_come_before_schedulers(initialize: Any) -> None:
    assert initialize(SLURM, "n7:99", 3, 1)[:3] == ("n7:99", 3, 1)


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({}, ("n1:99", None, None)),
        ({}, (None, 2, 1)),
        ({}, ("n1", 2, 0)),
        ({}, ("n1:http", 2, 0)),
        ({"JAX_COORDINATOR_ADDRESS": "n1:1"}, ()),
        (JOBSET | {"JOB_COMPLETION_INDEX": "three"}, ()),
    ],
)
def test_incomplete_arguments_are_refused(environment: dict[str, str], arguments: Any, initialize: Any) -> None:
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID|JOB_COMPLETION_INDEX|given together"):
        initialize(environment, *arguments)


def test_a_port_in_use_is_reported(initialize: Any) -> None:
    with socket.create_server(("", 0)) as server, pytest.raises(ConfigError, match="choose a free port"):
        initialize({}, f"localhost:{server.getsockname()[1]}", 2, 0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AssertionError(), "no such device"),
        (
            RuntimeError("Unable to initialize backend 'tpu': ABORTED: in use by process 7 (set JAX_PLATFORMS='')\n#1"),
            "7;",
        ),
    ],
)
def test_devices_that_cannot_be_used_are_one_line(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "devices", Mock(side_effect=error))
    with pytest.raises(ConfigError, match=rf"^.*{reason}.* set JAX_PLATFORMS=cpu$"):
        distributed.start_backend()


@pytest.mark.parametrize("verb", ["study --workdir=w", "lr-find --out=w/a.csv", "features --out=w/a.npz"])
def test_a_platform_that_does_not_exist_is_one_line_in_every_command(verb: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "alljax.cli", *verb.split(), f"--config={ROOT / 'configs/quickstart.py'}"]
    variables = environment(JAX_PLATFORMS="abacus")
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "JAX_PLATFORMS=abacus: " in done.stderr
    assert not list(tmp_path.iterdir())
