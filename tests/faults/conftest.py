"""What may happen to a run while it learns, done to a real one.

`alljax study --config=configs/finetune.py:toy` (generated cells, the second stage of EfficientNet-Lite0 really
fine-tuned, a checkpoint every four steps) is started as a process of its own, and killed, asked to stop, left without
disk space, given a damaged checkpoint, another config or another number of devices. Where the devices stay the same,
the same command started again must end in the same bits as `reference`, the run that nobody disturbed: parameters,
history.csv and predictions.csv, and metrics.jsonl but for the images per second.

The processes share a compilation cache of JAX, which `reference` fills: a start takes seconds instead of ten, and that
a run on cached code ends in the bits of one that compiled it is tested with the rest.

    pytest tests/faults -m "not long"     five kills, two minutes on two cores
    pytest tests/faults -m long           25 kills at random moments
"""

import contextlib
import hashlib
import json
import os
import signal
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

REPOSITORY = Path(__file__).resolve().parents[2]
TOY = [f"--config={REPOSITORY / 'configs/finetune.py'}:toy", "--config.evaluation.resamples=100"]
CELL = "efficientnet_lite0-adam"
PATIENCE = 180.0
"""Seconds after which a test says that nothing happened."""


class Toy:
    """The toy in a folder of its own, started as often as one likes."""

    def __init__(self, folder: Path, cache: Path, devices: int = 1) -> None:
        self.folder, self.devices = folder, devices
        self.run = folder / "trials" / CELL / "runs" / "0-0-0"
        self.checkpoints = self.run / "checkpoints"
        self._environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_PLATFORMS": "cpu",
        }
        self._cache = cache

    def at(self, folder: Path, devices: int | None = None) -> "Toy":
        """Returns the toy in another folder, or on other devices."""
        return Toy(folder, self._cache, devices or self.devices)

    def start(self, *more: str) -> subprocess.Popen[str]:
        flags = f"--xla_force_host_platform_device_count={self.devices}"
        return subprocess.Popen(
            [sys.executable, "-m", "alljax.cli", "study", *TOY, f"--workdir={self.folder}", *more],
            env=self._environment | {"XLA_FLAGS": flags}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def finish(self, *more: str) -> str:
        """Runs to the end and returns what was said."""
        code, said = self.ended(self.start(*more))
        assert code == 0, said
        return said

    def ended(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        said, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    def saved(self) -> set[str]:
        """Returns the steps whose checkpoints are whole."""
        try:
            names = json.loads((self.checkpoints / checkpoints.CHECKSUMS).read_text())
        except FileNotFoundError:
            return set()
        return {name.split("/")[0] for name in names}

    def kill(self, process: subprocess.Popen[str], when: Callable[[], bool], delay: float = 0.0) -> bool:
        """Kills the process `delay` seconds after `when`; False if it ended before."""
        if wait(process, when):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=delay)
            process.kill()
        code, said = self.ended(process)
        assert code in (0, -signal.SIGKILL), said
        return code != 0

    def stop_after(self, steps: int, *more: str) -> str:
        """Starts, asks the run to stop when a checkpoint of `steps` or more is whole, and returns what was said."""
        process = self.start(*more)
        assert wait(process, lambda: any(int(step) >= steps for step in self.saved()))
        process.send_signal(signal.SIGTERM)
        code, said = self.ended(process)
        assert code == 0, said
        return said

    def outcome(self) -> dict[str, Any]:
        """Returns what must not depend on what happened: hashes of parameters and tables, and the logged numbers."""
        cell = self.folder / "trials" / CELL
        leaves = jax.tree.leaves_with_path(checkpoints.load(cell / "checkpoint"))
        parameters = hashlib.sha256()
        for path, leaf in leaves:
            parameters.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
            parameters.update(np.ascontiguousarray(leaf).tobytes())
        tables = {name: (cell / name).read_text() for name in ("history.csv", "predictions.csv")}
        return {"arrays": len(leaves), "parameters": parameters.hexdigest(), "logged": self.logged()} | tables

    def logged(self) -> list[dict[str, float]]:
        lines = map(json.loads, (self.run / "metrics.jsonl").read_text().splitlines())
        return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def wait(process: subprocess.Popen[str], when: Callable[[], bool]) -> bool:
    """Waits until `when`; False if the process ends before."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if when():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    process.kill()
    pytest.fail(f"nothing happened for {PATIENCE:g} s: {process.communicate()[0]}")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The run that nobody disturbed, on one device."""
    toy = Toy(tmp_path_factory.mktemp("faults") / "reference", tmp_path_factory.mktemp("compiled"))
    toy.finish()
    return toy


@pytest.fixture(scope="session")
def undisturbed(reference: Toy) -> dict[str, Any]:
    """What `reference` left."""
    return reference.outcome()


@pytest.fixture(scope="session")
def stopped(reference: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, str]:
    """A run that was asked to stop in the middle, and what it said; to be copied, not touched."""
    toy = reference.at(tmp_path_factory.mktemp("faults") / "stopped")
    return toy, toy.stop_after(8)
