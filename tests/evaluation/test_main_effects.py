import numpy as np
import pytest

from alljax.evaluation.intervals import HeldOut, evaluate
from alljax.evaluation.main_effects import main_effects, signal_to_noise
from alljax.study.designs import orthogonal_array


def test_effects_of_a_textbook() -> None:
    """M. S. Phadke, Quality Engineering Using Robust Design (1989), chapter 3: surface defects of polysilicon."""
    ratios = np.array([-20.0, -10, -30, -25, -45, -65, -45, -65, -70])
    found = main_effects(np.array(orthogonal_array("L9")), ratios[:, None])
    means = [[-20, -45, -60], [-30, -40, -55], [-50, -35, -40], [-45, -40, -40]]
    np.testing.assert_allclose(np.array(found.effects)[..., 0] + ratios.mean(), means)
    assert found.shares == pytest.approx([2450 / 3800, 950 / 3800, 350 / 3800, 50 / 3800])
    assert found.best == (0, 0, 1, 1)
    two = main_effects(np.array(orthogonal_array("L9"))[:, :2], ratios[:, None])
    assert two.predicted == pytest.approx(-8.333, abs=1e-3)


def test_signal_to_noise_is_over_seeds_and_folds_without_each_subject() -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat([f"s{number:02}" for number in range(12)], 5)
    labels, folds = np.repeat(np.arange(12) % 2, 5), np.repeat(np.arange(12) // 4, 5)
    probabilities = generator.dirichlet((2, 2), (3, 60)) + 0.5 * np.eye(2)[labels]
    probabilities /= probabilities.sum(-1, keepdims=True)

    def expected(kept: np.ndarray) -> float:
        pairs = [(seed, kept & (folds == fold)) for seed in range(3) for fold in range(3)]
        values = [evaluate(labels[rows], probabilities[seed, rows])["auc"] for seed, rows in pairs]
        return float(-10 * np.log10(np.mean(np.array(values) ** -2.0)))

    found = signal_to_noise(HeldOut(labels, probabilities, subjects, folds), "auc")
    assert found[0] == pytest.approx(expected(np.ones(60, bool)))
    assert found[1:] == pytest.approx([expected(subjects != name) for name in np.unique(subjects)])
