"""Several processes that run one study: how they find each other and how they end.

`jax.distributed.initialize` detects Slurm, Open MPI and Cloud TPU.  Afterwards the devices of JAX are those of all
processes.  The launch scripts for other systems set environment variables (`NUMBERS`).
"""

import importlib.util
import os
import sys
from types import TracebackType

from absl import logging

from alljax import interrupts, progress
from alljax.errors import ConfigError

NUMBERS = (
    ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    ("JAX_NUM_PROCESSES", "JOB_COMPLETION_INDEX"),  # an indexed job of Kubernetes
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI 5, in which JAX finds no coordinator
)
"""Variables for number and index of processes, used if JAX_COORDINATOR_ADDRESS is set."""


def initialize(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Connects this process with the others of its run; does nothing if it is the only one.

    Must be called before any use of a device.  Only the primary process prints results and progress.

    Args:
        coordinator: ``HOST:PORT`` of process 0, with a free port.
        processes: number of processes.
        process: index of this process, from 0.

    Raises:
        ConfigError: incomplete arguments, no connection, or processes with different numbers of devices.
    """
    arguments, tpu = (coordinator, processes, process), importlib.util.find_spec("libtpu") is not None
    if arguments != (None, None, None):
        if None in arguments or ":" not in str(coordinator):
            raise ConfigError("--coordinator=HOST:PORT, --processes and --process must be given together")
    elif "JAX_COORDINATOR_ADDRESS" in os.environ:
        names = next((pair for pair in NUMBERS if os.environ.keys() >= set(pair)), None)
        if names is None:
            raise ConfigError("JAX_COORDINATOR_ADDRESS is set, but not JAX_NUM_PROCESSES and JAX_PROCESS_ID")
        arguments = os.environ["JAX_COORDINATOR_ADDRESS"], int(os.environ[names[0]]), int(os.environ[names[1]])
    elif not tpu and os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) == "1":
        return

    import jax
    import jax.numpy as jnp
    import numpy as np

    from alljax.training.sharding import Mesh

    one_per_node = os.environ.get("SLURM_STEP_NUM_TASKS", "0") == os.environ.get("SLURM_STEP_NUM_NODES")
    alone = one_per_node or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"  # has all devices of its host
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is handled by `interrupts`
    try:
        jax.distributed.initialize(
            *arguments,
            local_device_ids=[] if alone and "JAX_LOCAL_DEVICE_IDS" not in os.environ else None,
            initialization_timeout=300,  # schedulers do not start all hosts at the same time
            heartbeat_timeout_seconds=30,  # then a silent process counts as dead, and JAX ends the others
            shutdown_timeout_seconds=3600,  # of finished processes; the primary one writes the report
        )
    except (ValueError, RuntimeError) as error:
        if tpu and isinstance(error, ValueError):  # libtpu is installed, but this is no TPU host
            return
        raise ConfigError(f"the processes cannot connect: {str(error).splitlines()[0]}") from error
    interrupts.several_processes = True
    sys.excepthook = _report_exception
    count, devices = jax.process_count(), jax.local_device_count()
    if jax.device_count() != count * devices:
        raise ConfigError(f"a process has {devices} of {jax.device_count()} devices; all {count} need the same number")
    # Gloo, which connects CPU devices at first use, waits only 30 s for the others.  Later the processes may be out of
    # step for longer, because each compiles its own programs, so the first collectives are run now.
    mesh = Mesh()
    mesh.gather(mesh.jit(jnp.sum, batch=0)(mesh.shard(np.ones(devices, np.float32))))
    any_process(False)
    if not is_primary():
        progress.hidden = True
        logging.set_verbosity(logging.WARNING)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    logging.info(f"{count} processes with {jax.device_count()} {jax.default_backend()} devices")


def is_primary() -> bool:
    """Returns whether this process prints and writes results: process 0, or the only one."""
    return not interrupts.several_processes or sys.modules["jax"].process_index() == 0


def any_process(value: bool) -> bool:
    """Returns whether `value` is true in any process; all of them call this at the same point.

    A shared file system may look different to each process.
    """
    if not interrupts.several_processes:
        return value
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    with jax.transfer_guard("allow"):
        return bool(multihost_utils.process_allgather(np.asarray(value)).any())


def stop_requested(agree: bool) -> bool:
    """Returns whether a run should save its progress and stop; several processes only where they `agree`."""
    if interrupts.several_processes:
        return agree and any_process(interrupts.stop_requested())
    return interrupts.stop_requested()


def exit(code: int) -> int:
    """Returns an exit code; one process of several ends with it at once.

    A normal exit would wait for the other processes, and they for the next step of this one.
    """
    if interrupts.several_processes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _report_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    print("alljax: this process ends, and so do the others; the same command resumes the run", file=sys.stderr)
    exit(1)
