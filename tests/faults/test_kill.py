"""SIGKILL at any moment, also during a save: the same command ends with the same bits."""

import contextlib
import subprocess
from typing import Any

import numpy as np
import pytest
from faults.conftest import Toy
from processes import finish, wait_for


def check(reference: dict[str, Any], toy: Toy, moments: list[str], seed: int) -> None:
    """Kills a run once per moment, restarting it, and compares its results at the end."""
    generator = np.random.default_rng(seed)
    for moment in moments:
        before, process = toy.saved(), toy.start()
        condition, delay = {
            "training": (lambda before=before: bool(toy.saved() - before), generator.uniform(0, 1)),
            "saving": (lambda: any(toy.checkpoints.glob("*.orbax-checkpoint-tmp")), 0.0),
            "finishing": (lambda: any(toy.run.glob("result*")), generator.uniform(0, 0.2)),
            "anywhere": (lambda: True, generator.uniform(0, 12)),
        }[moment]
        if wait_for(condition, process, may_end=True):  # type: ignore[arg-type]
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=delay)
            process.kill()
        process.wait()
        finish(process, code=min(process.returncode, 0) and -9)
    finish(toy.start())
    assert toy.outcome() == reference
    assert not toy.checkpoints.exists()


def test_killed_run_resumes_to_the_same_bits(toy: Toy, reference: dict[str, Any]) -> None:
    check(reference, toy, ["saving", "training", "finishing"], seed=0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_at_random_moments(seed: int, toy: Toy, reference: dict[str, Any]) -> None:
    moments = np.random.default_rng(100 + seed).choice(["training", "saving", "finishing", "anywhere"], 5)
    check(reference, toy, list(moments), seed)
