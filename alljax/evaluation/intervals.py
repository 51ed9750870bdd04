"""Confidence intervals of metrics: jackknife over subjects, whose coverage is in `docs/explanation/intervals.md`.

Images of one subject resemble each other, so subjects, not images, are the independent units. Each is left out in turn
(B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11); the spread of these values gives the
standard error, and Student's t with Satterthwaite's degrees of freedom, from the effective number of subjects (L. Kish,
Survey Sampling, 1965), its multiple. The sample is stratified by class: numbers of subjects and shares of classes are
held, and so are thresholds and trained models: no interval includes the variation over trainings.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from alljax import extensions
from alljax.evaluation import metrics
from alljax.evaluation.metrics import BY_CLASS, METRICS, areas, folds_are_complete, from_counts, losses, ratio

Interval = tuple[float, float]


@dataclass(frozen=True)
class HeldOut:
    """The predictions of one model on held-out images."""

    labels: np.ndarray  # int (N,), indices of the true classes
    probabilities: np.ndarray  # (R, N, C) of R seeds
    subjects: np.ndarray  # (N,), names of the independent units; where subjects are unknown: the paths of the images
    folds: np.ndarray | None = None  # (N,), names; the AUC compares images of the same fold; None: all are of one fold
    scores: np.ndarray | None = None  # (R, N, C), ranks the images for the AUC; None for `probabilities`
    weights: np.ndarray | float = 1.0  # (N,), of the images in metrics other than the AUC

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
        means = [f"{mean}_{name}" for mean in ("macro", "weighted") for name in BY_CLASS]
        classes = [f"{name}_{label}" for name in BY_CLASS for label in np.unique(self.labels)]
        return list(dict.fromkeys([*METRICS, *means, *classes]))


@dataclass(frozen=True)
class Jackknife:
    """The subjects of one or several tests with the same classes, each of which is left out in turn."""

    units: np.ndarray  # (K,), names of the subjects
    images: np.ndarray  # (C, K), how many images (their weights) of each class each subject has, over all tests

    @classmethod
    def of(cls, *tests: HeldOut) -> "Jackknife":
        """Returns the subjects of tests; a subject that is in several of them is left out of all at once."""
        units, unit = np.unique(np.concatenate([test.subjects for test in tests]), return_inverse=True)
        images = np.zeros((tests[0].probabilities.shape[2], len(units)))
        labels = np.concatenate([test.labels for test in tests])
        np.add.at(images, (labels, unit), np.concatenate([np.full(len(test.labels), test.weights) for test in tests]))
        return cls(units, images)

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
        """Returns metrics (see `HeldOut.metric_names`), averaged over seeds: of all images, then without each unit.

        They are (1 + K,), NaN where a class has no images left, and where the AUC is undefined: no class can be ranked,
        or a fold lacks a class that another has. A fold that loses a class without a unit is left out of that AUC.
        """
        unit, classes = np.searchsorted(self.units, test.subjects), np.arange(test.probabilities.shape[2])[:, None]
        ranked = any("auc" in name for name in names) and folds_are_complete(test.labels, test.fold)
        undefined, per_seed = np.full(1 + len(self.units), np.nan), []
        for probabilities, scores in zip(np.asarray(test.probabilities, np.float64), test.ranking, strict=True):
            predicted = probabilities.argmax(1) == classes
            sums = self.sums(test, np.concatenate([predicted, losses(test.labels, probabilities)]))
            per_seed.append(from_counts(sums[:-2].swapaxes(0, 1), sums[-2:].sum(1)))
            if ranked:
                per_seed[-1] |= areas(test.labels, scores, test.fold, unit, len(self.units))
            for name in filter(extensions.is_reference, names):
                per_seed[-1][name] = self._external(name, test.labels, probabilities, unit)
        return {name: np.mean([of_seed.get(name, undefined) for of_seed in per_seed], axis=0) for name in names}

    def _external(self, name: str, labels: np.ndarray, probabilities: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Returns a metric from outside the package, as `values`: it is called once, then once without each unit."""
        images, found = np.bincount(labels), [metrics.external(name, labels, probabilities)]
        for number in range(len(self.units)):
            kept = unit != number
            scale = ratio(images, np.bincount(labels[kept], minlength=len(images)), np.nan)[labels]  # as in `sums`
            weighted = labels[kept], probabilities[kept], scale[kept]
            found.append(metrics.external(name, *weighted) if np.isfinite(scale).all() else np.nan)
        return np.array(found)

    def sums(self, test: HeldOut, values: np.ndarray) -> np.ndarray:
        """Returns sums over the images of each class of values (M, N): of all, then without each unit, (M, C, 1 + K).

        They are scaled so that the share of each class stays that of all images; NaN where none of a class is left.
        """
        entry, counted = test.labels * len(self.units) + np.searchsorted(self.units, test.subjects), []
        for of_images in (np.ones(len(entry)), *values):
            by_unit = np.bincount(entry, of_images * test.weights, self.images.size).reshape(self.images.shape)
            total = by_unit.sum(1, keepdims=True)
            counted.append(np.concatenate([total, total - by_unit], axis=1))
        images, *found = counted
        shares = np.where(images[:, :1] == 0, 1.0, ratio(images[:, :1], images, np.nan))
        return np.stack(found) * shares

    def interval(
        self, values: np.ndarray, level: float, limits: Interval | None = (0.0, 1.0), label: int | None = None
    ) -> Interval | None:
        """Returns the interval of a metric or a difference from its `values`, (1 + K,).

        It is symmetric on the logit scale between the limits (-1 and 1: Fisher's z; None for differences and unbounded
        metrics). At a limit it is E. Wilson's (1927) for the effective number of subjects, of class `label` if the
        metric depends on no other. None where a class has one subject, or a value is undefined.
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


def summarize(test: HeldOut, level: float, names: Sequence[str] = (), minus: HeldOut | None = None) -> dict[str, Any]:
    """Returns each metric, averaged over seeds (None where undefined), and ``intervals`` of those that have one.

    By default all of `HeldOut.metric_names`; at level 0 without intervals. With another model on the same images in the
    same order, `minus`, the numbers are the differences to it, with the same subject left out for both.
    """
    if not level:
        test = replace(test, subjects=np.zeros(len(test.labels)))
    jackknife, names = Jackknife.of(test), names or test.metric_names
    values, others = jackknife.values(test, names), jackknife.values(minus, names) if minus else {}
    found, intervals = dict[str, Any](), {}
    for name, of_metric in values.items():
        difference = of_metric - others.get(name, 0)
        found[name] = float(difference[0]) if np.isfinite(difference[0]) else None
        limits = None if minus else metrics.limits(name)
        label = int(name.removeprefix("recall_")) if re.fullmatch(r"recall_\d+", name) else None
        if interval := jackknife.interval(difference, level, limits, label):
            intervals[name] = list(interval)
    return found | ({"intervals": intervals} if level else {})


def describe(test: HeldOut, level: float, external: Sequence[str] = ()) -> dict[str, Any]:
    """Returns `summarize`, also of `external` metrics, ``pooled_auc`` (of one fold), ``confusion``, ``per_class``."""
    from sklearn.metrics import confusion_matrix

    found, classes = summarize(test, level, [*test.metric_names, *external]), range(test.probabilities.shape[2])
    images, predicted = np.bincount(test.labels, minlength=len(classes)), test.probabilities.argmax(2)
    confusion = [confusion_matrix(test.labels, of_seed, labels=classes) for of_seed in predicted]
    more = {
        "pooled_auc": summarize(replace(test, folds=None), 0, ["auc"])["auc"],
        "confusion": np.mean(confusion, axis=0).tolist(),
        "per_class": [
            {name: found.pop(f"{name}_{label}", None if "auc" in name else 0.0) for name in BY_CLASS}
            | {"count": int(images[label])}
            for label in classes
        ],
    }
    return found | more


def describe_seeds(test: HeldOut, level: float, seeds: Sequence[int], external: Sequence[str] = ()) -> dict[str, Any]:
    """Returns `describe`, and the metrics of each seed: ``seeds``, ``per_seed``, and ``std``, see `deviations`."""
    per_seed = [describe(replace(test, probabilities=of_seed[None], scores=None), 0) for of_seed in test.probabilities]
    return describe(test, level, external) | {
        "seeds": list(seeds),
        "std": dict.fromkeys(METRICS) | deviations(per_seed),
        "per_seed": [{"seed": seed} | of_seed for seed, of_seed in zip(seeds, per_seed, strict=True)],
    }


def deviations(parts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the sample standard deviations over parts of the `METRICS` that all have; empty for one part."""
    values = {name: [part[name] for part in parts] for name in METRICS}
    return {name: float(np.std(each, ddof=1)) for name, each in values.items() if len(each) > 1 and None not in each}


def effective_number(images: np.ndarray) -> float:
    """Returns Kish's effective number of subjects, (Σm)²/Σm², from their numbers of images m (K,); 0 without images."""
    return float(np.sum(images) ** 2 / np.sum(np.square(images))) if np.any(images) else 0.0
