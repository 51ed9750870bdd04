"""Thresholds and temperatures against direct computations."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from alljax.data.splits import Fold
from alljax.evaluation.calibration import (
    TARGETS,
    fit_temperature,
    fit_threshold,
    fit_thresholds,
    operating_points,
    scale,
)
from alljax.evaluation.intervals import HeldOut
from alljax.study.inner_folds import INNER, OTHERS, tune

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 2, 400)
SCORES = np.round(1 / (1 + np.exp(-RNG.normal(2 * LABELS - 1, 1.5))), 2)  # with ties
PROBABILITIES = np.stack([1 - SCORES, SCORES], axis=1)
FOLDS = np.arange(400) % 4


def rates(positive: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    return positive[labels == 1].mean(), 1 - positive[labels == 0].mean()


@pytest.mark.parametrize(("target", "value"), TARGETS)
def test_threshold_reaches_the_target_with_the_best_other_rate(target: str, value: float) -> None:
    found = rates(fit_threshold(LABELS == 1, SCORES, target, value) <= SCORES, LABELS)
    every = [rates(threshold <= SCORES, LABELS) for threshold in (*np.unique(SCORES), 2)]
    first = int(target == "specificity")
    assert found[first] >= value
    assert found[1 - first] == max(pair[1 - first] for pair in every if pair[first] >= value)


def test_threshold_above_all_scores_is_finite() -> None:
    threshold = fit_threshold(np.array([True, False]), np.array([0.3, 0.6]), "specificity", 0.9)
    assert 0.6 < threshold < 0.61


def test_operating_points() -> None:
    """The thresholds of each fold are applied to its images; predictive values follow from Bayes' rule."""
    images = np.arange(400) // 2  # two heads for each image
    labels = LABELS[::2].repeat(2)
    points = fit_thresholds(labels, PROBABILITIES, FOLDS, images)
    mean = SCORES.reshape(-1, 2).mean(1)
    for point in points:
        arguments = point["target"], point["value"]
        expected = [fit_threshold(labels[fold == FOLDS] == 1, SCORES[fold == FOLDS], *arguments) for fold in range(4)]
        assert point["thresholds"] == expected
        assert point["threshold"] == fit_threshold(labels[::2] == 1, mean, *arguments)
    test = HeldOut(LABELS, np.stack([PROBABILITIES, PROBABILITIES[:, ::-1]]), np.arange(400) // 8 * 2 + LABELS, FOLDS)
    (point, *_) = operating_points(test, FOLDS, points, 0.95)
    thresholds = np.array(points[0]["thresholds"])[FOLDS]
    sensitivity, specificity = np.mean([rates(scores >= thresholds, LABELS) for scores in (SCORES, 1 - SCORES)], axis=0)
    assert (point["sensitivity"], point["specificity"]) == pytest.approx((sensitivity, specificity))
    low, high = point["intervals"]["sensitivity"]
    assert low < sensitivity < high
    share, predicted = LABELS.mean(), point["ppv_npv"]
    position = predicted["prevalence"].index(share)
    expected = sensitivity * share / (sensitivity * share + (1 - specificity) * (1 - share))
    assert predicted["ppv"][position] == pytest.approx(expected)
    low, high = predicted["intervals"]["npv"][position]
    assert low < predicted["npv"][position] < high
    assert operating_points(replace(test, labels=LABELS * 0), FOLDS, points, 0.95) == []
    assert fit_thresholds(labels, np.ones((400, 3)) / 3, FOLDS, images) == []


def test_temperature_undoes_overconfidence() -> None:
    logits = RNG.normal(size=(20_000, 3))
    labels = (softmax(logits, axis=1).cumsum(1) < RNG.random((20_000, 1))).sum(1)
    found = fit_temperature(labels, softmax(3 * logits, axis=1))
    assert found == pytest.approx(3, rel=0.05)
    grid = np.linspace(2.5, 3.5, 51)
    losses = [log_loss(labels, softmax(3 * logits / temperature, axis=1)) for temperature in grid]
    assert found == pytest.approx(grid[np.argmin(losses)], abs=0.02)
    np.testing.assert_allclose(scale(softmax(3 * logits, axis=1), np.full((20_000, 1), 3.0)), softmax(logits, axis=1))


def test_tuning_on_other_folds() -> None:
    """Of the same repeat, where a fold has no inner folds; on nothing where there is one fold."""
    rows = np.arange(400)
    folds = [Fold(repeat, fold, rows, rows[fold::2]) for repeat in range(2) for fold in range(2)]
    tested = [PROBABILITIES[fold.test] for fold in folds]
    found = tune(folds, (), [], tested, LABELS)
    assert found["tuned_on"] == OTHERS
    expected = [fit_temperature(LABELS[other::2], PROBABILITIES[other::2]) for other in (1, 0, 1, 0)]
    assert found["fold_temperatures"] == pytest.approx(expected)
    inner = tuple((Fold(0, 0, rows, rows[:200]), Fold(0, 0, rows, rows[200:])) for _ in folds)
    found = tune(folds, inner, [PROBABILITIES[:200], PROBABILITIES[200:]] * 4, tested, LABELS)
    assert found["tuned_on"] == INNER
    assert found["fold_temperatures"] == [found["temperature"]] * 4
    assert tune(folds[:1], (), [], tested[:1], LABELS)["temperature"] is None
