"""Confidence intervals of metrics: percentile bootstrap over subjects.

Images of one subject resemble each other, so subjects, not images, are the independent units that are resampled
(B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8). Resampling images gives intervals
that are several times too narrow.

Subjects are resampled within each class (the class of a subject is that of most of its images): data sets like C-NMC
fix how many patients and controls they include, so this number is not part of the noise. Where every subject has
images of one class only, no resample loses a class. Where a resample does lose one, the undefined metrics (see
`resample`) are left out of the percentiles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

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
    test: HeldOut, bootstrap: Bootstrap, names: Sequence[str] = tuple(METRICS)
) -> dict[str, Interval]:
    """Returns the interval of every metric, averaged over seeds; without metrics that no resample defines.

    Args:
        test: the predictions; every seed uses the same resamples.
        bootstrap: resamples and level.
        names: which metrics, see `resample`.
    """
    return _intervals(resample([test], bootstrap, names)[0], bootstrap.level)


def paired_difference(
    first: HeldOut, second: HeldOut, bootstrap: Bootstrap, names: Sequence[str] = tuple(METRICS)
) -> dict[str, Interval]:
    """Returns the interval of ``first - second`` for each metric, with the same subjects drawn for both.

    The difficulty of a subject is the same for both models, so this interval is narrower than the two intervals of
    the models suggest.

    Args:
        first: one model.
        second: the other model, on the same images in the same order.
        bootstrap: resamples and level.
        names: which metrics, see `resample`.
    """
    one, other = (resample([test], bootstrap, names)[0] for test in (first, second))
    return _intervals({name: one[name] - other[name] for name in one}, bootstrap.level)


def resample(
    tests: Sequence[HeldOut], bootstrap: Bootstrap, names: Sequence[str] = tuple(METRICS)
) -> list[dict[str, np.ndarray]]:
    """Returns each metric, averaged over seeds, in every resample: ``{name: (resamples,)}`` per test.

    The weight of an image is how often its subject was drawn. Subjects are drawn once for all tests, from all
    subjects that occur in any of them. Models that were tested on different images, as under two split protocols, can
    thus be compared: the difference of two entries is a difference for the same draw of subjects.

    Metrics that are undefined in a resample are NaN: the AUC where no class can be ranked, and the recall and
    macro averages where a class was lost. A class that the complete set does not have counts as 0 in macro averages,
    as in `metrics.evaluate`.

    Args:
        tests: at least one, all with the same classes.
        bootstrap: resamples and their seed.
        names: which of `METRICS`; also ``recall_0``, ``recall_1``, … of single classes.
    """
    units, unit = np.unique(np.concatenate([test.subjects for test in tests]), return_inverse=True)
    labels = np.concatenate([test.labels for test in tests])
    units_of = np.split(unit, np.cumsum([len(test.labels) for test in tests])[:-1])
    functions = [_metrics(test, own, len(units), names) for test, own in zip(tests, units_of, strict=True)]
    chunks = [
        [function(weights) for function in functions] for weights in _weights(labels, unit, len(units), bootstrap)
    ]
    return [
        {name: np.concatenate([found[name] for found in of_test]) for name in names}
        for of_test in zip(*chunks, strict=True)
    ]


def percentile_interval(values: np.ndarray, level: float = 0.95) -> Interval | None:
    """Returns the percentile interval of resampled values; None if none of them is defined.

    Args:
        values: (resamples,), NaN where undefined.
        level: share of the resamples inside.
    """
    if not (known := values[np.isfinite(values)]).size:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def auc_within_folds(test: HeldOut) -> float | None:
    """Returns the AUC over pairs of images of the same fold, averaged over seeds and (more than two) classes.

    Each fold has its own head, whose scores can differ in scale: ranked together, images would be ranked by fold.
    None where a fold lacks a class, because the remaining pairs do not represent all images.
    """
    folds = np.zeros(len(test.labels)) if test.folds is None else test.folds
    if any(len(np.unique(test.labels[folds == fold])) < test.probabilities.shape[2] for fold in np.unique(folds)):
        return None
    ones = np.ones((len(test.labels), 1))
    rankings = [_rankings(test.labels, of_seed, test.folds) for of_seed in test.ranking]
    return float(np.mean([_weighted_auc(ranking, ones)[0] for ranking in rankings]))


def _metrics(
    test: HeldOut, unit: np.ndarray, units: int, names: Sequence[str]
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns a function from the weights of the units, (units, B), to the metrics, (B,) each, averaged over seeds."""
    present = np.isin(np.arange(test.probabilities.shape[2]), test.labels)
    sums = [_sums(test.labels, np.asarray(of_seed, np.float64), unit, units) for of_seed in test.probabilities]
    rankings = [_rankings(test.labels, of_seed, test.folds) for of_seed in test.ranking] if "auc" in names else []

    def metrics(weights: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):  # a resample without any subject of a small test
            seeds = [_from_sums(of_seed @ weights, present) for of_seed in sums]
        found = {name: [of_seed[name] for of_seed in seeds] for name in names if name != "auc"}
        if rankings:
            of_images = weights[unit]
            found["auc"] = [_weighted_auc(ranking, of_images) for ranking in rankings]
        return {name: np.mean(values, axis=0) for name, values in found.items()}

    return metrics


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
        weights = np.zeros((units, size))
        for members, generator in zip(strata, generators, strict=True):
            draws = generator.integers(len(members), size=(size, len(members)))
            draws += np.arange(size)[:, None] * len(members)
            counts = np.bincount(draws.ravel(), minlength=size * len(members))
            weights[members] = counts.reshape(size, len(members)).T
        yield weights


