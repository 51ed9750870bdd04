"""How good predictions are, as numbers that go to JSON as they stand."""

from typing import Any

import numpy as np
from sklearn import metrics

METRICS = (
    "accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "weighted_f1",
    "auc",
    "log_loss",
)
"""The single-number metrics, in the order tables show them."""

SMALLEST = float(np.finfo(np.float64).eps)
"""A probability below this counts as this in the logarithmic loss, as in scikit-learn."""


def evaluate(labels: np.ndarray, probabilities: np.ndarray, scores: np.ndarray | None = None) -> dict[str, Any]:
    """Returns every metric of one set of predictions.

    The predicted class is the one of the largest probability, the first of equals.
    Precision, recall and F1 of a class that never occurs or is never predicted are 0
    where they are 0/0, and count in the macro averages.

    Args:
        labels: int (N,), indices of the true classes.
        probabilities: (N, C), a row per image; rows are scaled to sum 1 for the logarithmic loss.
        scores: (N, C) what ranks the images for the AUC, where that is finer than `probabilities`.

    Returns:
        ``accuracy``; ``macro_precision``, ``macro_recall``, ``macro_f1`` (plain means over classes);
        ``weighted_f1`` (weighted by true images); ``auc`` (of class 1 if there are two classes, else
        the mean over classes of one against the rest; None where no class can be ranked);
        ``log_loss`` (nats); ``confusion`` (rows true, columns predicted); ``per_class``, a list in
        class order of ``precision``, ``recall``, ``f1`` and ``count`` (true images).

    Raises:
        ValueError: no images, shapes that do not fit, a label out of range, or probabilities that are
            not finite, negative or all zero.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    scores = probabilities if scores is None else np.asarray(scores, np.float64)
    check(labels, probabilities, scores)
    classes = range(probabilities.shape[1])
    predicted = probabilities.argmax(1)
    precision, recall, f1, count = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=count)),
        "auc": auc(labels, scores),
        "log_loss": float(losses(labels, probabilities).mean()),
        "confusion": metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
        "per_class": [
            {"precision": float(p), "recall": float(r), "f1": float(f), "count": int(n)}
            for p, r, f, n in zip(precision, recall, f1, count, strict=True)
        ],
    }


def check(labels: np.ndarray, probabilities: np.ndarray, scores: np.ndarray) -> None:
    """Checks the arguments of `evaluate`.

    Raises:
        ValueError: as `evaluate` says.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(f"labels {labels.shape} and probabilities {probabilities.shape} are not (N,) and (N, C)")
    if scores.shape != probabilities.shape:
        raise ValueError(f"scores {scores.shape} and probabilities {probabilities.shape} differ in shape")
    if not labels.size:
        raise ValueError("there is no prediction to evaluate")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, classes to {probabilities.shape[1] - 1}")
    if not (np.isfinite(probabilities).all() and np.isfinite(scores).all()):
        raise ValueError("a probability or score is not a finite number")
    if probabilities.min() < 0 or not probabilities.sum(1).all():
        raise ValueError("a row of probabilities has a negative entry or is all zero")


def auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Returns the area under the ROC curve, or None where no class has images on both sides.

    Args:
        labels: int (N,).
        scores: (N, C), larger for a likelier class.
    """
    ranked = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    areas = [
        metrics.roc_auc_score(labels == positive, scores[:, positive])
        for positive in ranked
        if 0 < np.count_nonzero(labels == positive) < len(labels)
    ]
    return float(np.mean(areas)) if areas else None


def losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns each image's logarithmic loss in nats, (N,).

    Args:
        labels: int (N,).
        probabilities: (N, C), not negative.
    """
    chosen = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    loss: np.ndarray = -np.log(np.clip(chosen / probabilities.sum(1), SMALLEST, 1.0))
    return loss


def most_wrong(labels: np.ndarray, probabilities: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices of the images that were called wrong with most confidence, worst first.

    Args:
        labels: int (N,).
        probabilities: (R, N, C) of R seeds; their mean decides.
        count: how many indices at most; fewer where fewer are wrong.
    """
    mean = np.asarray(probabilities, np.float64).mean(0)
    wrong = np.flatnonzero(mean.argmax(1) != labels)
    return wrong[np.argsort(-mean[wrong].max(1), kind="stable")][:count]
