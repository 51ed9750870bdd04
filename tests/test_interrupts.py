"""Asked to stop, the work stops, whatever Python was doing at that moment."""

import asyncio
import gc
import os
import signal
import sys
import time
from typing import Any

import pytest

from alljax import interrupts
from alljax.errors import Stopped
from alljax.interrupts import stopped_at_once


def _ask() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def test_a_stop_is_no_error_that_somebody_handles() -> None:
    def work() -> None:
        try:
            _ask()
            time.sleep(10)
        except Exception as error:  # as `images.decode` does
            raise AssertionError("taken for a damaged file") from error

    with stopped_at_once(), pytest.raises(Stopped, match="between runs"):
        work()


def test_heard_where_exceptions_are_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    """JAX has a callback of the garbage collector; what it raises, Python prints and forgets."""

    def callback(phase: str, info: dict[str, Any]) -> None:
        if not asked:
            asked.append(phase)
            _ask()
            time.sleep(0.01)

    def work() -> None:
        gc.collect()
        assert asked == ["start"]
        time.sleep(10)
        pytest.fail("the stop was dropped")

    asked: list[str] = []
    gc.callbacks.append(callback)
    try:
        with pytest.raises(Stopped, match="between runs"), stopped_at_once():
            work()
    finally:
        gc.callbacks.remove(callback)
    assert "Traceback" not in capfd.readouterr().err


def test_asked_again_where_somebody_keeps_the_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio catches all but two kinds of exceptions of its callbacks, tells its log and goes on."""
    monkeypatch.setattr(interrupts, "UNHEARD", 0.2)

    def work() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: kept.append(context["exception"]))
        loop.call_soon(lambda: (_ask(), time.sleep(0.01)))
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        loop.close()
        time.sleep(10)

    kept: list[BaseException] = []
    with pytest.raises(Stopped, match="between runs"), stopped_at_once():
        work()
    assert [type(one) for one in kept] == [Stopped]


def test_other_errors_that_python_drops_are_still_told() -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("told")

    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
        with stopped_at_once():
            Broken()
            gc.collect()
    assert told == ["told"]


def test_signals_and_hooks_are_given_back() -> None:
    before = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1), sys.unraisablehook)
    with stopped_at_once():
        assert signal.getsignal(signal.SIGUSR1) != before[1]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1), sys.unraisablehook) == before


def test_a_hook_put_over_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save within a study silences what Orbax's writes say after the study has failed."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    def over(unraisable: Any) -> None:
        pass

    with stopped_at_once():
        sys.unraisablehook = over
    assert sys.unraisablehook is over
