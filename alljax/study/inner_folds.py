"""Inner folds: the training rows of each fold divided again, for thresholds, temperature, choice of a trial."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alljax.data.protocols import balanced_folds
from alljax.data.splits import Fold
from alljax.errors import plural
from alljax.evaluation.calibration import fit_temperature, fit_thresholds

Inner = tuple[tuple[Fold, ...], ...]
"""The inner folds of each fold; none where a class has a single subject there."""

INNER = "inner folds of the training images of each fold"
OTHERS = "the tested images of the other folds, whose heads have seen those of the fold"
"""What thresholds and temperature of a fold are from."""


def divide(folds: Sequence[Fold], labels: np.ndarray, subjects: Sequence[str], config: ConfigDict) -> Inner:
    """Divides the training rows of each fold as its protocol does, by fewer inner folds if a class has few subjects."""
    units = np.arange(len(labels)) if config.split.protocol == "paper" else np.unique(subjects, return_inverse=True)[1]
    count = config.evaluation.inner_folds
    return tuple(_divide(fold, labels[fold.train], units[fold.train], count, config.seed) for fold in folds)


def note(inner: Inner, config: ConfigDict) -> str:
    """Returns a message about folds with fewer inner folds than requested; empty if there are none."""
    requested, counts = config.evaluation.inner_folds, [len(parts) for parts in inner]
    few = sum(count < requested for count in counts)
    if requested < 2 or not few:
        return ""
    fewer = f"fewer than evaluation.inner_folds={requested} inner folds (at least {min(counts)})"
    return f"{few} of {plural(len(counts), 'fold')} with {fewer}, because a class has too few subjects to train on"


def tune(
    folds: Sequence[Fold], inner: Inner, predicted: Sequence[np.ndarray], tested: Sequence[np.ndarray],
    labels: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    """Fits temperatures and thresholds to `predicted`, (n, C) per inner fold; without these to other folds."""
    parts, on = [(fold, part.test) for fold, of_fold in enumerate(inner) for part in of_fold], INNER
    if not predicted or not all(inner):
        pairs = itertools.permutations(range(len(folds)), 2)
        others = [(fold, other) for fold, other in pairs if folds[fold].repeat == folds[other].repeat]
        parts, on = [(fold, folds[other].test) for fold, other in others], OTHERS
        predicted = [tested[other] for _, other in others]
    if len({fold for fold, _ in parts}) < len(folds):
        return {"tuned_on": "", "temperature": None, "fold_temperatures": [], "operating_points": []}
    rows, probabilities = np.concatenate([of_part for _, of_part in parts]), np.concatenate(predicted)
    fold = np.repeat([fold for fold, _ in parts], [len(of_part) for _, of_part in parts])
    members = [fold == number for number in range(len(folds))]
    return {
        "tuned_on": on,
        "temperature": fit_temperature(labels[rows], probabilities),
        "fold_temperatures": [fit_temperature(labels[rows[of]], probabilities[of]) for of in members],
        "operating_points": fit_thresholds(labels[rows], probabilities, fold, rows),
    }


def _divide(fold: Fold, labels: np.ndarray, units: np.ndarray, count: int, seed: int) -> tuple[Fold, ...]:
    """Returns the inner folds of a fold from labels and units of its training rows."""
    classes = np.unique(labels)
    fewest = min(len(np.unique(units[labels == label])) for label in classes)
    for number in range(min(count, fewest), 1, -1):
        part = balanced_folds(labels, units, number, seed + fold.repeat)
        if all(np.isin(classes, labels[part != index]).all() for index in range(number)):
            sides = ((fold.train[part != index], fold.train[part == index]) for index in range(number))
            return tuple(Fold(fold.repeat, fold.fold, train, tested) for train, tested in sides)
    return ()
