"""Stopping on request: Ctrl-C, SIGTERM, or SIGUSR1, which Slurm sends some minutes before the time limit.

A signal only sets `requested`: Python drops an exception that a signal handler raises inside some callbacks, and JAX
has one in the garbage collector.  Loops call `check`, or save their progress and raise `errors.Stopped` themselves.
"""

import os
import signal
import socket
import sys
import threading
from types import FrameType

from alljax.errors import Stopped

# Windows has SIGBREAK instead of SIGUSR1.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGBREAK") if hasattr(signal, name))
several_processes = False  # whether this one runs a study jointly with others; set by `distributed.initialize`
requested = 0  # number of the signal that asks this process to save its progress and stop; 0 for none


def install() -> None:
    """Turns `SIGNALS`, except those that are ignored (``nohup``), into stop requests; a second one ends the process."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _request)
    threading.Thread(target=_report, args=(receiver,), daemon=True).start()


def check(collective: bool = False) -> None:
    """Raises `Stopped` if a stop was requested; in `collective` work only if no other process waits for this one."""
    if requested and not (collective and several_processes):
        raise Stopped(f"stopped by {signal.Signals(requested).name}")


def _request(number: int, frame: FrameType | None) -> None:
    global requested
    requested = requested or number


def _report(receiver: socket.socket) -> None:
    """Reports the first signal and ends the process at the second, also while the main thread compiles or waits."""
    numbers = (number for number in iter(lambda: receiver.recv(1)[0], None) if number in SIGNALS)
    name = signal.Signals(next(numbers)).name
    # One write per line: the main thread prints at the same time.
    sys.stderr.write(f"alljax: {name}: stops at the next safe point; a second signal ends it at once\n")
    os._exit(128 + next(numbers))
