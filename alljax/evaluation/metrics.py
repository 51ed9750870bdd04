"""Metrics of predictions, as plain numbers for JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

METRICS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_recall": "balanced accuracy",
    "macro_precision": "macro precision",
    "weighted_f1": "weighted F1",
    "log_loss": "log loss",
}
"""The single-number metrics with their display names, in the order of table columns."""


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
        ``accuracy``; ``macro_precision``, ``macro_recall`` (the balanced accuracy), ``macro_f1`` (plain means over
        classes); ``weighted_f1`` (weighted by true images); ``mcc`` (Matthews correlation coefficient); ``auc``, see
        `auc`; ``pooled_auc``, the same as if all images were of one fold; ``log_loss`` (nats); ``confusion`` (rows
        true, columns predicted); ``per_class``, a list of ``precision``, ``recall``, ``f1`` and ``count`` (true
        images).
    """
    from sklearn import metrics

    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    scores = probabilities if scores is None else np.asarray(scores, np.float64)
    classes = range(probabilities.shape[1])
    predicted = probabilities.argmax(1)
    precision, recall, f1, count = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    confusion = metrics.confusion_matrix(labels, predicted, labels=classes)
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=count)),
        "mcc": float(_mcc(confusion)),
        "auc": auc(labels, scores, folds),
        "pooled_auc": auc(labels, scores),
        "log_loss": float(losses(labels, probabilities).mean()),
        "confusion": confusion.tolist(),
        "per_class": [
            {"precision": float(p), "recall": float(r), "f1": float(f), "count": int(n)}
            for p, r, f, n in zip(precision, recall, f1, count, strict=True)
        ],
    }


def auc(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None = None) -> float | None:
    """Returns the area under the ROC curve over pairs of images of the same fold.

    Scores of different heads can differ in scale, so that an AUC over all pairs would also measure the folds. With two
    classes it is the AUC of class 1, else the mean over classes of the class against all others.

    Args:
        labels: int (N,), indices of the true classes.
        scores: (N, C).
        folds: (N,) names of the folds; None: all images are of one fold.

    Returns:
        None where no class can be ranked, or where a fold lacks a class that another fold has (as in
        leave-one-subject-out), because the remaining pairs do not represent all images.
    """
    fold = np.zeros(len(labels), int) if folds is None else np.unique(folds, return_inverse=True)[1]
    if not folds_are_complete(labels, fold):
        return None
    areas = []
    for label in ranked_classes(scores.shape[1]):
        right, pairs = pairs_in_order(labels == label, scores[:, label], fold)[:, labels == label].sum(1)
        if pairs:
            areas.append(right / pairs)
    return float(np.mean(areas)) if areas else None


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
    order = np.lexsort((scores, groups))
    kinds = np.stack([positive, ~positive])[:, order]
    new_group = np.diff(groups[order], prepend=-1) != 0
    new_score = new_group | (np.diff(scores[order], prepend=-np.inf) != 0)
    before_group, of_group = _counts_of_runs(kinds, new_group)
    before_score, of_score = _counts_of_runs(kinds, new_score)
    lower = before_score - before_group + of_score / 2
    found = np.empty(kinds.shape)
    found[0, order] = np.where(kinds[0], lower[1], of_group[0] - lower[0])
    found[1, order] = np.where(kinds[0], of_group[1], of_group[0])
    return found


def _counts_of_runs(kinds: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns per image how many of each kind (2, N) are before the run of images that it is in, and how many in it."""
    inside = np.add.reduceat(kinds.astype(int), np.flatnonzero(starts), axis=1)
    run = np.cumsum(starts) - 1
    return (np.cumsum(inside, axis=1) - inside)[:, run], inside[:, run]


def count(labels: np.ndarray, probabilities: np.ndarray, unit: np.ndarray, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the confusion matrix of each unit, (C, C, K), and its logarithmic losses summed by true class, (C, K).

    Args:
        labels: int (N,), indices of the true classes.
        probabilities: (N, C).
        unit: int (N,), which of the K units an image is of.
        units: K.
    """
    classes = probabilities.shape[1]
    entry = (labels * classes + probabilities.argmax(1)) * units + unit
    confusion = np.bincount(entry, minlength=classes**2 * units).reshape(classes, classes, units)
    summed = np.bincount(labels * units + unit, losses(labels, probabilities), classes * units)
    return confusion, summed.reshape(classes, units)


def from_counts(confusion: np.ndarray, loss: np.ndarray, present: Iterable[int]) -> dict[str, np.ndarray]:
    """Returns the metrics that follow from B confusion matrices and losses, (B,) each, as in `evaluate`.

    Those that need a class without images are NaN.

    Args:
        confusion: (C, C, B), rows true, columns predicted.
        loss: (B,), sum over images.
        present: classes of the complete set. A class that it does not have counts as 0 in macro averages.
    """
    hits, total = np.einsum("iib->ib", confusion), confusion.sum((0, 1))
    true, predicted = confusion.sum(1), confusion.sum(0)
    recall, f1 = ratio(hits, true), ratio(2 * hits, true + predicted)
    lost = true == 0
    loses_class = lost[list(present)].any(0)
    macro = {"macro_precision": ratio(hits, predicted), "macro_recall": recall, "macro_f1": f1}
    return {
        "accuracy": ratio(hits.sum(0), total, np.nan),
        "weighted_f1": ratio((f1 * true).sum(0), total, np.nan),
        "log_loss": ratio(loss, total, np.nan),
        "mcc": np.where(loses_class, np.nan, _mcc(confusion)),
        **{name: np.where(loses_class, np.nan, per_class.mean(0)) for name, per_class in macro.items()},
        **{f"recall_{label}": of_class for label, of_class in enumerate(np.where(lost, np.nan, recall))},
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
    """Returns the logarithmic loss of each image in nats, (N,), from labels (N,) and probabilities (N, C)."""
    chosen = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    smallest = np.finfo(np.float64).eps  # as in scikit-learn
    return np.asarray(-np.log(np.clip(chosen / probabilities.sum(1), smallest, 1.0)))


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
