"""Asked to stop (SIGTERM), a run saves itself, says so and ends well; the same command goes on to the same bits."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from faults.conftest import CELL, PATIENCE, REPOSITORY, Toy, wait


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
    assert f"resuming after step {step}" in again.finish()
    assert again.outcome() == undisturbed


def test_stopped_before_and_after_the_training(reference: Toy, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """There is nothing to save then; launch/ still has to know that the work is not done."""
    toy = reference.at(tmp_path / "toy")
    for place in (toy.folder / "config.json", toy.folder / "trials" / CELL / "metrics.json"):
        process = toy.start()
        assert wait(process, place.is_file)
        process.send_signal(signal.SIGUSR1)
        code, said = toy.ended(process)
        assert code == 0, said
        assert re.search(r"^alljax: stopped .*; the same command goes on from there$", said, re.M)
        assert not (toy.folder / "report.html").exists()
    toy.finish()
    assert toy.outcome() == undisturbed


def test_a_study_of_heads_goes_on_with_the_models_that_are_missing(tmp_path: Path) -> None:
    """As a task of a job array does that Slurm stops ahead of time."""
    command = [
        sys.executable, "-m", "alljax.cli", "study", f"--config={REPOSITORY / 'configs/paper.py'}:toy",
        f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert wait(process, lambda: any(tmp_path.glob("run/cells/*/metrics.json")))
    process.send_signal(signal.SIGUSR1)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert re.search(r"^alljax: stopped between runs.*; the same command goes on from there$", said, re.M)
    assert not (tmp_path / "run/report.html").exists()
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "done before" in said
    assert len(list(tmp_path.glob("run/cells/*/metrics.json"))) == 32
