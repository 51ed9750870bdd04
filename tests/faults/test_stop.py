"""Asked to stop (SIGTERM), a run saves itself, says so and ends well; the same command goes on to the same bits."""

import re
import shutil
import signal
from pathlib import Path
from typing import Any

from faults.conftest import CELL, Toy, wait


def test_stopped_and_gone_on(stopped: tuple[Toy, str], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    toy, said = stopped
    told = re.search(r"^alljax: stopped after step (\d+) of 36, saved in .*; the same command goes on", said, re.M)
    assert told
    assert "Traceback" not in said
    step = int(told[1])
    assert str(step) in toy.saved()
    assert step >= 8
    again = toy.at(tmp_path / "again")
    shutil.copytree(toy.folder, again.folder)
    assert f"goes on after step {step}" in again.finish()
    assert again.outcome() == undisturbed


def test_stopped_before_and_after_the_training(reference: Toy, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """There is nothing to save then; launch/ still has to know that the work is not done."""
    toy = reference.at(tmp_path / "toy")
    for place in (toy.folder / "config.json", toy.folder / "cells" / CELL / "metrics.json"):
        process = toy.start()
        assert wait(process, place.is_file)
        process.send_signal(signal.SIGUSR1)
        code, said = toy.ended(process)
        assert code == 0, said
        assert re.search(r"^alljax: stopped .*; the same command goes on from there$", said, re.M)
        assert not (toy.folder / "report.html").exists()
    toy.finish()
    assert toy.outcome() == undisturbed
