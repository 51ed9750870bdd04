"""Confidence intervals of metrics: jackknife over subjects.

Images of one subject resemble each other, so subjects, not images, are the independent units. Each is left out in turn
(B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11); the spread of these values gives the
standard error, and Student's t with Satterthwaite's degrees of freedom its multiple. Subjects differ in their number of
images, so the degrees of freedom are those of the effective number of subjects (L. Kish, Survey Sampling, 1965).
Percentiles of a bootstrap over subjects cover the true value less often than stated, see `docs/intervals.md`.

The sample is stratified by class: data sets like C-NMC fix how many patients and controls they include, so this number
is not part of the noise, and neither is the share of each class among the images, which is held at the observed one.
Thresholds are held fixed, and so are the trained models: no interval includes the variation over trainings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from alljax.evaluation.metrics import (
    METRICS,
    average_precision,
    count,
    folds_are_complete,
    from_counts,
    pairs_in_order,
    ratio,
    with_means,
)

Interval = tuple[float, float]

RANGES: Mapping[str, Interval | None] = {"mcc": (-1.0, 1.0), "log_loss": None, "brier_scaled": None}
"""Lowest and highest possible value of the metrics for which it is not 0 and 1."""

MOST_WEIGHTS = 10_000_000
"""Units times images up to which the average precision has intervals: 80 MB per array; not with unknown subjects."""


@dataclass(frozen=True)
class HeldOut:
    """The predictions of one model on held-out images.

    Attributes:
        labels: int (N,), indices of the true classes.
        probabilities: (R, N, C) of R seeds.
        subjects: (N,) names of the independent units. Where subjects are unknown: the paths of the images.
        folds: (N,) names of the folds. The AUC compares only scores of the same fold, see `metrics.auc`. None: all
            images are of one fold.
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

    @cached_property
    def fold(self) -> np.ndarray:
        """The folds as numbers from 0, int (N,)."""
        if self.folds is None:
            return np.zeros(len(self.labels), int)
        return np.unique(self.folds, return_inverse=True)[1]

    def take(self, rows: np.ndarray) -> "HeldOut":
        """Returns the predictions of some images."""
        parts = self.probabilities[:, rows], self.subjects[rows], self.fold[rows], self.ranking[:, rows]
        return HeldOut(self.labels[rows], *parts)

    @property
    def metric_names(self) -> list[str]:
        """`METRICS`, other means, and the metrics of each class with images as ``recall_0``, ``recall_1``, …."""
        by_class = ("precision", "recall", "f1", "auc", "pr_auc")
        means = [f"{mean}_{name}" for mean in ("macro", "weighted") for name in by_class]
        classes = [f"{name}_{label}" for name in by_class for label in np.unique(self.labels)]
        return list(dict.fromkeys([*METRICS, *means, *classes]))


