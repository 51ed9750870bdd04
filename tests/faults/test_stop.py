"""SIGTERM and SIGUSR1: the run saves its progress and ends with code 0; the same command resumes it."""

import re
import signal
from typing import Any

from faults.conftest import Toy
from processes import finish, wait_for


def test_stopped_run_resumes_to_the_same_bits(toy: Toy, reference: dict[str, Any]) -> None:
    process = toy.start()
    wait_for(lambda: any(step >= 8 for step in toy.saved()), process)
    process.send_signal(signal.SIGTERM)
    output = finish(process)
    stopped = re.search(r"^alljax: stopped after step (\d+) of \d+, saved in .*; the same command", output, re.M)
    assert stopped
    assert "Traceback" not in output
    assert int(stopped[1]) in toy.saved()
    assert not (toy.folder / "report.html").exists()
    output = finish(toy.start("--config.train.learning_rate=0.01"), code=2)
    assert "train.learning_rate: 0.001 → 0.01" in output
    assert "--resume=force" in output
    assert f"resuming after step {stopped[1]}" in finish(toy.start())
    assert toy.outcome() == reference
