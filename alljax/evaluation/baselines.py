"""Baselines on the same splits: a rule without any input, and a threshold on the cell's size.

A model that does not clearly beat them has not learned more than the class frequencies, or that leukemic blasts are
larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alljax.data.splits import Fold
from alljax.evaluation import metrics
from alljax.evaluation.intervals import HeldOut, Jackknife, confidence_intervals

COMPARED = ("accuracy", "macro_recall", "macro_f1", "auc")
"""Metrics in which a model is compared with the size threshold, see `size_improvement`."""


@dataclass(frozen=True)
class SizeThreshold:
    """One threshold on the area per fold, learned on its training images, applied to the test images of all folds.

    Attributes:
        test: the class shares on the image's side of the threshold as probabilities, (1, M, C); the area, which ranks
            the images for the AUC, as scores.
        thresholds: one area per fold.
        sides: the predicted classes at or below and above the threshold, one pair per fold.
    """

    test: HeldOut
    thresholds: list[float]
    sides: list[list[int]]


def size_threshold(
    labels: np.ndarray, areas: np.ndarray, subjects: Sequence[str], folds: Sequence[Fold], classes: int
) -> SizeThreshold:
    """Fits the threshold on the area in each fold and applies it to its test images.

    Args:
        labels: int (N,), of all images.
        areas: (N,), share of each image's pixels that are not black.
        subjects: N names of the resampled units (see `intervals.HeldOut`).
        folds: indices into the N images.
        classes: number of classes.
    """
    areas, probabilities, thresholds, sides = np.asarray(areas, np.float64), [], [], []
    for fold in folds:
        threshold, below, above = best_threshold(areas[fold.train], labels[fold.train], classes)
        probabilities.append(np.where(areas[fold.test, None] > threshold, above, below))
        thresholds.append(threshold)
        sides.append([int(below.argmax()), int(above.argmax())])
    pooled = np.concatenate([fold.test for fold in folds])
    test = HeldOut(
        labels=labels[pooled],
        probabilities=np.concatenate(probabilities)[None],
        subjects=np.asarray(subjects)[pooled],
        folds=np.repeat(np.arange(len(folds)), [len(fold.test) for fold in folds]),
        scores=(areas[pooled, None] * _directions(areas, labels, folds, classes))[None],
    )
    return SizeThreshold(test, thresholds, sides)


def evaluate(
    labels: np.ndarray, sized: SizeThreshold, folds: Sequence[Fold], level: float
) -> dict[str, dict[str, Any]]:
    """Returns the metrics of both rules over the test images of all folds; arguments as in `size_threshold`.

    Returns:
        ``majority`` (always the class most frequent in training) and ``size_threshold``, each with the keys of
        `metrics.evaluate` and ``intervals`` (metric to [low, high]); ``size_threshold`` also has ``thresholds`` and
        ``sides``, see `SizeThreshold`.
    """
    test = sized.test
    classes = test.probabilities.shape[2]
    shares = [np.bincount(labels[fold.train], minlength=classes) / len(fold.train) for fold in folds]
    probabilities = np.repeat(shares, [len(fold.test) for fold in folds], axis=0)[None]
    # The shares differ a little between folds; as scores they would rank the folds, not the images.
    majority = replace(test, probabilities=probabilities, scores=np.zeros(probabilities.shape))
    found: dict[str, dict[str, Any]] = {}
    for name, rule in (("majority", majority), ("size_threshold", test)):
        intervals = confidence_intervals(rule, level)
        found[name] = metrics.evaluate(rule.labels, rule.probabilities[0], rule.ranking[0], rule.folds)
        found[name]["intervals"] = {metric: list(bounds) for metric, bounds in intervals.items()}
    found["size_threshold"] |= {"thresholds": sized.thresholds, "sides": sized.sides}
    return found


def size_improvement(test: HeldOut, size: HeldOut, level: float) -> dict[str, dict[str, Any]]:
    """Returns the improvement of a model over the size threshold, on the same images.

    Args:
        test: the model's predictions.
        size: `SizeThreshold.test` on the same images.
        level: confidence level.

    Returns:
        ``value`` and ``interval`` of each metric of `COMPARED` that has an interval.
    """
    jackknife = Jackknife.of(test)
    values, others = (jackknife.values(each, COMPARED) for each in (test, size))
    differences = {name: values[name] - others[name] for name in COMPARED}
    return {
        name: {"value": float(difference[0]), "interval": list(interval)}
        for name, difference in differences.items()
        if (interval := jackknife.interval(difference, level, limits=None))
    }


def best_threshold(areas: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Returns the lowest threshold that classifies most images correctly, and the class shares on both its sides.

    The threshold is half-way between two areas that occur, or the largest area if no threshold helps. The shares are
    those at or below it and above it, (C,) each; the largest share is the predicted class of the side. O(n log n).
    """
    order = np.argsort(areas, kind="stable")
    sorted_areas = areas[order]
    # Images of each class among the first 1, 2, ..., n by area.
    below = np.cumsum(labels[order, None] == np.arange(classes), axis=0)
    above = below[-1] - below
    between = np.append(sorted_areas[:-1] < sorted_areas[1:], True)
    right = np.where(between, below.max(1) + above.max(1), -1)
    cut = int(right.argmax())
    if right[cut] == below[-1].max():  # no better than the most frequent class on both sides
        shares = below[-1] / len(areas)
        return float(sorted_areas[-1]), shares, shares
    threshold = (sorted_areas[cut] + sorted_areas[cut + 1]) / 2
    return float(threshold), below[cut] / below[cut].sum(), above[cut] / above[cut].sum()


def _directions(areas: np.ndarray, labels: np.ndarray, folds: Sequence[Fold], classes: int) -> np.ndarray:
    """Returns +1 for each class whose images are larger than the others on the training sides of all folds, else -1.

    With one sign per fold, the AUC would rank folds of different signs against each other and measure the folds
    instead of the images. The common sign has seen the test images, which can only favor the baseline.
    """
    larger = np.zeros(classes)
    for fold in folds:
        of_fold, of = areas[fold.train], labels[fold.train]
        for label in np.unique(of):
            if (others := of_fold[of != label]).size:
                larger[label] += of_fold[of == label].mean() - others.mean()
    return np.where(larger >= 0, 1.0, -1.0)
