import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from multihost.several import ADDING, Several, finish, flags, free_port

from alljax.errors import ConfigError
from alljax.training import distributed

NOTHING = (None, None, None)
JOBSET = {"JAX_COORDINATOR_ADDRESS": "cells-host-0-0.cells:12765", "JAX_NUM_PROCESSES": "4"}
SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "4", "SLURM_LOCALID": "0"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
ORTE = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}


def told(address: str, count: int, index: int) -> dict[str, Any]:
    return {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "deactivate",
    }


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, None),  # in the batch script, beside srun
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, None),  # a task of a job array
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"JOB_COMPLETION_INDEX": "3"}, None),  # an indexed job of independent pods
        ({"JAX_NUM_PROCESSES": "1"}, None),
        (JOBSET | {"JOB_COMPLETION_INDEX": "3"}, told("cells-host-0-0.cells:12765", 4, 3)),
        (JOBSET | {"JOB_COMPLETION_INDEX": "3", "JAX_PROCESS_ID": "2"}, told("cells-host-0-0.cells:12765", 4, 2)),
        (SLURM, {"cluster_detection_method": "slurm", "local_device_ids": []}),
        (
            SLURM | {"SLURM_STEP_NUM_NODES": "2", "SLURM_LOCALID": "1"},
            {"cluster_detection_method": "slurm", "local_device_ids": [1]},
        ),
        (SLURM | {"JAX_LOCAL_DEVICE_IDS": "0,1"}, {"cluster_detection_method": "slurm"}),
        (OPEN_MPI | ORTE, {"cluster_detection_method": "ompi", "local_device_ids": [1]}),
        (
            OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1", "JAX_COORDINATOR_ADDRESS": "n1:12765"},
            told("n1:12765", 4, 3) | {"local_device_ids": []},
        ),
    ],
)
def test_schedulers_are_known_by_their_variables(environment: Mapping[str, str], expected: Any) -> None:
    assert distributed.find(*NOTHING, environment) == expected


def test_tpu_hosts_are_left_to_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter([folder / pattern]))
    assert distributed.find(*NOTHING, {}) is None, "chips alone do not tell: other devices have such files too"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "libtpu" or None)
    assert distributed.find(*NOTHING, {}) == {}
    gke = {"TPU_SKIP_MDS_QUERY": "true", "TPU_WORKER_HOSTNAMES": "cells-0.cells,cells-1.cells"}
    assert distributed.find(*NOTHING, gke) == {}
    assert distributed.find(*NOTHING, gke | {"TPU_WORKER_HOSTNAMES": "localhost"}) is None


def test_flags_come_before_any_scheduler() -> None:
    assert distributed.find("n7:99", 3, 1, SLURM) == told("n7:99", 3, 1)
    assert distributed.find("n7:99", 1, 0, {}) == told("n7:99", 1, 0)