@dataclass(frozen=True)
class Jackknife:
    """The subjects of one or several tests with the same classes, each of which is left out in turn.

    Attributes:
        units: (K,) names of the subjects.
        images: (C, K), how many images of each class each subject has, over all tests.
        equal: whether every subject has the same weight, instead of every image; there is no AUC then.
    """

    units: np.ndarray
    images: np.ndarray
    equal: bool = False

    @classmethod
    def of(cls, *tests: HeldOut, equal: bool = False) -> "Jackknife":
        """Returns the subjects of tests; a subject that is in several of them is left out of all at once."""
        units, unit = np.unique(np.concatenate([test.subjects for test in tests]), return_inverse=True)
        images = np.zeros((tests[0].probabilities.shape[2], len(units)))
        np.add.at(images, (np.concatenate([test.labels for test in tests]), unit), 1)
        return cls(units, images / images.sum(0) if equal else images, equal)

    @property
    def subjects(self) -> list[int]:
        """The number of subjects of each class."""
        return [int(number) for number in (self.images > 0).sum(1)]

    @property
    def effective(self) -> list[float]:
        """The effective number of subjects of each class, see `effective_number`."""
        return [effective_number(of_class) for of_class in self.images]

    @property
    def strata(self) -> list[np.ndarray]:
        """The subjects of each class, bool (K,); all together where some have images of several classes."""
        several = (self.images > 0).sum(0).max() > 1
        return [np.ones(len(self.units), bool)] if several else [one > 0 for one in self.images if one.any()]

    def values(self, test: HeldOut, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns metrics, averaged over seeds: of all images, then without each unit, (1 + K,).

        Args:
            test: one of those that the units are from.
            names: see `HeldOut.metric_names`.

        Returns:
            NaN where the AUC is undefined (see `metrics.ranking`), or no image of a class is left. A fold that loses a
            class without a unit is left out of that AUC. No average precision if there are more than `MOST_WEIGHTS`.
        """
        precision = any("pr_auc" in name for name in names) and len(self.units) * len(test.labels) <= MOST_WEIGHTS
        ranked = any("auc" in name for name in names) and folds_are_complete(test.labels, test.fold)
        unit, present, per_seed = np.searchsorted(self.units, test.subjects), np.unique(test.labels), []
        for probabilities, scores in zip(np.asarray(test.probabilities, np.float64), test.ranking, strict=True):
            confusion, loss = count(test.labels, probabilities, unit, len(self.units))
            weights = ratio(np.ones(len(self.units)), confusion.sum((0, 1))) if self.equal else 1
            confusion, loss = _without_each(confusion * weights), _without_each(loss * weights)
            shares = _shares(confusion.sum(1))
            per_seed.append(from_counts(confusion * shares[:, None], (loss * shares).sum(1), present))
            if ranked and not self.equal:
                per_seed[-1] |= self.ranking(test, scores, precision)
        undefined = np.full(1 + len(self.units), np.nan)
        return {name: np.mean([of_seed.get(name, undefined) for of_seed in per_seed], axis=0) for name in names}

    def sums(self, test: HeldOut, values: np.ndarray) -> np.ndarray:
        """Returns sums over the images of values (M, N) with the shares of the classes held, (M, 1 + K)."""
        entry = test.labels * len(self.units) + np.searchsorted(self.units, test.subjects)
        counted = [np.bincount(entry, weights, self.images.size) for weights in (np.ones(len(entry)), *values)]
        by_class = _without_each(np.reshape(counted, (-1, *self.images.shape)))
        return (by_class[1:] * _shares(by_class[0])).sum(1)

    def interval(
        self, values: np.ndarray, level: float, limits: Interval | None = (0.0, 1.0), label: int | None = None
    ) -> Interval | None:
        """Returns the interval of a metric or a difference.

        It is symmetric on the logit scale between the limits (between -1 and 1: Fisher's z). At a limit, where the
        standard error is 0, it is the interval of E. Wilson (1927) for the effective number of subjects.

        Args:
            values: of all images, then without each unit, (1 + K,), see `values`.
            level: confidence level.
            limits: lowest and highest possible value; None for differences and unbounded metrics.
            label: the only class that the metric depends on; None for all.

        Returns:
            None where a class has only one subject, or a value is undefined.
        """
        from scipy.special import expit, logit, ndtri

        if 1 in self.subjects or not np.isfinite(values).all():
            return None
        value, reach = float(values[0]), self._reach(values[1:], level)
        if limits is None:
            return value - reach, value + reach
        low, width = limits[0], limits[1] - limits[0]
        share = (value - low) / width
        if 0 < share < 1:
            half = reach / (width * share * (1 - share))
            bounds = expit(logit(share) - half), expit(logit(share) + half)
        else:
            number = min(filter(None, self.effective)) if label is None else self.effective[label]
            farthest = ndtri((1 + level) / 2) ** 2 / (number + ndtri((1 + level) / 2) ** 2)
            bounds = (1 - farthest, 1.0) if share else (0.0, farthest)
        return low + width * float(bounds[0]), low + width * float(bounds[1])

    def interval_of(self, name: str, values: np.ndarray, level: float) -> Interval | None:
        """Returns the `interval` of one of `HeldOut.metric_names`."""
        label = int(name.removeprefix("recall_")) if name.startswith("recall_") else None
        return self.interval(values, level, RANGES.get(name, (0.0, 1.0)), label)

    def _reach(self, values: np.ndarray, level: float) -> float:
        """Returns the standard error of a metric times the quantile of t, from its values without each unit, (K,)."""
        from scipy.special import stdtrit

        variances, squares = 0.0, 0.0
        for members in self.strata:
            without = values[members]
            variance = (len(without) - 1) * np.var(without)
            variances += variance
            squares += variance**2 / (effective_number(self.images.sum(0)[members]) - 1)
        if not variances:
            return 0.0
        # Below one degree of freedom the quantile grows beyond any use.
        return float(np.sqrt(variances) * stdtrit(max(1.0, variances**2 / squares), (1 + level) / 2))

    def ranking(self, test: HeldOut, scores: np.ndarray, precision: bool = False) -> dict[str, np.ndarray]:
        """Returns `metrics.ranking` of scores (N, C): of all images, then without each unit, (1 + K,).

        Folds that lack a class are left out. With `precision` also the average precision.
        """
        unit, found = np.searchsorted(self.units, test.subjects), {}
        if precision:
            left = np.arange(-1, len(self.units)) != unit[:, None]
            weights = left * _shares(np.eye(scores.shape[1])[test.labels].T @ left)[test.labels]
        for label in np.unique(test.labels):
            positive, of_class = test.labels == label, scores[:, label]
            counted = pairs_in_order(positive, of_class, test.fold)
            # Pairs within a unit count for both of their images, but are left out once.
            within = pairs_in_order(positive, of_class, test.fold * len(self.units) + unit)[:, positive]
            own = [
                np.bincount(unit, counts, len(self.units)) - np.bincount(unit[positive], inside, len(self.units))
                for counts, inside in zip(counted, within, strict=True)
            ]
            total = counted[:, positive].sum(1, keepdims=True)
            if total[1]:
                right, pairs = np.concatenate([total, total - own], axis=1)
                found[f"auc_{label}"] = ratio(right, pairs, np.nan)
                if precision:
                    found[f"pr_auc_{label}"] = average_precision(positive, of_class, test.fold, weights)
        return with_means(found, np.bincount(test.labels), scores.shape[1])


def confidence_intervals(
    test: HeldOut, level: float, names: Sequence[str] = (), minus: HeldOut | None = None
) -> dict[str, Interval]:
    """Returns the interval of each metric, averaged over seeds; without metrics that have none.

    Args:
        test: the predictions.
        level: confidence level.
        names: which metrics, by default `HeldOut.metric_names`.
        minus: another model on the same images in the same order. The intervals are then those of the difference to
            it, with the same subject left out for both: narrower than the two intervals of the models suggest, because
            the difficulty of a subject is the same for both.
    """
    jackknife, names = Jackknife.of(test), names or test.metric_names
    values, others = jackknife.values(test, names), jackknife.values(minus, names) if minus else {}
    found = {
        name: jackknife.interval(values[name] - others[name], level, limits=None)
        if minus
        else jackknife.interval_of(name, values[name], level)
        for name in names
    }
    return {name: interval for name, interval in found.items() if interval}


def summarize(test: HeldOut, level: float, names: Sequence[str] = (), equal: bool = False) -> dict[str, Any]:
    """Returns each metric, averaged over seeds (None where undefined), and ``intervals`` of those that have one.

    The arguments are those of `confidence_intervals`, and `Jackknife.equal`.
    """
    jackknife = Jackknife.of(test, equal=equal)
    values = jackknife.values(test, names or test.metric_names)
    found = {name: jackknife.interval_of(name, of_metric, level) for name, of_metric in values.items()}
    intervals = {name: list(interval) for name, interval in found.items() if interval}
    shown = {name: float(of_all) if np.isfinite(of_all := of_metric[0]) else None for name, of_metric in values.items()}
    return shown | {"intervals": intervals}


def effective_number(images: np.ndarray) -> float:
    """Returns Kish's effective number of subjects, (Σm)²/Σm², from their numbers of images m, (K,); 0 without images.

    It is the number of subjects with equally many images that gives as precise a mean, if images of the same subject
    are alike.
    """
    return float(np.sum(images) ** 2 / np.sum(np.square(images))) if np.any(images) else 0.0


def _without_each(counts: np.ndarray) -> np.ndarray:
    """Returns the sum over units, then the sums without each unit: from (…, K), (…, 1 + K)."""
    total = counts.sum(-1, keepdims=True)
    return np.concatenate([total, total - counts], axis=-1)


def _shares(images: np.ndarray) -> np.ndarray:
    """Returns the weights, (C, 1 + K), with which the share of each class stays that of all images.

    `images` counts each class, as from `_without_each`; NaN where no image of a class is left.
    """
    return np.where(images[:, :1] == 0, 1.0, ratio(images[:, :1], images, np.nan))
