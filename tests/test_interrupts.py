"""A signal is a request; the second one ends the process."""

import os
import signal
import subprocess
import sys

import pytest

from alljax import interrupts
from alljax.errors import Stopped


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_signal_sets_flag_until_the_block_ends(number: int) -> None:
    before = [signal.getsignal(each) for each in interrupts.SIGNALS]
    with interrupts.handle_signals():
        interrupts.check()
        os.kill(os.getpid(), number)
        assert interrupts.stop_requested()
        with pytest.raises(Stopped):
            interrupts.check()
    assert not interrupts.stop_requested()
    assert [signal.getsignal(each) for each in interrupts.SIGNALS] == before


def test_second_signal_ends_the_process() -> None:
    code = (
        "import os, signal, alljax.interrupts as i\n"
        "with i.handle_signals():\n"
        "    os.kill(os.getpid(), signal.SIGUSR1); print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print('never', flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "still here\n"
    assert done.returncode == -signal.SIGTERM
