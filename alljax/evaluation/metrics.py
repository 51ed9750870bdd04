"""Metrics of predictions, as plain numbers for JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

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

MEANS = ("", "macro_", "weighted_")
"""Prefixes of the areas under curves of all classes, see `ranking`."""


def evaluate(
    labels: np.ndarray, probabilities: np.ndarray, scores: np.ndarray | None = None, folds: np.ndarray | None = None
) -> dict[str, Any]:
    """Returns every metric of one set of predictions.

    The predicted class is the class with the largest probability (the first one if several are equal). Precision,
    recall and F1 that are 0/0 count as 0, also in the macro averages.

    Args:
        labels: int (N,), indices of the true classes.
        probabilities: (N, C); each row is scaled to sum 1 for the logarithmic loss.
        scores: (N, C), ranks the images for the AUC where it is finer than `probabilities`.
        folds: (N,) names of the folds; None: all images are of one fold.

    Returns:
        ``accuracy``; ``macro_precision``, ``macro_recall`` (the balanced accuracy) and ``macro_f1``, plain means over
        classes; the same as ``weighted_…``, weighted by true images; ``mcc`` (Matthews correlation coefficient);
        ``auc`` and ``pr_auc``, also as ``macro_…`` and ``weighted_…``, see `ranking`; ``pooled_auc``, as if all images
        were of one fold; ``log_loss`` (nats); ``brier``, half of the squared error summed over classes (0 to 1; for
        two classes the usual one); ``brier_scaled``, 1 − Brier score / that of the class shares (None for one class);
        ``confusion`` (rows true, columns predicted); ``per_class``, a list of ``precision``, ``recall``, ``f1``,
        ``auc``, ``pr_auc`` and ``count`` (true images).
    """
    from sklearn import metrics

    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    scores = probabilities if scores is None else np.asarray(scores, np.float64)
    classes, predicted = range(probabilities.shape[1]), probabilities.argmax(1)
    counted = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    by_class = dict(zip(("precision", "recall", "f1"), counted, strict=False))
    log_loss, brier = losses(labels, probabilities).mean(1)
    uninformed, areas = (1 - np.square(counted[3] / len(labels)).sum()) / 2, ranking(labels, scores, folds)
    confusion = metrics.confusion_matrix(labels, predicted, labels=classes)
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        **{f"macro_{name}": float(values.mean()) for name, values in by_class.items()},
        **{f"weighted_{name}": float(np.average(values, weights=counted[3])) for name, values in by_class.items()},
        "mcc": float(_mcc(confusion)),
        **{f"{mean}{name}": areas.get(f"{mean}{name}") for mean in MEANS for name in ("auc", "pr_auc")},
        "pooled_auc": ranking(labels, scores).get("auc"),
        "log_loss": float(log_loss),
        "brier": float(brier),
        "brier_scaled": float(1 - brier / uninformed) if uninformed else None,
        "confusion": confusion.tolist(),
        "per_class": [
            {name: float(values[label]) for name, values in by_class.items()}
            | {name: areas.get(f"{name}_{label}") for name in ("auc", "pr_auc")}
            | {"count": int(counted[3][label])}
            for label in classes
        ],
    }


def ranking(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None = None) -> dict[str, float]:
    """Returns the areas under the ROC and the precision-recall curve of each class against all others, within folds.

    Scores of different heads differ in scale, so only images of the same fold are compared. AUC: over pairs of images
    of the same fold. Average precision: the mean over images of the class of the precision among the images of their
    fold with at least their score, so folds are weighted by their images of the class.

    Returns:
        ``auc_0``, …, ``pr_auc_0``, … of classes; ``macro_auc``, ``weighted_auc``, …, means over classes, plain and
        weighted by images; ``auc`` and ``pr_auc``, those of class 1 of two, else the plain means. Empty where no class
        can be ranked, or where a fold lacks a class that another has (as in leave-one-subject-out): the remaining
        images do not represent all.
    """
    fold = np.zeros(len(labels), int) if folds is None else np.unique(folds, return_inverse=True)[1]
    found = {}
    for label in np.unique(labels) if folds_are_complete(labels, fold) else ():
        positive, of_class = labels == label, scores[:, label]
        right, pairs = pairs_in_order(positive, of_class, fold)[:, positive].sum(1)
        if pairs:
            found[f"auc_{label}"] = np.array(right / pairs)
            found[f"pr_auc_{label}"] = average_precision(positive, of_class, fold, np.ones((len(fold), 1)))[0]
    return {name: float(value) for name, value in with_means(found, np.bincount(labels), scores.shape[1]).items()}


def with_means(by_class: Mapping[str, np.ndarray], images: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Adds the means of `ranking` to areas by class; `images` counts each class."""
    found, ranked = dict(by_class), [label for label in range(classes) if f"auc_{label}" in by_class]
    for name in ("auc", "pr_auc"):
        if values := [by_class[f"{name}_{label}"] for label in ranked if f"{name}_{label}" in by_class]:
            found[f"macro_{name}"] = np.mean(values, axis=0)
            found[f"weighted_{name}"] = np.average(values, axis=0, weights=images[ranked])
            found[name] = values[1] if classes == 2 else found[f"macro_{name}"]
    return found


