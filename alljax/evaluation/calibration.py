"""Calibration: whether images with a predicted probability of 0.8 are of that class in 80 of 100 cases."""

from typing import Any

import numpy as np

from alljax.evaluation.intervals import HeldOut, Jackknife, summarize
from alljax.evaluation.metrics import losses

BINS = 10  # of the reliability diagram, with equally many images each


def calibration(test: HeldOut, level: float) -> dict[str, Any]:
    """Returns how well the probabilities of the heads of all seeds together are calibrated, with ``intervals``.

    With two classes the probability is that of class 1; with more, that of the predicted class, and what is observed
    is whether it is the true one (C. Guo et al., On Calibration of Modern Neural Networks, 2017). ``slope`` and
    ``intercept`` are those of the logistic regression of the class on the log-odds (D. R. Cox, 1958): 1 and 0 if
    calibrated; None for more than two classes, or if the log-odds separate them. ``ece``, the expected calibration
    error, is the mean over ``bins`` of the difference of mean probability and observed share.
    """
    seeds, images, classes = test.probabilities.shape
    probabilities = np.asarray(test.probabilities, np.float64)
    probabilities = probabilities / probabilities.sum(2, keepdims=True)  # a copy: those of the study stay
    if classes == 2:
        shown, observed = probabilities[..., 1].ravel(), np.tile(test.labels == 1, seeds)
    else:
        shown, observed = probabilities.max(2).ravel(), (probabilities.argmax(2) == test.labels).ravel()
    place = np.searchsorted(np.quantile(shown, np.linspace(0, 1, BINS + 1)[1:-1]), shown)
    counts = np.bincount(place, minlength=BINS)
    jackknife, found = Jackknife.of(test), summarize(test, level, ("brier", "brier_scaled"))
    excess = (place == np.arange(BINS)[:, None]) * (shown - observed)
    errors = jackknife.sums(test, excess.reshape(BINS, seeds, images).sum(1)).sum(1)
    values, limits = {"ece": np.abs(errors).sum(0) / len(shown)}, {"ece": (0.0, 1.0)}
    if classes == 2:
        values |= _recalibration(test, jackknife, shown, observed)
    for name, value in values.items():
        if interval := jackknife.interval(value, level, limits.get(name)):
            found["intervals"][name] = list(interval)
    sums = [np.bincount(place, weights, BINS) for weights in (shown, observed)]
    return {
        **dict.fromkeys(("slope", "intercept")),
        **{name: float(value[0]) for name, value in values.items()},
        **found,
        "bins": [
            {"mean": float(mean / count), "observed": float(share / count), "count": float(count / seeds)}
            for mean, share, count in zip(*sums, counts, strict=True)
            if count
        ],
    }


def _recalibration(
    test: HeldOut, jackknife: Jackknife, shown: np.ndarray, observed: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns slope and intercept, (1 + K,), without a unit after one step of Newton's method; empty if undefined."""
    from scipy.special import expit, logit
    from sklearn.linear_model import LogisticRegression

    smallest = np.finfo(np.float32).eps
    odds = logit(shown.clip(smallest, 1 - smallest))
    one, other = odds[observed], odds[~observed]
    if not (len(one) and len(other) and one.min() < other.max() and other.min() < one.max()):
        return {}
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(odds[:, None], observed)
    intercept, slope = float(fitted.intercept_[0]), float(fitted.coef_[0, 0])
    predicted = expit(intercept + slope * odds)
    weights, errors = predicted * (1 - predicted), observed - predicted
    parts = np.stack([errors, errors * odds, weights, weights * odds, weights * odds**2])
    parts = parts.reshape(len(parts), -1, len(test.labels)).sum(1)
    first, second, *curvature = jackknife.sums(test, parts).sum(1)
    determinant = curvature[0] * curvature[2] - curvature[1] ** 2
    return {
        "slope": slope + (curvature[0] * second - curvature[1] * first) / determinant,
        "intercept": intercept + (curvature[2] * first - curvature[1] * second) / determinant,
    }


def scale(probabilities: np.ndarray, temperature: np.ndarray | float) -> np.ndarray:
    """Returns softmax(log p / T) of probabilities (..., C) (Guo et al., 2017); T broadcasts to them."""
    from scipy.special import softmax

    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), np.finfo(np.float32).tiny))
    return np.asarray(softmax(logits / temperature, axis=-1))


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the temperature from 0.02 to 400 with the lowest log loss; labels int (N,), probabilities (N, C)."""
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return float(losses(labels, scale(probabilities, np.exp(logarithm)))[0].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 6), method="bounded").x))
