"""Calibration of probabilities, compared with scikit-learn."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from alljax.evaluation.calibration import calibration
from alljax.evaluation.intervals import HeldOut, Jackknife

Clustered = Callable[..., HeldOut]


def slope(labels: np.ndarray, shares: np.ndarray, weights: np.ndarray | None = None) -> float:
    odds = np.log(shares / (1 - shares))
    return LogisticRegression(C=np.inf, tol=1e-9).fit(odds[:, None], labels, weights).coef_.item()


def test_numbers_are_those_of_scikit_learn(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(0), (20, 25), seeds=2, decimals=6)
    found, labels, shares = calibration(test, 0.95), np.tile(test.labels, 2), test.probabilities[..., 1].ravel()
    observed, means = calibration_curve(labels, shares, n_bins=10, strategy="quantile")
    counts = np.array([one["count"] for one in found["bins"]])
    assert [one["observed"] for one in found["bins"]] == pytest.approx(observed)
    assert [one["mean"] for one in found["bins"]] == pytest.approx(means)
    assert counts.sum() == len(test.labels)
    assert found["ece"] == pytest.approx(np.average(np.abs(observed - means), weights=counts))
    assert found["slope"] == pytest.approx(slope(labels, shares), rel=1e-4)
    assert set(found["intervals"]) == {"slope", "intercept", "ece", "brier", "brier_scaled"}
    jackknife, without = Jackknife.of(test), [found["slope"]]
    for unit in jackknife.units:
        rows = np.tile(test.subjects != unit, 2)
        weights = np.bincount(labels) / np.bincount(labels[rows])  # the share of each class stays
        without.append(slope(labels[rows], shares[rows], weights[labels[rows]]))
    expected = jackknife.interval(np.array(without), 0.95, limits=None)
    assert found["intervals"]["slope"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("factor", [0.5, 1, 3])
def test_slope_is_the_inverse_of_a_factor_on_the_log_odds(factor: float) -> None:
    generator = np.random.default_rng(1)
    odds = generator.normal(size=20_000)
    labels = (generator.random(20_000) < 1 / (1 + np.exp(-odds))).astype(int)
    positive = 1 / (1 + np.exp(-factor * odds - 0.7))
    test = HeldOut(labels, np.stack([1 - positive, positive], 1)[None], (np.arange(20_000) % 50).astype(str))
    found = calibration(test, 0.95)
    assert found["slope"] == pytest.approx(1 / factor, rel=0.06)
    low, high = found["intervals"]["intercept"]
    assert low < -0.7 / factor < high
    assert (found["ece"] > 0.1) == (factor != 1) or factor == 1


def test_undefined_slopes_are_left_out(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(2), (4, 4, 4))
    several = calibration(test, 0.95)
    assert several["slope"] is None
    right = test.probabilities[0].argmax(1) == test.labels
    shares = test.probabilities[0].max(1) / test.probabilities[0].sum(1)
    assert np.average(
        [one["observed"] for one in several["bins"]], weights=[one["count"] for one in several["bins"]]
    ) == (pytest.approx(right.mean()))
    assert several["bins"][-1]["mean"] <= shares.max()
    two = replace(test, labels=test.labels.clip(max=1), probabilities=np.eye(2)[test.labels.clip(max=1)][None])
    assert calibration(two, 0.95)["intercept"] is None, "perfect predictions"
