"""Sensitivity and specificity at thresholds for a target, and what they mean at other prevalences; two classes only."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from alljax.evaluation.intervals import HeldOut, Jackknife
from alljax.evaluation.metrics import ratio

# What a threshold on the probability of class 1 has to reach.
TARGETS = (("specificity", 0.9), ("specificity", 0.95), ("sensitivity", 0.9), ("sensitivity", 0.95))
PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # that of the tested images is added


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

    ``thresholds`` has one for each of `folds`, int (M,), for which a prediction may be used; ``threshold``, for new
    images, is fitted to the mean over heads of each of `images`, as means are less extreme.
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
    """Returns what the thresholds of `fit_thresholds` achieve in tested images; empty if those are of one class.

    `fold`, int (N,), numbers the folds in the order of ``thresholds``, which are held fixed in the intervals.
    """
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
