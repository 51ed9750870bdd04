"""Bootstrap over subjects, for comparisons of several models at once.

Subjects are resampled within each class (the class of a subject is that of most of its images; B. Efron and
R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8). Its percentiles are too narrow as intervals of a
single metric, see `alljax.evaluation.intervals`.
"""

from collections.abc import Iterator, Sequence
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


def resample(tests: Sequence[HeldOut], bootstrap: Bootstrap, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Returns each metric, averaged over seeds, in every resample: ``{name: (resamples,)}`` per test.

    The weight of an image is how often its subject was drawn. Subjects are drawn once for all tests, from all
    subjects that occur in any of them, so models that were tested on different images can be compared too.

    Metrics that are undefined in a resample are NaN: the AUC where no class can be ranked, and the recall and
    macro averages where a class was lost. A class that the complete set does not have counts as 0 in macro averages,
    as in `metrics.evaluate`.

    Args:
        tests: at least one, all with the same classes.
        bootstrap: number of resamples and their seed.
        names: which of `METRICS` but ``pr_auc``; also ``recall_0``, ``recall_1``, … of single classes.
    """
    units, unit = np.unique(np.concatenate([test.subjects for test in tests]), return_inverse=True)
    labels = np.concatenate([test.labels for test in tests])
    units_of = np.split(unit, np.cumsum([len(test.labels) for test in tests])[:-1])
    chunks = [
        [_metrics(test, of_test, weights, names) for test, of_test in zip(tests, units_of, strict=True)]
        for weights in _weights(labels, unit, len(units), bootstrap)
    ]
    return [
        {name: np.concatenate([found[name] for found in of_test]) for name in names}
        for of_test in zip(*chunks, strict=True)
    ]


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


def _metrics(test: HeldOut, unit: np.ndarray, weights: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the metrics, averaged over seeds, under weights of the units (units, B), as (B,)."""
    of_images, per_seed, present = weights[unit], [], np.unique(test.labels)
    for probabilities, scores in zip(np.asarray(test.probabilities, np.float64), test.ranking, strict=True):
        confusion, loss = count(test.labels, probabilities, unit, len(weights))
        per_seed.append(from_counts(confusion @ weights, loss.sum(1) @ weights, present))
        if "auc" in names:
            per_seed[-1]["auc"] = _auc(test.labels, scores, test.folds, of_images)
    return {name: np.mean([of_seed[name] for of_seed in per_seed], axis=0) for name in names}


def _auc(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    """Returns the AUC (the mean over classes that can be ranked) under weights (N, B), as (B,).

    The AUC is the weighted share of pairs (an image of the class, another image of the same fold) in the right order;
    ties count half (the statistic of Mann and Whitney).
    """
    folds = np.zeros(len(labels)) if folds is None else folds
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
