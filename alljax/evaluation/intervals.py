"""Confidence intervals of metrics: percentile bootstrap over subjects.

Images of one subject resemble each other, so subjects, not images, are the independent units that are resampled
(B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8). Resampling images gives intervals
that are several times too narrow.

Subjects are resampled within each class (the class of a subject is that of most of its images): data sets like C-NMC
fix how many patients and controls they include, so this number is not part of the noise. Where every subject has
images of one class only, no resample loses a class. Where a resample does lose one, the undefined metrics (see
`resample`) are left out of the percentiles.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from alljax import interrupts
from alljax.evaluation.metrics import METRICS, losses

CHUNK = 2_000_000
"""Maximum number of weights in memory (images times resamples), about 100 MB; does not change results."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are computed.

    Attributes:
        resamples: number of bootstrap resamples.
        level: confidence level.
        seed: of the resamples; tests with equal subjects and seeds use the same resamples.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    @classmethod
    def of(cls, config: ConfigDict) -> "Bootstrap":
        """Returns the settings ``evaluation.resamples``, ``evaluation.level`` and ``seed``."""
        return cls(config.evaluation.resamples, config.evaluation.level, config.seed)


@dataclass(frozen=True)
class HeldOut:
    """The predictions of one model on held-out images.

    Attributes:
        labels: int (N,), indices of the true classes.
        probabilities: (R, N, C) of R seeds.
        subjects: (N,) names of the resampled units. Where subjects are unknown: the paths of the images.
        folds: (N,) names of the folds. The AUC then compares only scores of the same fold, because the scores of
            different heads can differ in scale. None: all images are ranked together.
        scores: (R, N, C), ranks the images for the AUC; None for `probabilities`.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    subjects: np.ndarray
    folds: np.ndarray | None = None
    scores: np.ndarray | None = None

    @property
    def ranking(self) -> np.ndarray:
        """What ranks the images for the AUC, (R, N, C)."""
        return np.asarray(self.probabilities if self.scores is None else self.scores, np.float64)


def confidence_intervals(
    test: HeldOut, bootstrap: Bootstrap, names: Sequence[str] = tuple(METRICS), minus: HeldOut | None = None
) -> dict[str, Interval]:
    """Returns the interval of each metric, averaged over seeds; without metrics that no resample defines.

    Args:
        test: the predictions; every seed uses the same resamples.
        bootstrap: resamples and level.
        names: which metrics, see `resample`.
        minus: another model on the same images in the same order. The intervals are then those of the difference to
            it, with the same subjects drawn for both: narrower than the two intervals of the models suggest, because
            the difficulty of a subject is the same for both.
    """
    (values,) = resample([test], bootstrap, names)
    if minus is not None:
        (others,) = resample([minus], bootstrap, names)
        values = {name: values[name] - others[name] for name in names}
    intervals = {name: percentile_interval(values[name], bootstrap.level) for name in names}
    return {name: interval for name, interval in intervals.items() if interval is not None}


def resample(
    tests: Sequence[HeldOut], bootstrap: Bootstrap, names: Sequence[str] = tuple(METRICS)
) -> list[dict[str, np.ndarray]]:
    """Returns each metric, averaged over seeds, in every resample: ``{name: (resamples,)}`` per test.

    The weight of an image is how often its subject was drawn. Subjects are drawn once for all tests, from all
    subjects that occur in any of them, so models that were tested on different images can be compared too.

    Metrics that are undefined in a resample are NaN: the AUC where no class can be ranked, and the recall and
    macro averages where a class was lost. A class that the complete set does not have counts as 0 in macro averages,
    as in `metrics.evaluate`.

    Args:
        tests: at least one, all with the same classes.
        bootstrap: number of resamples and their seed.
        names: which of `METRICS`; also ``recall_0``, ``recall_1``, … of single classes.
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


def percentile_interval(values: np.ndarray, level: float) -> Interval | None:
    """Returns the interval that holds a share `level` of the resampled values (B,); None if all of them are NaN."""
    if not (known := values[np.isfinite(values)]).size:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def auc_within_folds(test: HeldOut) -> float | None:
    """Returns the AUC over pairs of images of the same fold, averaged over seeds and (more than two) classes.

    None where a fold lacks a class, because the remaining pairs do not represent all images.
    """
    folds = np.zeros(len(test.labels)) if test.folds is None else test.folds
    if any(len(np.unique(test.labels[folds == fold])) < test.probabilities.shape[2] for fold in np.unique(folds)):
        return None
    ones = np.ones((len(test.labels), 1))
    return float(np.mean([_auc(test.labels, scores, folds, ones) for scores in test.ranking]))


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
    of_images, per_seed = weights[unit], []
    for probabilities, scores in zip(np.asarray(test.probabilities, np.float64), test.ranking, strict=True):
        per_seed.append(_counted(test.labels, probabilities, unit, weights))
        if "auc" in names:
            per_seed[-1]["auc"] = _auc(test.labels, scores, test.folds, of_images)
    return {name: np.mean([of_seed[name] for of_seed in per_seed], axis=0) for name in names}


def _counted(
    labels: np.ndarray, probabilities: np.ndarray, unit: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the metrics that follow from the confusion matrix and the loss, under weights (units, B), as (B,)."""
    units, classes = len(weights), probabilities.shape[1]
    entry = labels * classes + probabilities.argmax(1)
    counts = np.bincount(entry * units + unit, minlength=classes**2 * units).reshape(classes**2, units)
    sums = np.vstack([counts, np.bincount(unit, losses(labels, probabilities), units)]) @ weights
    confusion, total = sums[:-1].reshape(classes, classes, -1), sums[:-1].sum(0)
    hits = np.einsum("iib->ib", confusion)
    true, predicted = confusion.sum(1), confusion.sum(0)
    recall, f1 = _ratio(hits, true), _ratio(2 * hits, true + predicted)
    lost = true == 0
    loses_class = lost[np.unique(labels)].any(0)
    macro = {"macro_precision": _ratio(hits, predicted), "macro_recall": recall, "macro_f1": f1}
    return {
        "accuracy": _ratio(hits.sum(0), total, np.nan),
        "weighted_f1": _ratio((f1 * true).sum(0), total, np.nan),
        "log_loss": _ratio(sums[-1], total, np.nan),
        **{name: np.where(loses_class, np.nan, per_class.mean(0)) for name, per_class in macro.items()},
        **{f"recall_{label}": of_class for label, of_class in enumerate(np.where(lost, np.nan, recall))},
    }


def _auc(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    """Returns the AUC (the mean over classes that can be ranked) under weights (N, B), as (B,).

    The AUC is the weighted share of pairs (an image of the class, another image of the same fold) in the right order;
    ties count half (the statistic of Mann and Whitney).
    """
    folds = np.zeros(len(labels)) if folds is None else folds
    total, ranked = np.zeros((2, weights.shape[1]))
    for label in [1] if scores.shape[1] == 2 else range(scores.shape[1]):
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
        total += _ratio(right / 2, pairs)
        ranked += pairs > 0
    return _ratio(total, ranked, np.nan)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, undefined: float = 0.0) -> np.ndarray:
    out = np.full_like(numerator, undefined)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)
