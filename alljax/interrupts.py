"""Stopping when the scheduler asks: SIGTERM, or SIGUSR1 as Slurm sends it ahead of time."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

from alljax.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

UNHEARD = 5.0
"""Seconds after which work that was told to stop and still goes on is told again."""


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[int], bool]]:
    """Yields ``asked(step)``: whether this run is to save itself and stop after this step.

    Several processes stop after the same step: JAX's coordination service spreads the signal that
    one of them got.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    received = threading.Event()
    with _heard(lambda number, frame: received.set()):
        yield lambda step: received.is_set()
    if received.is_set():  # after the last step
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def stopped_at_once() -> Iterator[None]:
    """Raises `Stopped` wherever the work stands: while nothing learns, there is nothing to save first.

    And raises it again where it was lost.  No exception leaves a callback of the garbage collector (JAX has one) or
    a ``__del__``: Python prints it and the work goes on, in 1 of 47 runs that were stopped as they began.  asyncio,
    which Orbax uses, keeps some too, unseen.
    """
    if jax.process_count() > 1:
        yield
        return
    timers, before = list[threading.Timer](), sys.unraisablehook

    def ask_again(seconds: float) -> None:
        timers.append(threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM)))
        timers[-1].start()

    def stop(number: int, frame: FrameType | None) -> None:
        ask_again(UNHEARD)
        raise Stopped("stopped between runs; finished ones and checkpoints are kept")

    def dropped(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Stopped):
            ask_again(0.05)  # not from here, where an exception would be dropped too
        else:
            before(unraisable)

    with _heard(stop):
        sys.unraisablehook = dropped
        try:
            yield
        finally:
            if sys.unraisablehook is dropped:  # else somebody's own, as checkpoint.py's, was put over it and stays
                sys.unraisablehook = before
            for timer in timers:
                timer.cancel()
                timer.join()


@contextlib.contextmanager
def _heard(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there Python hears signals
        yield
        return
    before = {each: signal.signal(each, handler) for each in SIGNALS}
    try:
        yield
    finally:
        for each, other in before.items():
            signal.signal(each, other)
