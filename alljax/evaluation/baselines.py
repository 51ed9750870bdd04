"""Baselines on the same splits: class frequencies, the size of the cell, and its size and mean color."""

from collections.abc import Sequence

import numpy as np

from alljax.data.splits import Fold
from alljax.evaluation.intervals import HeldOut

Predicted = tuple[np.ndarray, np.ndarray]  # by a rule for the inputs of M images: probabilities and scores, (M, C)


def fit(
    labels: np.ndarray,
    areas: np.ndarray | None,
    colors: np.ndarray,
    subjects: Sequence[str],
    folds: Sequence[Fold],
    classes: int,
) -> dict[str, HeldOut]:
    """Returns the predictions of baselines, fitted to the training images of each fold, for its test images.

    From areas (N,), the shares of pixels that are not black (None: other backgrounds), and their mean colors (N, 3).
    """
    inputs = np.column_stack([colors] if areas is None else [areas, colors]).astype(np.float64)
    rules = {"majority": _majority, "size_threshold": size_threshold, "size_and_color": _regression}
    if areas is None:
        del rules["size_threshold"]
    tested = np.concatenate([fold.test for fold in folds])
    number = np.repeat(np.arange(len(folds)), [len(fold.test) for fold in folds])
    found = {}
    for name, rule in rules.items():
        of_folds = [rule(inputs[fold.train], labels[fold.train], inputs[fold.test], classes) for fold in folds]
        probabilities, scores = map(np.concatenate, zip(*of_folds, strict=True))
        found[name] = HeldOut(labels[tested], probabilities[None], np.asarray(subjects)[tested], number, scores[None])
    return found


def best_threshold(areas: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Returns the lowest threshold that classifies most images correctly, and the class shares (C,) up to and above it.

    It is half-way between two areas that occur, or the largest area if no threshold helps. O(n log n).
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


def _majority(inputs: np.ndarray, labels: np.ndarray, tested: np.ndarray, classes: int) -> Predicted:
    """Predicts the class shares; equal scores, as shares would rank the folds."""
    shares = np.tile(np.bincount(labels, minlength=classes) / len(labels), (len(tested), 1))
    return shares, np.zeros(shares.shape)


def size_threshold(inputs: np.ndarray, labels: np.ndarray, tested: np.ndarray, classes: int) -> Predicted:
    """Predicts the class shares on the image's side of a threshold; scores: the area, negative for small classes."""
    areas, of_class = inputs[:, 0], np.eye(classes)[labels]
    threshold, below, above = best_threshold(areas, labels, classes)
    larger = of_class.T @ (areas - areas.mean()) >= 0
    return np.where(tested[:, :1] > threshold, above, below), tested[:, :1] * np.where(larger, 1.0, -1.0)


def _regression(inputs: np.ndarray, labels: np.ndarray, tested: np.ndarray, classes: int) -> Predicted:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probabilities = np.zeros((len(tested), classes))
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(inputs, labels)
    probabilities[:, fitted.classes_] = fitted.predict_proba(tested)
    return probabilities, probabilities
