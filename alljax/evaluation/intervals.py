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

import numpy as np

from alljax.evaluation.metrics import (
    METRICS,
    auc,
    count,
    folds_are_complete,
    from_counts,
    pairs_in_order,
    ranked_classes,
    ratio,
)

Interval = tuple[float, float]

RANGES: Mapping[str, Interval | None] = {"mcc": (-1.0, 1.0), "log_loss": None}
"""Lowest and highest possible value of the metrics for which it is not 0 and 1."""


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

    @property
    def fold(self) -> np.ndarray:
        """The folds as numbers from 0, int (N,)."""
        if self.folds is None:
            return np.zeros(len(self.labels), int)
        return np.unique(self.folds, return_inverse=True)[1]

    @property
    def metric_names(self) -> list[str]:
        """`METRICS`, ``mcc``, and the recall of each class with images as ``recall_0``, ``recall_1``, and so on."""
        return [*METRICS, "mcc", *(f"recall_{label}" for label in np.unique(self.labels))]


@dataclass(frozen=True)
class Jackknife:
    """The subjects of one or several tests with the same classes, each of which is left out in turn.

    Attributes:
        units: (K,) names of the subjects.
        images: (C, K), how many images of each class each subject has, over all tests.
    """

    units: np.ndarray
    images: np.ndarray

    @classmethod
    def of(cls, *tests: HeldOut) -> "Jackknife":
        """Returns the subjects of tests; a subject that is in several of them is left out of all at once."""
        units, unit = np.unique(np.concatenate([test.subjects for test in tests]), return_inverse=True)
        images = np.zeros((tests[0].probabilities.shape[2], len(units)))
        np.add.at(images, (np.concatenate([test.labels for test in tests]), unit), 1)
        return cls(units, images)

    @property
    def subjects(self) -> list[int]:
        """The number of subjects of each class."""
        return [int(number) for number in (self.images > 0).sum(1)]

    @property
    def effective(self) -> list[float]:
        """The effective number of subjects of each class, see `effective_number`."""
        return [effective_number(of_class) for of_class in self.images]

    def values(self, test: HeldOut, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns metrics, averaged over seeds: of all images, then without each unit, (1 + K,).

        Args:
            test: one of those that the units are from.
            names: see `HeldOut.metric_names`.

        Returns:
            NaN where the AUC is undefined (see `metrics.auc`), or no image of a class is left. A fold that loses a
            class without a unit is left out of that AUC.
        """
        unit, present, per_seed = np.searchsorted(self.units, test.subjects), np.unique(test.labels), []
        for probabilities, scores in zip(np.asarray(test.probabilities, np.float64), test.ranking, strict=True):
            confusion, loss = map(_without_each, count(test.labels, probabilities, unit, len(self.units)))
            of_class = confusion.sum(1)
            shares = ratio(of_class[:, :1], of_class, np.nan)  # hold the share of each class
            shares[of_class[:, 0] == 0] = 1
            per_seed.append(from_counts(confusion * shares[:, None], (loss * shares).sum(0), present))
            if "auc" in names:
                per_seed[-1]["auc"] = self._auc(test, scores, unit)
        return {name: np.mean([of_seed[name] for of_seed in per_seed], axis=0) for name in names}

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

    def _reach(self, values: np.ndarray, level: float) -> float:
        """Returns the standard error of a metric times the quantile of t, from its values without each unit, (K,)."""
        from scipy.special import stdtrit

        several = (self.images > 0).sum(0).max() > 1  # subjects with images of several classes are one stratum
        strata = [np.ones(len(self.units), bool)] if several else [of_class > 0 for of_class in self.images]
        variances, squares = 0.0, 0.0
        for members in filter(np.any, strata):
            without = values[members]
            variance = (len(without) - 1) * np.var(without)
            variances += variance
            squares += variance**2 / (effective_number(self.images.sum(0)[members]) - 1)
        if not variances:
            return 0.0
        # Below one degree of freedom the quantile grows beyond any use.
        return float(np.sqrt(variances) * stdtrit(max(1.0, variances**2 / squares), (1 + level) / 2))

    def _auc(self, test: HeldOut, scores: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Returns the AUC over pairs of images of the same fold: of all images, then without each unit, (1 + K,)."""
        areas, units = [], len(self.units)
        if not folds_are_complete(test.labels, test.fold):
            return np.full(1 + units, np.nan)
        for label in ranked_classes(scores.shape[1]):
            positive = test.labels == label
            found = pairs_in_order(positive, scores[:, label], test.fold)
            # Pairs within a unit count for both of their images, but are left out once.
            within = pairs_in_order(positive, scores[:, label], test.fold * units + unit)[:, positive]
            own = [
                np.bincount(unit, counts, units) - np.bincount(unit[positive], inside, units)
                for counts, inside in zip(found, within, strict=True)
            ]
            total = found[:, positive].sum(1, keepdims=True)
            if total[1]:
                right, pairs = np.concatenate([total, total - own], axis=1)
                areas.append(ratio(right, pairs, np.nan))
        return np.mean(areas, axis=0) if areas else np.full(1 + units, np.nan)


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
    jackknife, intervals = Jackknife.of(test), {}
    values = jackknife.values(test, names := names or test.metric_names)
    others = jackknife.values(minus, names) if minus else {}
    for name in names:
        label = int(name.removeprefix("recall_")) if name.startswith("recall_") else None
        if minus:
            interval = jackknife.interval(values[name] - others[name], level, limits=None)
        else:
            interval = jackknife.interval(values[name], level, RANGES.get(name, (0.0, 1.0)), label)
        if interval:
            intervals[name] = interval
    return intervals


def effective_number(images: np.ndarray) -> float:
    """Returns Kish's effective number of subjects, (Σm)²/Σm², from their numbers of images m, (K,); 0 without images.

    It is the number of subjects with equally many images that gives as precise a mean, if images of the same subject
    are alike.
    """
    return float(np.sum(images) ** 2 / np.sum(np.square(images))) if np.any(images) else 0.0


def by_subject(test: HeldOut, shares: np.ndarray | None = None) -> HeldOut:
    """Returns one row per subject (and fold, if its images are in several), from which all metrics can be computed.

    The class is that of most of its images, the probabilities are geometric means over its images, scaled to sum 1,
    and the scores means of the log-odds of each class. If a fold has no subject of a class, as in
    leave-one-subject-out, the rows are of one fold.

    A head that was trained without a subject has seen fewer images of its class, which lowers the probability of this
    class: pooled over the folds of leave-one-subject-out the AUC of a head that has learned nothing is below 0.5.

    Args:
        test: the predictions.
        shares: (F, C), the class shares of the training images of each fold, whose log-odds are subtracted from the
            scores against most of this bias; None: none are.
    """
    from scipy.special import logit, softmax

    names, unit = np.unique(test.subjects, return_inverse=True)
    row = test.fold * len(names) + unit
    order = np.argsort(row, kind="stable")
    rows, starts, counts = np.unique(row[order], return_index=True, return_counts=True)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[:, order], starts, axis=1) / counts[:, None]

    classes, smallest = test.probabilities.shape[2], np.finfo(np.float32).eps
    probabilities = np.clip(np.asarray(test.probabilities, np.float64), smallest, 1 - smallest)
    labels, fold = mean(np.eye(classes)[test.labels][None])[0].argmax(1), rows // len(names)
    return HeldOut(
        labels=labels,
        probabilities=softmax(mean(np.log(probabilities)), axis=2),
        subjects=names[rows % len(names)],
        folds=fold if folds_are_complete(labels, fold) else None,
        scores=mean(logit(probabilities)) - (0 if shares is None else logit(shares)[fold]),
    )


