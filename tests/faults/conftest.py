"""Faults during `alljax study --config=configs/finetune.py:toy`.

Whatever happens to it, the same command started again must end with the same bits as `reference`, a run without faults:
parameters, history.csv, predictions.csv, and metrics.jsonl except for the speed.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from processes import TOY, Process, Start, finish, start, start_study

from alljax import files

__all__ = ["start"]
TRIAL = "trials/efficientnet_lite0-adam"


class Toy:
    """The toy study in a folder."""

    def __init__(self, folder: Path, start: Start = start_study) -> None:
        self.folder, self._start = folder, start
        self.run = folder / TRIAL / "runs" / "0-0-0"
        self.checkpoints = self.run / "checkpoints"

    def start(self, *words: str) -> Process:
        return self._start(self.folder, *TOY, *words)

    def saved(self) -> set[int]:
        """Returns the steps of complete checkpoints."""
        try:
            return {int(path.name) for path in self.checkpoints.iterdir() if path.name.isdecimal()}
        except FileNotFoundError:
            return set()

    def outcome(self) -> dict[str, Any]:
        """Returns the results that must not depend on faults."""
        names = ("checkpoint/parameters.npz", "history.csv", "predictions.csv")
        found = {name: files.sha256(self.folder / TRIAL / name) for name in names}
        lines = map(json.loads, (self.run / "metrics.jsonl").read_text().splitlines())
        return found | {"logged": [line | {"images_per_second": 0} for line in lines]}


@pytest.fixture
def toy(start: Start, tmp_path: Path) -> Toy:
    return Toy(tmp_path / "toy", start)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of a run without faults."""
    toy = Toy(tmp_path_factory.mktemp("faults") / "reference")
    finish(toy.start())
    return toy.outcome()