def _sums(labels: np.ndarray, probabilities: np.ndarray, unit: np.ndarray, units: int) -> np.ndarray:
    """Returns the confusion matrix (flat) and summed loss of each unit, (C * C + 1, units)."""
    classes = probabilities.shape[1]
    entry = labels * classes + probabilities.argmax(1)
    sums = np.zeros((classes * classes + 1, units))
    np.add.at(sums, (entry, unit), 1)
    np.add.at(sums[-1], unit, losses(labels, probabilities))
    return sums


def _from_sums(sums: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the metrics that follow from confusion matrices and losses, sums (C * C + 1, B), as (B,).

    Args:
        sums: of each resample.
        present: bool (C,), the classes that occur in the complete set.
    """
    classes = len(present)
    confusion = sums[:-1].reshape(classes, classes, -1)
    hits = np.einsum("iib->ib", confusion)
    true, predicted, total = confusion.sum(1), confusion.sum(0), sums[:-1].sum(0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, true)
    f1 = _ratio(2 * hits, true + predicted)
    lost = true == 0
    loses_class = (lost & present[:, None]).any(0)
    return {
        "accuracy": hits.sum(0) / total,
        "macro_precision": np.where(loses_class, np.nan, precision.mean(0)),
        "macro_recall": np.where(loses_class, np.nan, recall.mean(0)),
        "macro_f1": np.where(loses_class, np.nan, f1.mean(0)),
        "weighted_f1": (f1 * true).sum(0) / total,
        "log_loss": sums[-1] / total,
        **{f"recall_{label}": of_class for label, of_class in enumerate(np.where(lost, np.nan, recall))},
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return ratio


RankedFold = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _rankings(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None) -> list[list[RankedFold]]:
    """Sorts the images once per ranked class and fold, for `_weighted_auc`.

    Each entry: indices of the images of the class (P,); indices of the others by ascending score (Q,); and for each
    image of the class how many of the others have a lower, and a lower or equal, score, (P,) each.
    """
    parts = [np.arange(len(labels))] if folds is None else [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    return [
        [_ranked_fold(rows, labels[rows] == label, scores[rows, label]) for rows in parts]
        for label in ([1] if scores.shape[1] == 2 else range(scores.shape[1]))
    ]


def _ranked_fold(rows: np.ndarray, of_class: np.ndarray, scores: np.ndarray) -> RankedFold:
    order = np.argsort(scores[~of_class], kind="stable")
    negative, positive = scores[~of_class][order], scores[of_class]
    lower, lower_or_equal = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    return rows[of_class], rows[~of_class][order], lower, lower_or_equal


def _weighted_auc(rankings: list[list[RankedFold]], weights: np.ndarray) -> np.ndarray:
    """Returns the AUC (the mean over classes that can be ranked) under weights (N, B), as (B,).

    The AUC is the weighted share of pairs (an image of the class, another image of the same fold) in the right order;
    ties count half (the statistic of Mann and Whitney).
    """
    total, ranked = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for of_class in rankings:
        right, pairs = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
        for positive, negative, lower, lower_or_equal in of_class:
            below = np.zeros((len(negative) + 1, weights.shape[1]))
            np.cumsum(weights[negative], axis=0, out=below[1:])
            own = weights[positive]
            pairs += own.sum(0) * below[-1]
            right += np.einsum("pb,pb->b", own, below[lower]) + np.einsum("pb,pb->b", own, below[lower_or_equal])
        total += _ratio(right / 2, pairs)
        ranked += pairs > 0
    return np.divide(total, ranked, out=np.full_like(total, np.nan), where=ranked > 0)


def _intervals(values: dict[str, np.ndarray], level: float) -> dict[str, Interval]:
    found = {name: percentile_interval(of_metric, level) for name, of_metric in values.items()}
    return {name: interval for name, interval in found.items() if interval is not None}
