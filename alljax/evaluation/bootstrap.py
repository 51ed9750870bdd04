"""Bootstrap over subjects, for comparisons of several models at once.

Subjects are resampled within each class (the class of a subject is that of most of its images; B. Efron and
R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8). Its percentiles are too narrow as intervals of a
single metric, see `alljax.evaluation.intervals`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alljax import interrupts
from alljax.evaluation.intervals import HeldOut
from alljax.evaluation.metrics import count, from_counts, ranked_classes, ratio

CHUNK = 2_000_000
"""Maximum number of weights in memory (images times resamples), about 100 MB; does not change results."""


@dataclass(frozen=True)
class Bootstrap:
    """How resamples are drawn.

    Attributes:
        resamples: number of bootstrap resamples.
        level: confidence level.
        seed: of the resamples; tests with equal subjects and seeds use the same resamples.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0


def resample(test: HeldOut, bootstrap: Bootstrap, metric: str) -> np.ndarray:
    """Returns a metric (``auc`` or one of `metrics.from_counts`), averaged over seeds, in every resample, (resamples,).

    The weight of an image is how often its subject was drawn. Undefined metrics are NaN: the AUC where no class can be
    ranked, and the recall and macro averages where a class was lost.
    """
    units, unit = np.unique(test.subjects, return_inverse=True)
    found = []
    for weights in _weights(test.labels, unit, len(units), bootstrap):
        seeds = zip(np.asarray(test.probabilities, np.float64), test.ranking, strict=True)
        found.append(np.mean([_value(test, *seed, unit, weights, metric) for seed in seeds], axis=0))
    return np.concatenate(found)


def _weights(labels: np.ndarray, unit: np.ndarray, units: int, bootstrap: Bootstrap) -> Iterator[np.ndarray]:
    """Yields how often each unit is drawn, (units, resamples), in chunks of the resamples."""
    images = np.zeros((units, labels.max() + 1))
    np.add.at(images, (unit, labels), 1)
    main_class = images.argmax(1)
    strata = [np.flatnonzero(main_class == label) for label in np.unique(main_class)]
    # One generator per class, so that the draws do not depend on the size of a chunk.
    generators = [np.random.default_rng(child) for child in np.random.SeedSequence(bootstrap.seed).spawn(len(strata))]
    chunk = max(1, CHUNK // len(labels))
    for start in range(0, bootstrap.resamples, chunk):
        size = min(chunk, bootstrap.resamples - start)
        interrupts.check(collective=True)
        weights = np.zeros((units, size))
        for members, generator in zip(strata, generators, strict=True):
            draws = generator.integers(len(members), size=(size, len(members)))
            draws += np.arange(size)[:, None] * len(members)
            counts = np.bincount(draws.ravel(), minlength=size * len(members))
            weights[members] = counts.reshape(size, len(members)).T
        yield weights


def _value(
    test: HeldOut, probabilities: np.ndarray, scores: np.ndarray, unit: np.ndarray, weights: np.ndarray, metric: str
) -> np.ndarray:
    """Returns a metric of one seed under weights of the units (units, B), as (B,)."""
    if metric == "auc":
        return _auc(test.labels, scores, test.fold, weights[unit])
    confusion, loss = count(test.labels, probabilities, unit, len(weights))
    return from_counts(confusion @ weights, loss.sum(1) @ weights, np.unique(test.labels))[metric]


def _auc(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the AUC (the mean over classes that can be ranked) under weights (N, B), as (B,)."""
    total, ranked = np.zeros((2, weights.shape[1]))
    for label in ranked_classes(scores.shape[1]):
        right, pairs = np.zeros((2, weights.shape[1]))
        for fold in np.unique(folds):
            positive = np.flatnonzero((folds == fold) & (labels == label))
            negative = np.flatnonzero((folds == fold) & (labels != label))
            negative = negative[np.argsort(scores[negative, label], kind="stable")]
            own, below = weights[positive], np.zeros((len(negative) + 1, weights.shape[1]))
            np.cumsum(weights[negative], axis=0, out=below[1:])
            pairs += own.sum(0) * below[-1]
            for side in ("left", "right"):  # the others that have a lower, and a lower or equal, score
                lower = np.searchsorted(scores[negative, label], scores[positive, label], side)
                right += np.einsum("pb,pb->b", own, below[lower])
        total += ratio(right / 2, pairs)
        ranked += pairs > 0
    return ratio(total, ranked, np.nan)
