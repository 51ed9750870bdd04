"""SIGKILL at any moment, also during a save: the same command ends with the same bits."""

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.conftest import PATIENCE, Toy, wait


def check(reference: dict[str, Any], folder: Path, moments: list[str], seed: int) -> None:
    """Kills a run once per moment, restarting it, and compares its results at the end."""
    generator, toy = np.random.default_rng(seed), Toy(folder / "toy")
    for moment in moments:
        before, process = toy.saved(), toy.start()
        condition, delay = {
            "training": (lambda before=before: bool(toy.saved() - before), generator.uniform(0, 1)),
            "saving": (lambda: any(toy.checkpoints.glob("*.orbax-checkpoint-tmp")), 0.0),
            "finishing": (lambda: any(toy.run.glob("result*")), generator.uniform(0, 0.2)),
            "anywhere": (lambda: True, generator.uniform(0, 12)),
        }[moment]
        if wait(process, condition):  # type: ignore[arg-type]
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=delay)
            process.kill()
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode in (0, -9), output
    toy.finish()
    assert toy.outcome() == reference
    assert not toy.checkpoints.exists()


def test_killed_run_resumes_to_the_same_bits(reference: dict[str, Any], tmp_path: Path) -> None:
    check(reference, tmp_path, ["saving", "training", "finishing"], seed=0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_at_random_moments(seed: int, reference: dict[str, Any], tmp_path: Path) -> None:
    moments = np.random.default_rng(100 + seed).choice(["training", "saving", "finishing", "anywhere"], 5)
    check(reference, tmp_path, list(moments), seed)
