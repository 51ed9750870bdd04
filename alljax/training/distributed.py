"""Several processes, one run: how they find each other, and how they end together.

A scheduler starts the same command on every host.  `initialize` learns from its variables, or from flags, which of the
processes this one is; after that JAX's devices are those of all processes.
"""

import ctypes
import importlib.util
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from alljax.errors import ConfigError

START_SECONDS = 300
"""How long processes wait for each other at the start; schedulers do not start all hosts at once."""

HEARTBEAT_SECONDS = 30
"""After so long a silence a process counts as dead, and the others end."""

FINISH_SECONDS = 3600
"""How long finished processes wait for the first one, which writes the report."""

_joined = False


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Makes this process one of several; does nothing where it is alone.

    To be called before anything touches a device.  What follows runs in a child of the calling process, which stays
    behind to say why the run ended.  Standard output of all but the first process is dropped.

    Args:
        coordinator: ``HOST:PORT`` of process 0, a free port there.
        processes: how many there are.
        process: which one this is, from 0.
        environment: where the schedulers' variables are, see `find`.

    Returns:
        A line on who is there; empty for a single process.

    Raises:
        ConfigError: flags or variables that do not fit together, a taken port, no coordinator there, or processes
            with different numbers of devices.
    """
    found = find(coordinator, processes, process, environment)
    if found is None:
        return ""
    if address := found.get("coordinator_address"):
        _listen(address) if found["process_id"] == 0 else _call(address)
    _stay_behind()
    global _joined
    _joined = True
    sys.excepthook = _leave_in_error

    import jax

    jax.distributed.initialize(
        **found,
        initialization_timeout=START_SECONDS,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=FINISH_SECONDS,
    )
    # JAX hears SIGTERM and tells the other processes; what Slurm sends ahead of time means the same.
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    if not is_primary():
        from alljax import progress

        progress.hidden = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    count, own = jax.process_count(), jax.local_device_count()
    if jax.device_count() != count * own:
        raise ConfigError(f"this process has {own} of {jax.device_count()} devices; each of the {count} needs as many")
    return f"{count} processes with {jax.device_count()} {jax.default_backend()} devices"


def is_primary() -> bool:
    """Says whether this process is the one that prints and writes: process 0, or the only one."""
    if not _joined:
        return True
    import jax

    return jax.process_index() == 0


def broadcast(found: bool) -> bool:
    """Returns what the first process found, to every process: a file system may show them different things."""
    if not _joined:
        return found
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(found)))


def exit(code: int) -> int:
    """Returns an exit code; one process of several ends with it here and now.

    An ordinary exit would wait for the others, and they in their next step for this one.
    """
    if _joined:
        _end(code)
    return code


def find(
    coordinator: str | None, processes: int | None, process: int | None, environment: Mapping[str, str]
) -> dict[str, Any] | None:
    """Returns what `jax.distributed.initialize` is to be told, or None where there is one process.

    In this order: the flags; ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` or
    ``JOB_COMPLETION_INDEX`` (a Kubernetes JobSet); Slurm's srun; Open MPI; Cloud TPU.  JAX knows the last three.

    Raises:
        ConfigError: see `initialize`.
    """
    flags = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    if coordinator is not None and processes is not None and process is not None:
        return _told(coordinator, processes, process, "--process")
    if any(value is not None for value in flags.values()):
        missing = " and ".join(flag for flag, value in flags.items() if value is None)
        raise ConfigError(f"{missing} missing; every process takes {', '.join(flags)}")

    def number(name: str) -> int:
        try:
            return int(environment.get(name, 0))
        except ValueError as error:
            raise ConfigError(f"the environment has {name}={environment[name]!r}, which is no number") from error

    address = environment.get("JAX_COORDINATOR_ADDRESS", "")
    if (count := number("JAX_NUM_PROCESSES")) > 1:
        name = "JAX_PROCESS_ID" if "JAX_PROCESS_ID" in environment else "JOB_COMPLETION_INDEX"
        if name not in environment:
            raise ConfigError(
                f"JAX_NUM_PROCESSES={count}, but neither JAX_PROCESS_ID nor {name} says which one this is"
            )
        return _told(address, count, number(name), name)
    if (count := number("SLURM_STEP_NUM_TASKS")) > 1:
        alone = count == number("SLURM_STEP_NUM_NODES")
        return {"cluster_detection_method": "slurm"} | _devices(alone, number("SLURM_LOCALID"), environment)
    if (count := number("OMPI_COMM_WORLD_SIZE")) > 1:
        alone, local = number("OMPI_COMM_WORLD_LOCAL_SIZE") == 1, number("OMPI_COMM_WORLD_LOCAL_RANK")
        found: dict[str, Any] = {"cluster_detection_method": "ompi"}
        if "OMPI_MCA_orte_hnp_uri" not in environment:  # Open MPI 5 tells no address that all could agree on
            found = _told(address, count, number("OMPI_COMM_WORLD_RANK"), "OMPI_COMM_WORLD_RANK")
        return found | _devices(alone, local, environment)
    return {} if _on_tpu(environment) else None


def _told(coordinator: str, processes: int, process: int, name: str) -> dict[str, Any]:
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ConfigError(
            f"the coordinator is {coordinator!r}; give HOST:PORT by --coordinator (or JAX_COORDINATOR_ADDRESS)"
        )
    if not 0 <= process < processes:
        raise ConfigError(f"{name}={process}, but of {processes} processes the last is {processes - 1}")
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
        "cluster_detection_method": "deactivate",
    }


def _devices(alone: bool, local: int, environment: Mapping[str, str]) -> dict[str, Any]:
    """Gives a process that is alone on its host all devices there, and one of several the device of its number."""
    return {} if "JAX_LOCAL_DEVICE_IDS" in environment else {"local_device_ids": [] if alone else [local]}


def _on_tpu(environment: Mapping[str, str]) -> bool:
    chips = any(Path("/dev").glob("accel[0-9]*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    asks_nobody = "TPU_SKIP_MDS_QUERY" in environment and "," not in environment.get("TPU_WORKER_HOSTNAMES", "")
    return chips and importlib.util.find_spec("libtpu") is not None and not asks_nobody


def _listen(address: str) -> None:
    """Looks whether process 0 can open its port; JAX would crash."""
    try:
        socket.create_server(("", int(address.rpartition(":")[2]))).close()
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {address}: {os.strerror(error.errno or 0)}; choose another port"
        ) from error


def _call(address: str) -> None:
    """Waits until process 0 listens; JAX would abort."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            if time.monotonic() > end:
                reason = error.strerror or error
                raise ConfigError(
                    f"no coordinator at {address} for {START_SECONDS} s ({reason}); start process 0 there"
                ) from error
        time.sleep(0.2)


def _stay_behind() -> None:
    """Goes on in a child; this process hands on its error output, its signals and its end.

    JAX ends a process whose peer has died by abort(), beneath a stack trace.  Only another process can say the last
    word, and it has to be the parent: a container or job step ends with its first process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.dup2(writing, 2)
        os.close(reading)
        os.close(writing)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no child outlives its parent
        return
    os.close(writing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child too
    for each in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(each, lambda number, _: os.kill(child, number))
    tail: list[bytes] = []
    copying = threading.Thread(target=_copy, args=(reading, tail), daemon=True)
    copying.start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    copying.join(timeout=5)  # a process of the child's own may still hold the pipe
    if code < 0:
        reason = verdict(b"".join(tail).decode(errors="replace")) if code == -signal.SIGABRT else ""
        print(f"alljax: {reason or f'ended by {signal.Signals(-code).name}'}", file=sys.stderr, flush=True)
        code = 1 if reason else 128 - code
    os._exit(code)


def _copy(source: int, tail: list[bytes]) -> None:
    with os.fdopen(source, "rb") as lines:
        for line in lines:
            if not re.match(rb"\s+@ +0x|\*\*\* Check failure stack trace", line):
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
                tail.append(line)
                del tail[:-100]


def verdict(text: str) -> str:
    """Returns why JAX's coordination service ended a process, from the last of its error output; empty if unknown."""
    after = "so this one ends too; its own output may say why; the same command goes on from the newest checkpoint"
    if dead := re.search(r"tasks are unhealthy[^\n]*\n((?:\d+\n)+)", text):
        return f"process {', '.join(dead[1].split())} died or cannot be reached any more, {after}"
    if "Failed to send RPC to coordination service" in text:
        return f"process 0 died or cannot be reached any more, {after}"
    if "RegisterTask" in text:
        return (
            f"the processes did not find each other within {START_SECONDS} s; were all of them started, each with a "
            "number of its own, the same count and the same coordinator?"
        )
    return ""


def _leave_in_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> NoReturn:
    traceback.print_exception(kind, error, trace)
    import jax

    if issubclass(kind, jax.errors.JaxRuntimeError):
        time.sleep(HEARTBEAT_SECONDS + 10)  # if another process died, JAX says which and ends this one
    _end(1)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
