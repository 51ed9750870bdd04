"""Metrics of the predictions of one head: of all images, and without those of each unit."""

import inspect
from collections.abc import Mapping

import numpy as np

from alljax import extensions
from alljax.errors import ConfigError

METRICS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_recall": "balanced accuracy",
    "macro_precision": "macro precision",
    "weighted_f1": "weighted F1",
    "mcc": "MCC",
    "pr_auc": "PR-AUC",
    "brier": "Brier score",
    "brier_scaled": "scaled Brier score",
    "log_loss": "log loss",
}
"""The single-number metrics with their display names, in the order of table columns."""

RANGES: Mapping[str, tuple[float, float] | None] = {"mcc": (-1.0, 1.0), "log_loss": None, "brier_scaled": None}
"""Lowest and highest possible value of the metrics for which it is not 0 and 1."""

BY_CLASS = ("precision", "recall", "f1", "auc", "pr_auc")  # as ``recall_0``; means over classes: ``macro_recall``, …


def from_counts(confusion: np.ndarray, loss: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the metrics (B,) of confusion matrices (C, C, B) (rows true) and sums of `losses` over images (2, B)."""
    # Precision, recall and F1 that are 0/0 count as 0, also in the means; what depends on NaN is NaN.
    hits, total = np.einsum("iib->ib", confusion), confusion.sum((0, 1))
    true, predicted = confusion.sum(1), confusion.sum(0)
    by_class = {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, true),
        "f1": ratio(2 * hits, true + predicted),
    }
    log_loss, brier = ratio(loss, total, np.nan)
    uninformed = (1 - np.square(ratio(true, total)).sum(0)) / 2
    scale = (total**2 - (true**2).sum(0)) * (total**2 - (predicted**2).sum(0))
    return {
        "accuracy": ratio(hits.sum(0), total, np.nan),
        "log_loss": log_loss,
        "brier": brier,
        "brier_scaled": 1 - ratio(brier, uninformed, np.nan),
        "mcc": ratio(total * hits.sum(0) - (true * predicted).sum(0), np.sqrt(np.maximum(scale, 0))),
        **{f"macro_{name}": values.mean(0) for name, values in by_class.items()},
        **{f"weighted_{name}": ratio((values * true).sum(0), total, np.nan) for name, values in by_class.items()},
        **{f"{name}_{label}": of_class for name, values in by_class.items() for label, of_class in enumerate(values)},
    }


def areas(
    labels: np.ndarray, scores: np.ndarray, fold: np.ndarray, unit: np.ndarray, units: int
) -> dict[str, np.ndarray]:
    """Returns the areas under the ROC and the precision-recall curve of each class against all others, within folds.

    Scores of different heads differ in scale, so only images of the same fold are compared. AUC: over pairs of images;
    folds that lack a class are left out. Average precision: the mean over images of the class of the precision among
    the images of their fold with at least their score.

    From labels, fold and unit of each image, int (N,), scores (N, C) and the number K of units. Returns ``auc_0``, … of
    classes, ``macro_auc`` and ``weighted_auc`` (by images), and ``auc``, that of class 1 of two, else the plain mean,
    and the same of ``pr_auc``: of all images, then without each unit, (1 + K,), which is NaN for the precision.
    """
    by_class: dict[str, dict[int, np.ndarray]] = {"auc": {}, "pr_auc": {}}
    for label in np.unique(labels):
        positive, of_class = labels == label, scores[:, label]
        counted, precision = pairs_in_order(positive, of_class, fold)
        within, _ = pairs_in_order(positive, of_class, fold * units + unit)
        total = counted[:, positive].sum(1)
        if total[1]:
            # Pairs within a unit count for both of their images, but are left out once.
            own = [np.bincount(unit, of_images, units) for of_images in counted - within * positive]
            right, pairs = np.column_stack([total, total[:, None] - own])
            by_class["auc"][label] = ratio(right, pairs, np.nan)
            by_class["pr_auc"][label] = np.append(precision[positive].mean(), np.full(units, np.nan))
    found, images = dict[str, np.ndarray](), np.bincount(labels)
    for name, values in by_class.items():
        if values:
            found |= {f"{name}_{label}": of_class for label, of_class in values.items()}
            found[f"macro_{name}"] = np.mean([*values.values()], axis=0)
            found[f"weighted_{name}"] = np.average([*values.values()], axis=0, weights=images[[*values]])
            found[name] = values[1] if scores.shape[1] == 2 else found[f"macro_{name}"]
    return found


def external(reference: str, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | float = 1) -> float:
    """Returns a metric of ``evaluation.metrics``; `weights` are for one that has the parameter ``sample_weight``."""
    with extensions.loaded("evaluation.metrics", reference) as function:
        weighted = "sample_weight" in inspect.signature(function).parameters
        more = {"sample_weight": weights * np.ones(len(labels))} if weighted else {}
        return float(function(labels, probabilities, **more))


def limits(name: str) -> tuple[float, float] | None:
    """Returns the lowest and highest possible value of a metric; None where it has none."""
    if not extensions.is_reference(name):
        return RANGES.get(name, (0.0, 1.0))
    with extensions.loaded("evaluation.metrics", name) as function:
        return getattr(function, "limits", None)


def check_external(reference: str, labels: np.ndarray, classes: int) -> None:
    """Raises `ConfigError` if a metric of ``evaluation.metrics`` is not finite, or not within its limits."""
    probabilities = np.random.default_rng(0).dirichlet(np.ones(classes), len(labels))
    value, (low, high) = external(reference, labels, probabilities), limits(reference) or (-np.inf, np.inf)
    if not (np.isfinite(value) and low <= value <= high):
        needs = f"it needs a finite value within its limits ({low:g}, {high:g})"
        raise ConfigError(f"evaluation.metrics={reference} gives {value} for random predictions; {needs}")


def folds_are_complete(labels: np.ndarray, fold: np.ndarray) -> bool:
    """Returns whether each fold, int (N,), has images of every class that occurs."""
    occurs = np.zeros((fold.max() + 1, labels.max() + 1), bool)
    occurs[fold, labels] = True
    return bool((occurs.all(0) == occurs.any(0)).all())


def pairs_in_order(positive: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts the pairs of a positive and a negative image of the same group (the statistic of Mann and Whitney).

    From positive bool (N,), scores (N,) and groups int (N,). Returns for each image the number of its pairs in which
    the positive image has the higher score (ties count half), and that of all its pairs, (2, N); and the share of
    positive images among those of its group with at least its score, (N,). O(N log N).
    """
    values, rank = np.unique(scores, return_inverse=True)
    start = groups * len(values)
    place = start + rank
    lower, equal, number = np.zeros((3, 2, len(scores)))
    for side, members in enumerate((positive, ~positive)):
        places = np.sort(place[members])
        before = np.searchsorted(places, start)
        number[side] = np.searchsorted(places, start + len(values)) - before
        lower[side] = np.searchsorted(places, place) - before
        equal[side] = np.searchsorted(places, place, "right") - before - lower[side]
    ahead = lower + equal / 2
    counted = [np.where(positive, ahead[1], number[0] - ahead[0]), np.where(positive, number[1], number[0])]
    return np.array(counted), ratio(number[0] - lower[0], (number - lower).sum(0))


def ratio(numerator: np.ndarray, denominator: np.ndarray, undefined: float = 0.0) -> np.ndarray:
    """Returns the elementwise ratio, `undefined` where the denominator is 0."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), undefined, np.float64)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the logarithmic loss (nats) and the Brier score of each image, (2, N)."""
    scaled = probabilities / probabilities.sum(1, keepdims=True)
    chosen = np.take_along_axis(scaled, labels[:, None], axis=1)[:, 0]
    smallest = np.finfo(np.float64).eps  # as in scikit-learn
    brier = (np.square(scaled).sum(1) - 2 * chosen + 1) / 2
    return np.stack([-np.log(np.clip(chosen, smallest, 1.0)), brier])
