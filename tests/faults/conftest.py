"""Faults during `alljax study --config=configs/finetune.py:toy`, run as its own process.

Whatever happens to it, the same command started again must end with the same bits as `reference`, a run without faults:
parameters, history.csv, predictions.csv, and metrics.jsonl except for the speed.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from alljax.training import checkpoints

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TOY = [f"--config={CONFIGS / 'finetune.py'}:toy", "--config.evaluation.resamples=100"]
TRIAL = "trials/efficientnet_lite0-adam"
PATIENCE = 300.0
"""Seconds after which a test fails because nothing happens."""


class Toy:
    """The toy study in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / TRIAL / "runs" / "0-0-0"
        self.checkpoints = self.run / "checkpoints"

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "alljax.cli", "study", *TOY, f"--workdir={self.folder}", *words],
            env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, *words: str) -> str:
        """Runs to the end and returns the output."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return output

    def saved(self) -> set[int]:
        """Returns the steps of complete checkpoints."""
        try:
            names = json.loads((self.checkpoints / checkpoints.CHECKSUMS).read_text())
        except FileNotFoundError:
            return set()
        return {int(name.split("/")[0]) for name in names}

    def outcome(self) -> dict[str, Any]:
        """Returns the results that must not depend on faults."""
        parameters = hashlib.sha256()
        for path, leaf in jax.tree.leaves_with_path(checkpoints.load(self.folder / TRIAL / "checkpoint")):
            parameters.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
            parameters.update(np.ascontiguousarray(leaf).tobytes())
        lines = map(json.loads, (self.run / "metrics.jsonl").read_text().splitlines())
        logged = [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]
        tables = {name: (self.folder / TRIAL / name).read_text() for name in ("history.csv", "predictions.csv")}
        return {"parameters": parameters.hexdigest(), "logged": logged, **tables}


def wait(process: subprocess.Popen[str], condition: Callable[[], bool]) -> bool:
    """Waits for a condition; returns False if the process ends first."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    process.kill()
    pytest.fail(f"nothing happened for {PATIENCE:g} s: {process.communicate()[0]}")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of a run without faults."""
    toy = Toy(tmp_path_factory.mktemp("faults") / "reference")
    toy.finish()
    return toy.outcome()
