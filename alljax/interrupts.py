"""Stopping on request: SIGTERM, or SIGUSR1, which Slurm sends some minutes before the time limit.

The handler only sets a flag.  Loops ask `stop_requested` and raise `errors.Stopped` after saving.  A second signal
ends the process at once.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from alljax.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

several_processes = False
"""Whether this process runs a study jointly with others; set by `training.distributed.initialize`."""

_requested = False


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Turns `SIGNALS` into stop requests inside the block."""
    global _requested
    previous = {number: signal.signal(number, _request) for number in SIGNALS}
    try:
        yield
    finally:
        _requested = False
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_requested() -> bool:
    """Returns whether this process should save its progress and stop."""
    return _requested


def check(collective: bool = False) -> None:
    """Raises `Stopped` if a stop was requested; in `collective` work only if no other process waits for this one."""
    if _requested and not (collective and several_processes):
        raise Stopped("stopped; finished trials and checkpoints are kept")


def _request(number: int, frame: FrameType | None) -> None:
    global _requested
    if _requested:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    _requested = True