@pytest.mark.parametrize(
    ("given", "environment", "message"),
    [
        (("n1:99", None, None), {}, "--processes and --process missing; every process takes --coordinator"),
        ((None, 2, 1), {}, "--coordinator missing"),
        (("n1:99", 2, 2), {}, "--process=2, but of 2 processes the last is 1"),
        (("n1:99", 2, -1), {}, "--process=-1"),
        (("n1:99", 0, 0), {}, "--process=0, but of 0 processes"),
        (("n1", 2, 0), {}, "the coordinator is 'n1'; give HOST:PORT by --coordinator"),
        (("n1:port", 2, 0), {}, "the coordinator is 'n1:port'"),
        ((":99", 2, 0), {}, "the coordinator is ':99'"),
        (("n1:65536", 2, 0), {}, "the coordinator is 'n1:65536'"),
        (NOTHING, JOBSET, "neither JAX_PROCESS_ID nor JOB_COMPLETION_INDEX says which"),
        (NOTHING, JOBSET | {"JOB_COMPLETION_INDEX": "4"}, "JOB_COMPLETION_INDEX=4, but of 4 processes the last is 3"),
        (NOTHING, {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "the coordinator is ''"),
        (NOTHING, {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES='two', which is no number"),
        (NOTHING, OPEN_MPI, "the coordinator is ''"),
    ],
)
def test_mistakes_are_told(given: Any, environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=f".*{message}"):
        distributed.find(*given, environment)


def test_one_process_is_left_as_it_is() -> None:
    assert distributed.initialize(environment={}) == ""
    assert distributed.is_primary()
    assert distributed.broadcast(True)
    assert not distributed.broadcast(False)
    assert distributed.exit(3) == 3


def test_processes_find_each_other_by_flags(several: Several) -> None:
    port = free_port()
    ends = finish(*(several.start([*ADDING, *flags(port, 3, index)]) for index in range(3)))
    assert [code for code, _, _ in ends] == [0, 0, 0], ends
    assert "3 processes with 6 cpu devices\n" in ends[0][1]
    assert "the sum over 6 devices of 3 processes is 12" in ends[0][1]
    assert ends[1][1] == ends[2][1] == "", "only the first prints"
    assert "process 2 has 2 of them" in ends[2][2]


def test_processes_of_open_mpi_find_each_other(several: Several) -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("Open MPI not checked: no mpirun")
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", *ADDING]
    [(code, out, err)] = finish(several.start(command))
    assert code == 0, err
    assert "the sum over 4 devices of 2 processes is 6" in out


def test_survivors_name_the_process_that_died(several: Several) -> None:
    started = begin_without_end(several, 3)
    worker = Path(f"/proc/{started[1].pid}/task/{started[1].pid}/children").read_text().split()[0]
    subprocess.run(["kill", "-KILL", worker], check=True)
    ends = finish(*started, timeout=60)
    assert ends[1][0] == 128 + signal.SIGKILL
    assert ends[1][2].splitlines()[-1] == "alljax: ended by SIGKILL"
    for code, _, err in (ends[0], ends[2]):
        assert code == 1
        assert err.splitlines()[-1].startswith("alljax: process 1 died or cannot be reached any more"), err
        assert "Check failure stack trace" not in err


def test_the_coordinator_that_died_is_named(several: Several) -> None:
    started = begin_without_end(several, 2)
    started[0].kill()
    (killed, _, _), (code, _, err) = finish(*started, timeout=60)
    assert killed == -signal.SIGKILL, "nothing is left of it, not its worker either"
    assert code == 1
    assert err.splitlines()[-1].startswith("alljax: process 0 died or cannot be reached any more"), err


def test_a_fault_of_one_process_ends_all(several: Several) -> None:
    port = free_port()
    command = [*ADDING, "--steps=40", "--fault=1"]
    (first, _, told_first), (second, _, told_second) = finish(
        *(several.start([*command, *flags(port, 2, index)]) for index in range(2)), timeout=90
    )
    assert second == 1
    assert told_second.splitlines()[-1] == "ValueError: a fault of this process alone"
    assert first == 1
    assert told_first.splitlines()[-1].startswith("alljax: process 1 died")


def test_a_coordinator_that_is_not_there_is_named(several: Several) -> None:
    address = f"localhost:{free_port()}"
    command = [*ADDING, f"--coordinator={address}", "--processes=2", "--process=1", "--start_seconds=1"]
    [(code, _, err)] = finish(several.start(command), timeout=60)
    assert code == 2
    assert err == f"alljax: no coordinator at {address} for 1 s (Connection refused); start process 0 there\n"


def test_a_taken_port_is_told(several: Several) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        [(code, _, err)] = finish(several.start([*ADDING, *flags(port, 2, 0)]), timeout=60)
    assert code == 2
    assert err == f"alljax: cannot listen at localhost:{port}: Address already in use; choose another port\n"


def test_processes_that_do_not_come_are_missed(several: Several) -> None:
    command = [*ADDING, *flags(free_port(), 2, 0), "--start_seconds=2"]
    [(code, _, err)] = finish(several.start(command), timeout=60)
    assert code == 1
    assert err.splitlines()[-1].startswith("alljax: the processes did not find each other within 2 s")


def test_unequal_hosts_are_refused(several: Several) -> None:
    port = free_port()
    started = [several.start([*ADDING, *flags(port, 2, index)], devices=1 + index) for index in range(2)]
    ends = finish(*started, timeout=60)
    assert {code for code, _, _ in ends} <= {1, 2}
    assert "alljax: this process has 1 of 3 devices; each of the 2 needs as many" in ends[0][2]


def begin_without_end(several: Several, count: int) -> list[subprocess.Popen[str]]:
    """Starts processes that sum for ever; returns when they have found each other."""
    port = free_port()
    started = [several.start([*ADDING, *flags(port, count, index), "--steps=1000000"]) for index in range(count)]
    out = started[0].stdout
    assert out is not None
    assert "processes with" in out.readline()
    time.sleep(1)  # they compile
    return started
