import math

import numpy as np
import pytest

from alljax.paper import noise
from alljax.paper.noise import Estimate


def history(ends: list[float], epochs: int = 3) -> dict[str, np.ndarray]:
    rows = [(epoch, end - 0.1 * (epochs - epoch)) for end in ends for epoch in range(1, epochs + 1)]
    epoch, accuracy = np.array(rows, float).T
    return {"epoch": epoch, "train_accuracy": accuracy}


def wilson(p: float, n: int) -> tuple[float, float]:
    """The interval as its formula stands in textbooks."""
    z = 1.959964
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)


def test_training_accuracy_is_the_mean_of_last_epochs_and_its_noise_follows_the_formula() -> None:
    ends = (0.80, 0.82, 0.87)
    found = noise.training(history([*ends]), trials=8300, level=0.95)
    p = sum(ends) / 3
    s = math.sqrt(sum((x - p) ** 2 for x in ends) / 2)
    low, high = wilson(round(p * 8300) / 8300, 8300)
    assert found.value == pytest.approx(p)
    assert found.low == pytest.approx(p - math.hypot(p - low, 1.959964 * s))
    assert found.high == pytest.approx(p + math.hypot(high - p, 1.959964 * s))


def test_one_run_has_no_spread_and_wilson_alone() -> None:
    found = noise.training(history([0.9], epochs=1), trials=100, level=0.95)
    assert (found.low, found.high) == pytest.approx(wilson(0.9, 100))


def test_all_right_is_no_certainty() -> None:
    found = noise.training(history([1.0]), trials=400, level=0.95)
    assert found.high == 1
    assert found.low == pytest.approx(wilson(1.0, 400)[0])


def test_runs_that_ended_early_end_where_they_ended() -> None:
    long, short = history([0.9], 5), history([0.7], 2)
    both = {key: np.concatenate([long[key], short[key]]) for key in long}
    assert noise.training(both, 100, 0.95).value == pytest.approx(0.8)


def test_ranges_that_touch_agree_and_others_do_not() -> None:
    ours = Estimate(0.85, 0.83, 0.87)
    assert ours.agrees(0.825, 0.005)  # up to .83
    assert ours.agrees(0.875, 0.005)
    assert not ours.agrees(0.82, 0.005)
    assert not ours.agrees(0.88, 0.005)
    assert Estimate(0.85).agrees(0.85, 0.005) is None


def test_verdicts_are_counted() -> None:
    ours = Estimate(0.85, 0.83, 0.87)
    entries = [noise.difference(one, published, 0.005, "+0.01")
               for one in (ours, Estimate(0.85)) for published in (0.86, 0.70)]  # fmt: skip
    assert [entry.note for entry in entries] == ["within the noise", "beyond the noise", "no interval", "no interval"]
    assert entries[1].number == pytest.approx(0.15)
    assert noise.tally(entries) == (1, 2)
