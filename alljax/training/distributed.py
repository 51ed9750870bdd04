"""Several processes of one study, as `jax.distributed.initialize` detects them or launch scripts set `NUMBERS`."""

import contextlib
import importlib.util
import os
import re
import secrets
import socket
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import TracebackType

from absl import logging

from alljax import files, interrupts, progress
from alljax.errors import ConfigError, Stopped

# Variables for number and index of processes, used if JAX_COORDINATOR_ADDRESS is set.
NUMBERS = (
    ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    ("JAX_NUM_PROCESSES", "JOB_COMPLETION_INDEX"),  # an indexed job of Kubernetes
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI 5, in which JAX finds no coordinator
)

_connected = False


def initialize(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None, timeout: int = 120
) -> None:
    """Connects this process with the others of its run, before any use of a device; for one process does nothing."""
    global _connected
    arguments, tpu = (coordinator, processes, process), importlib.util.find_spec("libtpu") is not None
    if arguments != (None, None, None):
        if None in arguments or not re.fullmatch(r".+:\d+", str(coordinator)):
            raise ConfigError("--coordinator=HOST:PORT, --processes and --process must be given together")
    elif "JAX_COORDINATOR_ADDRESS" in os.environ:
        names = next((pair for pair in NUMBERS if os.environ.keys() >= set(pair)), NUMBERS[0])
        count, index = (os.environ.get(name, "") for name in names)
        if not (count.isdecimal() and index.isdecimal()):
            raise ConfigError(f"JAX_COORDINATOR_ADDRESS is set, but {' and '.join(names)} are not two numbers")
        arguments = os.environ["JAX_COORDINATOR_ADDRESS"], int(count), int(index)
    elif not tpu and os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) == "1":
        return

    import jax
    import jax.numpy as jnp
    import numpy as np

    from alljax.training.sharding import Mesh

    one_per_node = os.environ.get("SLURM_STEP_NUM_TASKS", "0") == os.environ.get("SLURM_STEP_NUM_NODES")
    alone = one_per_node or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"  # has all devices of its host
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is handled by `interrupts`
    interrupts.several_processes = True  # an error ends this process at once
    connect = partial(
        jax.distributed.initialize,
        *arguments,
        local_device_ids=[] if alone and "JAX_LOCAL_DEVICE_IDS" not in os.environ else None,
        initialization_timeout=timeout + 60,  # `_wait` gives up before: JAX would abort this process
        heartbeat_timeout_seconds=30,  # then a silent process counts as dead, and JAX ends the others
        shutdown_timeout_seconds=3600,  # of finished processes; the primary one writes the report
    )
    try:
        if arguments[2] == 0:  # JAX would crash at a port that is in use
            socket.create_server(("", int(str(arguments[0]).rpartition(":")[2]))).close()
        awaited = "process 0" if arguments[2] else "the other processes"
        _wait(connect, f"{awaited} at {arguments[0]}" if arguments[0] else awaited, timeout)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"process 0 cannot listen at {arguments[0]}: {error}; choose a free port") from error
    except (ValueError, RuntimeError) as error:
        if tpu and isinstance(error, ValueError):  # libtpu is installed, but this is no TPU host
            interrupts.several_processes = False
            return
        raise ConfigError(f"the processes cannot connect: {str(error).splitlines()[0]}") from error
    _connected = True
    start_backend()
    sys.excepthook = _report_exception
    count, devices = jax.process_count(), jax.local_device_count()
    if jax.device_count() != count * devices:
        raise ConfigError(f"a process has {devices} of {jax.device_count()} devices; all {count} need the same number")
    # Gloo connects CPU devices at first use and waits only 30 s for others, which may later be compiling for longer.
    mesh = Mesh()
    mesh.gather(mesh.jit(jnp.sum, batch=0)(mesh.shard(np.ones(devices, np.float32))))
    any_process(False)
    if not is_primary():
        progress.hidden = True
        logging.set_verbosity(logging.WARNING)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    logging.info(f"{count} processes with {jax.device_count()} {jax.default_backend()} devices")


def start_backend() -> str:
    """Starts the devices of JAX, before anything else uses them, and returns their names; raises `ConfigError`."""
    import jax

    try:
        return ", ".join(device.device_kind for device in jax.devices())
    except Exception as error:  # JAX has several kinds, an AssertionError without a message among them
        reason = str(error).partition("\n")[0].partition(" (set JAX_PLATFORMS")[0] or "no such device"
        platforms = os.environ.get("JAX_PLATFORMS", "")
        fix = "check the driver, JAX's plugin and whether another process uses the device, or set JAX_PLATFORMS=cpu"
        raise ConfigError(f"JAX cannot use the devices of JAX_PLATFORMS={platforms}: {reason}; {fix}") from error


def _wait(connect: Callable[[], None], awaited: str, timeout: int) -> None:
    """Calls `connect`, reports what it waits for, and gives up after `timeout` seconds."""
    with ThreadPool(1) as pool:
        result = pool.apply_async(connect)
        for second in range(timeout):
            result.wait(1)
            if result.ready():
                return result.get()
            interrupts.check()
            if second % 15 == 0:
                logging.info(f"waiting for {awaited} ({second} of {timeout} s)")
    raise ConfigError(f"waited {timeout} s for {awaited}; check address and port, or wait longer with --timeout")


def check_shared(folder: Path) -> None:
    """Raises `ConfigError` in all processes if `folder` is not the same folder for all of them."""
    if not interrupts.several_processes:
        return
    from jax.experimental import multihost_utils

    token = folder / f".shared-{multihost_utils.broadcast_one_to_all(secrets.randbits(31))}"
    if is_primary():
        files.write_text(token, "")
    any_process(False)  # waits until it is written
    missing = any_process(not token.is_file())
    if is_primary():
        token.unlink()
        with contextlib.suppress(OSError):  # it holds a study
            folder.rmdir()
    if missing:
        raise ConfigError(f"{folder} is not the same folder in all processes: use a file system that they share")


def is_primary() -> bool:
    """Returns whether this process prints and writes results: process 0, or the only one."""
    return not interrupts.several_processes or sys.modules["jax"].process_index() == 0


def any_process(value: bool) -> bool:
    """Returns whether `value` is true in any process; all of them call this at the same point."""
    if not interrupts.several_processes:
        return value
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    with jax.transfer_guard("allow"):
        return bool(multihost_utils.process_allgather(np.asarray(value)).any())


def check_together() -> None:
    """Raises `Stopped` in all processes if one was asked to stop; all of them call this at the same point."""
    if any_process(bool(interrupts.requested)):
        interrupts.check()
        raise Stopped("stopped with another process")


def exit(code: int, together: bool = False) -> int:
    """Returns an exit code; one process of several ends with it at once, unless all of them end `together`."""
    # A normal exit would wait for the other processes, and they for the next step of this one.
    if interrupts.several_processes and not (together and _connected):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _report_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    print("alljax: this process ends, and so do the others; the same command resumes the run", file=sys.stderr)
    exit(1)
