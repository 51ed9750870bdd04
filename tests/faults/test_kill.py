"""SIGKILL at any moment, saves included: the same command ends in the same bits."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.conftest import Toy

from alljax.training import checkpoints

LEARNING, SAVING, FINISHING, ANYWHERE = "while it learns", "while it saves", "when it has learned", "anywhere"


def kill_again_and_again(reference: Toy, folder: Path, moments: list[str], seed: int) -> Iterator[Toy]:
    """Kills one process a moment; yields each run that came to its end, the last one after no more kills."""
    generator = np.random.default_rng(seed)
    number, toy, killed = 0, reference.at(folder / "0"), 0
    while killed < len(moments):
        moment, before, process = moments[killed], toy.saved(), toy.start()
        if moment == SAVING:
            done = toy.kill(process, lambda toy=toy: any(toy.checkpoints.glob("*.orbax-checkpoint-tmp")))
        elif moment == LEARNING:
            new = lambda toy=toy, before=before: bool(toy.saved() - before)  # noqa: E731
            done = toy.kill(process, new, delay=float(generator.uniform(0, 1)))
        elif moment == FINISHING:
            result = toy.run / "result"
            done = toy.kill(process, partial(checkpoints.is_saved, result), delay=float(generator.uniform(0, 0.2)))
        else:
            done = toy.kill(process, lambda: True, delay=float(generator.uniform(0, 12)))
        killed += done
        if not done:
            yield toy
            number += 1
            toy = reference.at(folder / str(number))
    toy.finish()
    yield toy


def check(reference: Toy, undisturbed: dict[str, Any], folder: Path, moments: list[str], seed: int) -> None:
    ended = 0
    for toy in kill_again_and_again(reference, folder, moments, seed):
        assert toy.outcome() == undisturbed
        assert not toy.checkpoints.exists()
        ended += 1
    assert ended


def test_killed_five_times(reference: Toy, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    check(reference, undisturbed, tmp_path, [SAVING, LEARNING, ANYWHERE, SAVING, FINISHING], seed=0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_at_25_random_moments(seed: int, reference: Toy, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """Five at a time."""
    generator = np.random.default_rng(100 + seed)
    moments = [LEARNING, SAVING, *generator.choice([LEARNING, SAVING, FINISHING, ANYWHERE], 3)]
    check(reference, undisturbed, tmp_path, moments, seed)
