"""Asked to stop (SIGTERM), a run saves itself, says so and ends well; the same command goes on to the same bits."""

import re
import shutil
from pathlib import Path
from typing import Any

from faults.conftest import Toy


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
