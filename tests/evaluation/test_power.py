"""Subjects needed, against designs whose variance components are known."""

import numpy as np
import pytest

from alljax.evaluation import power
from alljax.evaluation.intervals import HeldOut, summarize

METRIC = "macro_recall"


def draw(generator: np.random.Generator, subjects: int, better: float = 0.0) -> tuple[HeldOut, HeldOut]:
    """Two models on 10 images each of new subjects of two classes; half of the subjects are easy, the others hard.

    The models agree on the easiness; the share of correct images of the first one is higher by `better`.
    """
    labels, owner = np.repeat([0, 1], subjects * 10), np.repeat(np.arange(2 * subjects), 10)
    rate = generator.choice([0.6, 0.9], 2 * subjects)[owner]
    tests = []
    for of_model in (rate + better / 2, rate - better / 2):
        positive = np.where((generator.random(len(labels)) < of_model) == (labels == 1), 0.9, 0.1)
        tests.append(HeldOut(labels, np.stack([1 - positive, positive], -1)[None], owner))
    return tests[0], tests[1]


def names(test: HeldOut) -> np.ndarray:
    return np.array([f"{row:06}" for row in range(len(test.labels))])


def test_components_are_those_of_the_design() -> None:
    one, other = draw(np.random.default_rng(0), 2000)
    within = (0.6 * 0.4 + 0.9 * 0.1) / 2 / 4  # the metric is half of each recall
    for part in power.components(one, names(one), METRIC):
        assert (part.between, part.within) == pytest.approx((0.15**2 / 4, within), rel=0.1)
    for part in power.components(one, names(one), METRIC, other):
        assert part.between == pytest.approx(0, abs=5e-4), "the subjects are as hard for both"
        assert part.within == pytest.approx(2 * within, rel=0.1)
    repeated = HeldOut(*(np.concatenate([part, part], axis) for part, axis in (
        (one.labels, 0), (one.probabilities, 1), (one.subjects, 0))))  # fmt: skip
    for part, twice in zip(*(power.components(test, np.resize(names(one), len(test.labels)), METRIC)
                             for test in (one, repeated)), strict=True):  # fmt: skip
        assert (part.between, part.within) == pytest.approx((twice.between, twice.within)), "a split with repeats"


@pytest.mark.parametrize("share", [0.0, 0.8])
def test_new_studies_reach_the_goal(share: float) -> None:
    """Drawn from the population; the simulation in the command resamples the subjects of one study instead."""
    generator = np.random.default_rng(1)
    one, other = draw(generator, 100)
    goal, minus = power.Goal(0.05, 0.95, share), other if share else None
    subjects = power.subjects_needed(power.components(one, names(one), METRIC, minus), goal)
    assert subjects
    reached = []
    for _ in range(300):
        new, rival = draw(generator, subjects, goal.difference)
        low, high = summarize(new, 0.95, [METRIC], rival if share else None)["intervals"][METRIC]
        reached.append(low > 0 if share else (high - low) / 2)
    simulated = power.simulate(one, METRIC, goal, subjects, minus)
    assert np.mean(reached) == pytest.approx(share or goal.difference, abs=0.06 if share else 0.006)
    assert simulated == pytest.approx(share or goal.difference, abs=0.08 if share else 0.006)


def test_number_of_images_matters_as_far_as_images_of_a_subject_differ() -> None:
    one, other = draw(np.random.default_rng(2), 60)
    single, paired = (power.components(one, names(one), METRIC, minus) for minus in (None, other))

    def needed(parts: list[power.Components], images: int) -> int:
        return power.subjects_needed(parts, power.Goal(0.05, 0.95, 0.8), images) or 0

    assert needed(single, 0) == pytest.approx(needed(single, 10), rel=0.1)
    assert needed(paired, 20) < 0.65 * needed(paired, 10), "images of a subject are nearly independent"
    assert needed(single, 1000) > 0.5 * needed(single, 10), "subjects differ: more images of the same help little"
    same = power.components(one, names(one), METRIC, one)
    assert power.subjects_needed(same, power.Goal(0.05, 0.95, 0.8)) is None, "two equal models"
    assert power.simulate(one, METRIC, power.Goal(0.05, 0.95), 20_000) is None, "too many images"
