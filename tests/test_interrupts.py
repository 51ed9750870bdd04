"""A signal is a request, whatever Python is doing; the second one ends the process."""

import signal
import subprocess
import sys
import time

import pytest
from processes import environment

from alljax import interrupts
from alljax.errors import Stopped

COMMAND = """
import gc, hashlib, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # of a terminal
from alljax import cli, interrupts

def work(options):
    "Works."
    os.kill(os.getpid(), signal.{name})
    {work}

cli.VERBS["report"] = work, *cli.VERBS["report"][1:]
sys.argv = ["alljax", "report", "--workdir=w"]
sys.exit(cli.main())
"""


def run(name: str, work: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that gets a signal and then works on."""
    code = COMMAND.format(name=name, work=work)
    environ = environment(ALLJAX_STOP_CODE="75")
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=60)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 75), ("SIGUSR1", 75)])
def test_a_signal_is_reported_at_once_and_ends_at_the_next_check(name: str, code: int) -> None:
    done = run(name, "time.sleep(0.5); print('a safe point', flush=True); interrupts.check(); print('never')")
    assert done.stdout == "a safe point\n"
    assert done.stderr.splitlines() == [
        f"alljax: {name}: stops at the next safe point; a second signal ends it at once",
        f"alljax: stopped by {name}; the same command resumes",
    ]
    assert done.returncode == code


def test_a_signal_in_the_garbage_collector_is_not_lost() -> None:
    """Python drops exceptions there; JAX has a callback in it."""
    interrupt = "gc.callbacks.append(lambda *_: gc.callbacks.clear() or os.kill(os.getpid(), signal.SIGINT))"
    done = run("SIGCHLD", f"{interrupt}; gc.collect(0); interrupts.check(); print('never')")
    assert (done.stdout, done.returncode) == ("", 130)
    assert "alljax: stopped by SIGINT; the same command resumes" in done.stderr.splitlines()


@pytest.mark.parametrize("waiting", ["time.sleep(30)", "hashlib.pbkdf2_hmac('md5', b'', b'', 2**31 - 1)"])
def test_a_second_signal_ends_at_once(waiting: str) -> None:
    """Also while the main thread does not return to Python."""
    timer = "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()"
    started = time.monotonic()
    assert run("SIGINT", f"{timer}; {waiting}").returncode == 128 + signal.SIGTERM
    assert time.monotonic() - started < 15


def test_check_ends_with_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts.check()
    monkeypatch.setattr(interrupts, "requested", signal.SIGTERM)
    with pytest.raises(Stopped, match="^stopped by SIGTERM$"):
        interrupts.check()
    monkeypatch.setattr(interrupts, "several_processes", True)
    interrupts.check(collective=True)