def spread(test: HeldOut, groups: np.ndarray) -> dict[str, float]:
    """Returns the sample standard deviation of each metric, averaged over seeds, over groups of images.

    Args:
        test: the predictions.
        groups: (N,), the fold or the repeat of each image.

    Returns:
        `METRICS` and ``mcc``, without those that are undefined in a group; empty for one group.
    """
    names, group = np.unique(groups, return_inverse=True)
    rows, per_seed = [np.flatnonzero(group == index) for index in range(len(names))], []
    for probabilities, scores in zip(np.asarray(test.probabilities, np.float64), test.ranking, strict=True):
        confusion, loss = count(test.labels, probabilities, group, len(names))
        per_seed.append(from_counts(confusion, loss.sum(0), np.unique(test.labels)))
        areas = [auc(test.labels[part], scores[part], test.fold[part]) for part in rows]
        per_seed[-1]["auc"] = np.array(areas, np.float64)
    values = {name: np.mean([of_seed[name] for of_seed in per_seed], axis=0) for name in (*METRICS, "mcc")}
    return {
        name: float(np.std(of_groups, ddof=1))
        for name, of_groups in values.items()
        if len(names) > 1 and np.isfinite(of_groups).all()
    }


def _without_each(counts: np.ndarray) -> np.ndarray:
    """Returns the sum over units, then the sums without each unit: from (…, K), (…, 1 + K)."""
    total = counts.sum(-1, keepdims=True)
    return np.concatenate([total, total - counts], axis=-1)