def folds_are_complete(labels: np.ndarray, fold: np.ndarray) -> bool:
    """Returns whether each fold, int (N,), has images of every class that occurs."""
    occurs = np.zeros((fold.max() + 1, labels.max() + 1), bool)
    occurs[fold, labels] = True
    return bool((occurs.all(0) == occurs.any(0)).all())


def ranked_classes(classes: int) -> Sequence[int]:
    """Returns the classes whose AUC is averaged: the second of two, else all of them."""
    return [1] if classes == 2 else range(classes)


def pairs_in_order(positive: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Counts the pairs of a positive and a negative image of the same group (the statistic of Mann and Whitney).

    Args:
        positive: bool (N,).
        scores: float (N,).
        groups: int (N,), not negative.

    Returns:
        For each image the number of its pairs in which the positive image has the higher score (ties count half), and
        the number of all its pairs, (2, N). The AUC is the ratio of the sums over the positive images. O(N log N).
    """
    kinds = np.stack([positive, ~positive]).astype(float)
    lower, equal, of_group = _sums_by_score(kinds, scores, groups)
    lower += equal / 2
    return np.stack([
        np.where(positive, lower[1], of_group[0] - lower[0]),
        np.where(positive, of_group[1], of_group[0]),
    ])  # fmt: skip


def average_precision(positive: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the average precision within groups (see `ranking`) under B weights of the images (N, B), as (B,).

    The other arguments are those of `pairs_in_order`.
    """
    order = np.lexsort((-scores, groups))
    first = np.diff(groups[order], prepend=-1) != 0
    new_score = first | (np.diff(scores[order], prepend=np.inf) != 0)
    start = np.flatnonzero(first)[np.cumsum(first) - 1]  # of the group of each image
    end = np.append(np.flatnonzero(new_score)[1:], len(order))[np.cumsum(new_score) - 1]  # of the images with its score
    rows, weights = np.flatnonzero(positive[order]), weights[order]
    hits, found = np.zeros((2, len(order) + 1, weights.shape[1]))
    np.cumsum(weights * positive[order, None], axis=0, out=hits[1:])
    np.cumsum(weights, axis=0, out=found[1:])
    precision = ratio(hits[end[rows]] - hits[start[rows]], found[end[rows]] - found[start[rows]])
    return ratio((weights[rows] * precision).sum(0), hits[-1], np.nan)


def _sums_by_score(values: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the sums of values (M, N) over the images of the same group: with lower score, equal score, and all."""
    order = np.lexsort((scores, groups))
    new_group = np.diff(groups[order], prepend=-1) != 0
    new_score = new_group | (np.diff(scores[order], prepend=-np.inf) != 0)
    before_group, of_group = _sums_of_runs(values[:, order], new_group)
    before_score, of_score = _sums_of_runs(values[:, order], new_score)
    found = np.empty((3, *values.shape))
    found[..., order] = before_score - before_group, of_score, of_group
    return found


def _sums_of_runs(values: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns per image the sums of values (M, N) before the run of images that it is in, and in the run."""
    inside = np.add.reduceat(values, np.flatnonzero(starts), axis=1)
    run = np.cumsum(starts) - 1
    return (np.cumsum(inside, axis=1) - inside)[:, run], inside[:, run]


def count(labels: np.ndarray, probabilities: np.ndarray, unit: np.ndarray, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the confusion matrix of each unit, (C, C, K), and its `losses` summed by true class, (2, C, K).

    Args:
        labels: int (N,), indices of the true classes.
        probabilities: (N, C).
        unit: int (N,), which of the K units an image is of.
        units: K.
    """
    classes = probabilities.shape[1]
    entry = (labels * classes + probabilities.argmax(1)) * units + unit
    confusion = np.bincount(entry, minlength=classes**2 * units).reshape(classes, classes, units)
    summed = [np.bincount(labels * units + unit, loss, classes * units) for loss in losses(labels, probabilities)]
    return confusion, np.reshape(summed, (2, classes, units))


def from_counts(confusion: np.ndarray, loss: np.ndarray, present: Iterable[int]) -> dict[str, np.ndarray]:
    """Returns the metrics that follow from B confusion matrices and losses, (B,) each, as in `evaluate`.

    Those that need a class without images are NaN.

    Args:
        confusion: (C, C, B), rows true, columns predicted.
        loss: (2, B), sums of `losses` over images.
        present: classes of the complete set. A class that it does not have counts as 0 in macro averages.
    """
    hits, total = np.einsum("iib->ib", confusion), confusion.sum((0, 1))
    true, predicted = confusion.sum(1), confusion.sum(0)
    by_class = {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, true),
        "f1": ratio(2 * hits, true + predicted),
    }
    lost = true == 0
    loses_class = lost[list(present)].any(0)
    log_loss, brier = ratio(loss, total, np.nan)
    uninformed = (1 - np.square(ratio(true, total)).sum(0)) / 2
    return {
        "accuracy": ratio(hits.sum(0), total, np.nan),
        "log_loss": log_loss,
        "brier": brier,
        "brier_scaled": 1 - ratio(brier, uninformed, np.nan),
        "mcc": np.where(loses_class, np.nan, _mcc(confusion)),
        **{f"macro_{name}": np.where(loses_class, np.nan, values.mean(0)) for name, values in by_class.items()},
        **{f"weighted_{name}": ratio((values * true).sum(0), total, np.nan) for name, values in by_class.items()},
        **{
            f"{name}_{label}": of_class
            for name, values in by_class.items()
            for label, of_class in enumerate(np.where(lost, np.nan, values))
        },
    }


def _mcc(confusion: np.ndarray) -> np.ndarray:
    """Returns the Matthews correlation coefficient from (C, C, …) counts; 0 where all images are of one class."""
    confusion = np.asarray(confusion, np.float64)
    total, hits = confusion.sum((0, 1)), np.einsum("ii...->...", confusion)
    true, predicted = confusion.sum(1), confusion.sum(0)
    scale = np.sqrt((total**2 - (true**2).sum(0)) * (total**2 - (predicted**2).sum(0)))
    return ratio(total * hits - (true * predicted).sum(0), scale)


def ratio(numerator: np.ndarray, denominator: np.ndarray, undefined: float = 0.0) -> np.ndarray:
    """Returns the elementwise ratio, `undefined` where the denominator is not positive."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), undefined, np.float64)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the logarithmic loss (nats) and the Brier score of each image, (2, N); arguments as in `evaluate`."""
    scaled = probabilities / probabilities.sum(1, keepdims=True)
    chosen = np.take_along_axis(scaled, labels[:, None], axis=1)[:, 0]
    smallest = np.finfo(np.float64).eps  # as in scikit-learn
    brier = (np.square(scaled).sum(1) - 2 * chosen + 1) / 2
    return np.stack([-np.log(np.clip(chosen, smallest, 1.0)), brier])


def average_over_seeds(per_seed: Sequence[dict[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """Returns the means over seeds of the results of `evaluate`, one per seed.

    Also ``seeds``; ``std``, the sample standard deviation over seeds of each metric (None for one seed or an undefined
    metric); ``per_seed``, the metrics of each seed.
    """
    values = {key: [of_seed[key] for of_seed in per_seed] for key in per_seed[0]}
    known = {key: len(per_seed) > 1 and None not in values[key] for key in METRICS}
    return {key: _mean(of_seeds) for key, of_seeds in values.items()} | {
        "seeds": list(seeds),
        "std": {key: float(np.std(values[key], ddof=1)) if known[key] else None for key in METRICS},
        "per_seed": [{"seed": seed} | one for seed, one in zip(seeds, per_seed, strict=True)],
    }


def _mean(values: list[Any]) -> Any:
    """Returns the mean of numbers, elementwise in equally nested lists and dictionaries."""
    first = values[0]
    if isinstance(first, dict):
        return {key: _mean([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_mean(list(group)) for group in zip(*values, strict=True)]
    if all(value == first for value in values):  # counts, names and undefined metrics
        return first
    return float(np.mean(values))
