"""Stopping when the scheduler asks: SIGTERM, or SIGUSR1 as Slurm sends it ahead of time."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

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

    with _heard(stop) if jax.process_count() == 1 else contextlib.nullcontext():
        yield


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
