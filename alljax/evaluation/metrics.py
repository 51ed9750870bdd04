"""Metrics of predictions, as plain numbers for JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np

METRICS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_recall": "macro recall",
    "macro_precision": "macro precision",
    "weighted_f1": "weighted F1",
    "log_loss": "log loss",
}
"""The single-number metrics with their display names, in the order of table columns."""


def evaluate(labels: np.ndarray, probabilities: np.ndarray, scores: np.ndarray | None = None) -> dict[str, Any]:
    """Returns every metric of one set of predictions.

    The predicted class is the class with the largest probability (the first one if several are equal). Precision,
    recall and F1 that are 0/0 count as 0, also in the macro averages.

    Args:
        labels: int (N,), indices of the true classes.
        probabilities: (N, C); each row is scaled to sum 1 for the logarithmic loss.
        scores: (N, C), ranks the images for the AUC where it is finer than `probabilities`.

    Returns:
        ``accuracy``; ``macro_precision``, ``macro_recall``, ``macro_f1`` (plain means over classes); ``weighted_f1``
        (weighted by true images); ``auc`` (area under the ROC curve of class 1 if there are two classes, else the mean
        over classes of one against the rest; None where no class can be ranked); ``log_loss`` (nats); ``confusion``
        (rows true, columns predicted); ``per_class``, a list of ``precision``, ``recall``, ``f1`` and ``count`` (true
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
    areas = [
        metrics.roc_auc_score(labels == label, scores[:, label])
        for label in ([1] if len(classes) == 2 else classes)
        if 0 < count[label] < len(labels)
    ]
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=count)),
        "auc": float(np.mean(areas)) if areas else None,
        "log_loss": float(losses(labels, probabilities).mean()),
        "confusion": metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
        "per_class": [
            {"precision": float(p), "recall": float(r), "f1": float(f), "count": int(n)}
            for p, r, f, n in zip(precision, recall, f1, count, strict=True)
        ],
    }


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
