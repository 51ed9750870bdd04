"""SIGTERM and SIGUSR1: the run saves its progress and ends with code 0; the same command resumes it."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from faults.conftest import CONFIGS, PATIENCE, Toy, wait


def test_stopped_run_resumes_to_the_same_bits(reference: dict[str, Any], tmp_path: Path) -> None:
    toy = Toy(tmp_path / "toy")
    process = toy.start()
    assert wait(process, lambda: any(step >= 8 for step in toy.saved())), process.communicate()[0]
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    stopped = re.search(r"^alljax: stopped after step (\d+) of \d+, saved in .*", output, re.M)
    assert stopped
    assert "Traceback" not in output
    assert int(stopped[1]) in toy.saved()
    refused = toy.start("--config.train.learning_rate=0.01")
    output, _ = refused.communicate(timeout=PATIENCE)
    assert refused.returncode == 2
    assert "train.learning_rate: 0.001 → 0.01" in output
    assert "--resume=force" in output
    assert f"resuming after step {stopped[1]}" in toy.finish()
    assert toy.outcome() == reference


def test_study_of_heads_resumes_with_the_missing_trials(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "alljax.cli", "study", f"--config={CONFIGS / 'paper.py'}:toy", f"--workdir={tmp_path}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert wait(process, lambda: any(tmp_path.glob("trials/*/metrics.json"))), process.communicate()[0]
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert re.search(r"^alljax: stopped.*; the same command resumes the run$", output, re.M)
    assert not (tmp_path / "report.html").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/metrics.json")}
    subprocess.run(command, capture_output=True, check=True)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list(tmp_path.glob("trials/*/metrics.json"))) == len(json.loads((tmp_path / "trials.json").read_text()))
