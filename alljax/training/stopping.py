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
    """Raises `Stopped` wherever the work stands: while nothing learns, there is nothing to save first."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped("stopped between runs; finished ones and checkpoints are kept")

    if jax.process_count() > 1:
        yield
        return
    with _heard(stop), _asked_again():
        yield


@contextlib.contextmanager
def _asked_again() -> Iterator[None]:
    """Sends the signal again where Python dropped the `Stopped` that it raised.

    No exception leaves a callback of the garbage collector (JAX has one) or a ``__del__``: Python prints it and
    the work goes on, in 1 of 47 runs that were stopped as they began.
    """
    asked, before = [], sys.unraisablehook

    def dropped(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Stopped):
            before(unraisable)
            return
        # Not from here, where an exception would be dropped too.
        asked.append(threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)))
        asked[-1].start()

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = before
        for each in asked:
            each.cancel()
            each.join()


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
