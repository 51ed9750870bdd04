"""Stopping on request: SIGTERM, or SIGUSR1, which Slurm sends some minutes before the time limit.

The handler only sets a flag.  Loops ask `stop_requested` and raise `errors.Stopped` after saving.  A second signal
ends the process at once.  In a run of several processes, JAX handles SIGTERM, so that all stop after the same step.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from alljax.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

_requested = False


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Turns `SIGNALS` into stop requests inside the block; does nothing outside the main thread.

    Processes connect inside the block: `jax.distributed.initialize` then replaces the handler of SIGTERM.
    """
    global _requested
    _requested = False
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there
        yield
        return
    previous = {number: signal.signal(number, _request) for number in SIGNALS}
    try:
        yield
    finally:
        _requested = False
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_requested(step: int | None = None) -> bool:
    """Returns whether the run should save its progress and stop.

    Args:
        step: number of the step that has finished, in a loop that all processes run together; they then agree on
            one step at which to stop (`jax.experimental.multihost_utils.reached_preemption_sync_point`).
    """
    if step is not None and _several_processes():
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)
    return _requested


def check() -> None:
    """Raises `Stopped` if a stop was requested; for work that has nothing to save.

    Does nothing in a run of several processes: one of them must not leave work that they do together.
    """
    if _requested and not _several_processes():
        raise Stopped("stopped; finished trials and checkpoints are kept")


def _request(number: int, frame: FrameType | None) -> None:
    global _requested
    if _requested:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    _requested = True
    if _several_processes() and number != signal.SIGTERM:
        os.kill(os.getpid(), signal.SIGTERM)  # JAX passes it on to the other processes


def _several_processes() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()
