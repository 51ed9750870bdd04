"""Stopping at the end of a step when the scheduler asks: SIGTERM, or SIGUSR1 as Slurm sends it ahead of time."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

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
    if threading.current_thread() is not threading.main_thread():  # only there Python hears signals
        yield lambda step: False
        return
    before = {each: signal.signal(each, lambda *_: received.set()) for each in SIGNALS}
    try:
        yield lambda step: received.is_set()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
