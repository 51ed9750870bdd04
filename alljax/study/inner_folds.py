"""Inner folds: the training rows of each fold divided again.

A classifier that is trained on the other inner folds predicts each inner fold. From these predictions thresholds, the
temperature and the choice among trials follow without the test images of the (outer) fold. An inner fold is a `Fold`,
so whatever trains and tests on a fold makes inner predictions in the same way.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ml_collections import ConfigDict

from alljax.data.protocols import balanced_folds
from alljax.data.splits import Fold
from alljax.errors import plural
from alljax.training.sampling import FoldRows, make_fold_rows

Inner = tuple[tuple[Fold, ...], ...]
"""The inner folds of each fold; none where a class has a single subject there."""


def divide(folds: Sequence[Fold], labels: np.ndarray, subjects: Sequence[str], config: ConfigDict) -> Inner:
    """Divides the training rows of each fold into ``evaluation.inner_folds``; validation rows are in none of them.

    Inner folds follow the rule of the split: they keep subjects together, except those of the leaky protocol ``paper``,
    which divides images. Where a class has fewer subjects, there are fewer inner folds.
    """
    units = np.arange(len(labels)) if config.split.protocol == "paper" else np.unique(subjects, return_inverse=True)[1]
    count = config.evaluation.inner_folds
    return tuple(_divide(fold, labels[fold.train], units[fold.train], count, config.seed) for fold in folds)


def note(inner: Inner, config: ConfigDict) -> str:
    """Returns a message about folds with fewer inner folds than requested; empty if there are none."""
    requested, counts = config.evaluation.inner_folds, [len(parts) for parts in inner]
    if requested < 2 or min(counts) == requested:
        return ""
    few = sum(count < requested for count in counts)
    effect = "" if min(counts) else "; no threshold or temperature is fitted where there are none"
    return (
        f"{few} of {plural(len(counts), 'fold')} with fewer than evaluation.inner_folds={requested} inner folds (at "
        f"least {min(counts)}), because a class has too few subjects to train on{effect}"
    )


def make_rows(inner: Inner, config: ConfigDict, labels: np.ndarray, num_classes: int) -> list[FoldRows]:
    """Returns the rows of all inner folds, padded to the same shapes, without validation rows."""
    parts = [part for of_fold in inner for part in of_fold]
    rows = make_fold_rows(config, labels, num_classes, parts) if parts else []
    return [replace(of_part, validation=of_part.validation[:0]) for of_part in rows]


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
