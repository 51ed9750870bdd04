"""What a rule that sees nothing, or only the size of the cell, scores on the same splits.

A model that does not clearly beat them has not learned more than how many images a
class has, or that leukemic blasts are larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from alljax.evaluation import metrics
from alljax.evaluation.intervals import bootstrap


class TrainAndTest(Protocol):
    """Indices of training and test images, as `data.splits.Split` holds them."""

    @property
    def train(self) -> np.ndarray:
        """Indices of the training images, int (n,)."""
        ...

    @property
    def test(self) -> np.ndarray:
        """Indices of the test images, int (m,)."""
        ...


@dataclass(frozen=True)
class SizeRule:
    """One threshold on the area a split, learned from its training images, on the test images of all splits.

    Attributes:
        probabilities: (M, C), the shares of the classes on the image's side of the threshold.
        scores: (M, C), what ranks the images for the AUC: the area itself.
        thresholds: areas, one a split.
        sides: the classes at or below and above it, one pair a split.
    """

    probabilities: np.ndarray
    scores: np.ndarray
    thresholds: list[float]
    sides: list[list[int]]


def size_rule(labels: np.ndarray, areas: np.ndarray, splits: Sequence[TrainAndTest], classes: int) -> SizeRule:
    """Returns the rule that sees only the size of the cell.

    Only which way the area ranks a class for the AUC is one choice for all splits (see `directions`): with a sign of
    its own for each, splits that disagree would be ranked against each other, all of one above all of
    another, and the AUC would measure the splits instead of the images.

    Args:
        labels: int (N,), of all images.
        areas: (N,), share of each image's pixels that are not black.
        splits: with ``train`` and ``test``, indices into the N images.
        classes: how many classes there are.
    """
    labels, areas = np.asarray(labels), np.asarray(areas, np.float64)
    probabilities, thresholds, sides = [], [], []
    for split in splits:
        threshold, below, above = best_threshold(areas[split.train], labels[split.train], classes)
        probabilities.append(np.where(areas[split.test, None] > threshold, above, below))
        thresholds.append(threshold)
        sides.append([int(below.argmax()), int(above.argmax())])
    pooled = np.concatenate([split.test for split in splits])
    scores = areas[pooled, None] * directions(areas, labels, splits, classes)
    return SizeRule(np.concatenate(probabilities), scores, thresholds, sides)


def evaluate(
    labels: np.ndarray,
    areas: np.ndarray,
    splits: Sequence[TrainAndTest],
    people: Sequence[str],
    *,
    classes: int,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Returns the metrics of both rules over the pooled test images of all splits.

    Both learn from the training images of a split and are scored on its test images.

    Args:
        labels: int (N,), of all images.
        areas: (N,), share of each image's pixels that are not black.
        splits: with ``train`` and ``test``, indices into the N images.
        people: N names of the units of the bootstrap (see `intervals.bootstrap`).
        classes: how many classes there are.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.

    Returns:
        ``majority`` (the class most frequent in training, always) and ``size_threshold`` (one threshold
        on the area), each with the keys of `metrics.evaluate` and ``intervals`` (metric to [low, high]);
        ``size_threshold`` also has ``thresholds`` (area, one a split) and ``sides`` (the classes at or
        below and above it, one pair a split).
    """
    labels, sized = np.asarray(labels), size_rule(labels, areas, splits, classes)
    pooled = np.concatenate([split.test for split in splits])
    shares = [np.bincount(labels[split.train], minlength=classes) / len(split.train) for split in splits]
    majority = np.repeat(shares, [len(split.test) for split in splits], axis=0)

    def scored(probabilities: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        intervals = bootstrap(
            labels[pooled],
            probabilities[None],
            [people[index] for index in pooled],
            scores=scores[None],
            resamples=resamples,
            level=level,
            seed=seed,
        )
        ranges = {name: list(interval) for name, interval in intervals.items()}
        return {**metrics.evaluate(labels[pooled], probabilities, scores), "intervals": ranges}

    return {
        # The shares differ a little between splits; as scores they would rank the splits, not the images.
        "majority": scored(majority, np.zeros((len(pooled), classes))),
        "size_threshold": {
            **scored(sized.probabilities, sized.scores),
            "thresholds": sized.thresholds,
            "sides": sized.sides,
        },
    }


def best_threshold(areas: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Returns the threshold with which one class on either side gets most training images right.

    Which class stands on which side is learned too.  Of equally good thresholds the lowest is
    taken.  O(n log n).

    Args:
        areas: (n,).
        labels: int (n,).
        classes: how many classes there are.

    Returns:
        The threshold, half-way between two areas that occur (or the largest area, if no threshold
        helps), and the shares of the classes at or below it and above it, (C,) each; the largest
        share is the side's class.
    """
    order = np.argsort(areas, kind="stable")
    sorted_areas = areas[order]
    # Images of each class among the first 1, 2, ..., n by area.
    below = np.cumsum(labels[order, None] == np.arange(classes), axis=0)
    above = below[-1] - below
    between = np.append(sorted_areas[:-1] < sorted_areas[1:], True)
    right = np.where(between, below.max(1) + above.max(1), -1)
    cut = int(right.argmax())
    if right[cut] == below[-1].max():
        cut = len(areas) - 1  # no better than the most frequent class on both sides
    if cut == len(areas) - 1:
        shares = below[-1] / len(areas)
        return float(sorted_areas[-1]), shares, shares
    threshold = (sorted_areas[cut] + sorted_areas[cut + 1]) / 2
    return float(threshold), below[cut] / below[cut].sum(), above[cut] / above[cut].sum()


def directions(areas: np.ndarray, labels: np.ndarray, splits: Sequence[TrainAndTest], classes: int) -> np.ndarray:
    """Returns +1 for each class whose training images are larger than the others', else -1, (C,).

    The difference of the two mean areas, summed over the training sides of all splits, decides.  With
    several folds an image that one fold tests another trains on, so this one sign a class has seen the
    test images.  That can only flatter the rule that a model has to beat.

    Args:
        areas: (N,).
        labels: int (N,).
        splits: with ``train``, indices into the N images.
        classes: how many classes there are.
    """
    larger = np.zeros(classes)
    for split in splits:
        own, of = areas[split.train], labels[split.train]
        for label in np.unique(of):
            if (others := own[of != label]).size:
                larger[label] += own[of == label].mean() - others.mean()
    return np.where(larger >= 0, 1.0, -1.0)
