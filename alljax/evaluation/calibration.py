"""Calibration of probabilities; sensitivity and specificity at thresholds, and what they mean at other prevalences."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from alljax.evaluation.intervals import HeldOut, Jackknife, summarize
from alljax.evaluation.metrics import losses, ratio

BINS = 10  # of the reliability diagram, with equally many images each
# What a threshold on the probability of class 1 has to reach.
TARGETS = (("specificity", 0.9), ("specificity", 0.95), ("sensitivity", 0.9), ("sensitivity", 0.95))
PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # that of the tested images is added


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


def fit_threshold(positive: np.ndarray, scores: np.ndarray, target: str, value: float) -> float:
    """Returns the threshold that reaches a target with the best other rate; scores (N,) from it on are positive."""
    from sklearn.metrics import roc_curve

    false, true, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    chosen = np.flatnonzero(false <= 1 - value + 1e-12)[-1] if target == "specificity" else np.argmax(true >= value)
    highest = np.nextafter(scores.max(), np.inf)  # scikit-learn's first threshold is infinite, which JSON has not
    return float(min(thresholds[chosen], highest))


def fit_thresholds(
    labels: np.ndarray, probabilities: np.ndarray, folds: np.ndarray, images: np.ndarray
) -> list[dict[str, Any]]:
    """Fits thresholds to predictions (M, C) of single heads; empty for more than two classes.

    ``thresholds`` has one for each of `folds`, int (M,); ``threshold``, for new images, is of means over `images`.
    """
    if probabilities.shape[1] != 2:
        return []
    _, first, image = np.unique(images, return_index=True, return_inverse=True)
    positive, scores, points = labels == 1, np.asarray(probabilities[:, 1], np.float64), []
    mean = np.bincount(image, scores) / np.bincount(image)
    members = [folds == fold for fold in range(folds.max() + 1)]
    for target, value in TARGETS:
        threshold = fit_threshold(positive[first], mean, target, value)
        thresholds = [fit_threshold(positive[rows], scores[rows], target, value) for rows in members]
        points.append({"target": target, "value": value, "threshold": threshold, "thresholds": thresholds})
    return points


def operating_points(
    test: HeldOut, fold: np.ndarray, points: Sequence[Mapping[str, Any]], level: float
) -> list[dict[str, Any]]:
    """Returns what the thresholds of `fit_thresholds`, by fold, int (N,), achieve; empty for images of one class."""
    jackknife, found = Jackknife.of(test), []
    observed = float(np.mean(test.labels == 1))
    for point in points if 0 < observed < 1 else ():
        positive = test.probabilities[..., 1] >= np.array(point["thresholds"])[fold]
        decided = replace(test, probabilities=np.stack([~positive, positive], axis=-1), scores=None)
        values = jackknife.values(decided, ("recall_0", "recall_1"))
        rates = {"sensitivity": values["recall_1"], "specificity": values["recall_0"]}
        bounds = [jackknife.interval(values[f"recall_{label}"], level, label=label) for label in (1, 0)]
        found.append({
            **{key: point[key] for key in ("target", "value", "thresholds")},
            **{name: float(rate[0]) for name, rate in rates.items()},
            "intervals": {name: list(interval) for name, interval in zip(rates, bounds, strict=True) if interval},
            "ppv_npv": _predictive_values(jackknife, rates, observed, level),
        })  # fmt: skip
    return found


def _predictive_values(
    jackknife: Jackknife, rates: Mapping[str, np.ndarray], observed: float, level: float
) -> dict[str, Any]:
    """Returns PPV and NPV by Bayes' rule; the rates are those of all images, then without each unit, (1 + K,)."""
    sensitivity, specificity = rates["sensitivity"], rates["specificity"]
    names, prevalences = ("ppv", "npv"), sorted({*PREVALENCES, observed})
    found: dict[str, Any] = {"prevalence": prevalences, "ppv": [], "npv": [], "intervals": {"ppv": [], "npv": []}}
    for share in prevalences:
        right = sensitivity * share, specificity * (1 - share)
        wrong = (1 - specificity) * (1 - share), (1 - sensitivity) * share
        for name, true, false in zip(names, right, wrong, strict=True):
            values = ratio(true, true + false, np.nan)
            interval = jackknife.interval(values, level)
            found[name].append(float(values[0]) if np.isfinite(values[0]) else None)
            found["intervals"][name].append(list(interval) if interval else None)
    return found
