"""Subjects that a new study needs, from the variance components of the predictions of a finished one.

To first order a metric θ is a mean over the M images of each class, to which image j contributes (M - 1)(θ - θ₋ⱼ),
where θ₋ⱼ is the metric without it. A contribution is the sum of a deviation of the subject and one of the image, whose
variances follow from the moments of the subjects' sums (one-way random effects with unequal group sizes; S. Searle,
G. Casella and C. McCulloch, Variance Components, 1992, chapter 3).
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from alljax import progress
from alljax.evaluation.intervals import HeldOut, Jackknife, confidence_intervals, effective_number

FEW_SUBJECTS = 10
"""Below this effective number of subjects of a class its intervals are uncertain themselves."""

LARGEST = 100_000
"""Largest number of subjects that is tried."""

ROUNDS, LIMIT = 200, 200_000
"""Number of simulated studies, and the largest number of predictions in one of them."""


@dataclass(frozen=True)
class Goal:
    """What a new study is to show."""

    difference: float  # that is to be significant; without a power the half width of the interval
    level: float  # confidence level
    power: float = 0.0  # probability of a significant difference


@dataclass(frozen=True)
class Components:
    """The variance of a metric, or of a difference of two models, among the subjects of a class."""

    sizes: np.ndarray  # (n,), images of each subject
    total: float  # variance with one subject, whose number of images is one of `sizes`
    between: float  # variance between subjects, as if each had all possible images
    within: float  # variance between images of a subject

    def variance(self, subjects: int, images: int) -> tuple[float, float]:
        """Returns the variance with new subjects, and their effective number; `images` as in `subjects_needed`."""
        if images:
            return (self.between + self.within / images) / subjects, float(subjects)
        return self.total / subjects, subjects * effective_number(self.sizes) / len(self.sizes)


def components(test: HeldOut, images: np.ndarray, name: str, minus: HeldOut | None = None) -> list[Components]:
    """Returns the variance components of each class; of all classes together if subjects have images of several.

    Args:
        test: the predictions.
        images: (N,), names of the images. An image has several rows if the split is repeated.
        name: a metric, see `HeldOut.metric_names`.
        minus: another model on the same rows; the components are then those of the difference.
    """
    first = np.unique(images, return_index=True)[1]
    labels, subjects, count = test.labels[first], test.subjects[first], np.bincount(test.labels[first])
    values = _values(replace(test, subjects=images), name, minus and replace(minus, subjects=images))
    contribution = (values[0] - values[1:]) * (count[labels] - 1)
    contribution -= (np.bincount(labels, contribution) / np.maximum(count, 1))[labels]
    found = []
    for members in _strata(test):
        of_images = members[first]
        owner = np.unique(subjects[of_images], return_inverse=True)[1]
        scaled = contribution[of_images] * len(owner) / count[labels[of_images]]
        sizes, sums = np.bincount(owner), np.bincount(owner, scaled)
        means, number = sums / sizes, len(sizes)
        total = number**2 / (number - 1) * np.sum((sums / len(owner)) ** 2)
        within = np.sum((scaled - means[owner]) ** 2) / max(1, len(owner) - number)
        between = max(0.0, np.var(means, ddof=1) - within * np.mean(1 / sizes))
        found.append(Components(sizes, float(total), float(between), float(within)))
    return found


def subjects_needed(parts: Sequence[Components], goal: Goal, images: int = 0) -> int | None:
    """Returns the number of subjects per class that reaches a goal, `LARGEST` + 1 at most; None if nothing varies.

    They are effectively at least `FEW_SUBJECTS`, and have `images` each, or as many as in the finished study.
    """
    from scipy.special import nctdtr, stdtrit

    def reached(subjects: int) -> bool:
        variances, effective = np.transpose([part.variance(subjects, images) for part in parts])
        if effective.min() < FEW_SUBJECTS:
            return False
        degrees = variances.sum() ** 2 / (variances**2 / (effective - 1)).sum()
        error, quantile = np.sqrt(variances.sum()), stdtrit(degrees, (1 + goal.level) / 2)
        if not goal.power:
            return bool(quantile * error <= goal.difference)
        return bool(nctdtr(degrees, goal.difference / error, quantile) <= 1 - goal.power)

    if not any(part.total for part in parts):
        return None
    return 1 + bisect.bisect_left(range(1, LARGEST + 1), True, key=reached)


def simulate(test: HeldOut, name: str, goal: Goal, subjects: int, minus: HeldOut | None = None) -> float | None:
    """Returns what studies of subjects drawn with replacement reach; None above `LIMIT`. Arguments as in `components`.

    With a power it is the share of significant differences, where each interval is shifted so that the true difference
    is that of the goal; else the mean half width. Studies without an interval (a fold lacks a class) do not count.
    """
    rows_of = [[rows[own] for own in _groups(test.subjects[rows])] for rows in map(np.flatnonzero, _strata(test))]
    mean = sum(np.mean([len(own) for own in of_class]) for of_class in rows_of)
    if subjects * mean * test.probabilities.shape[0] > LIMIT:
        return None
    observed, generator, reached = _values(test, name, minus)[0], np.random.default_rng(0), []
    with progress.bar("simulate studies", ROUNDS, "studies") as update:
        for _ in range(ROUNDS):
            drawn = [of_class[one] for of_class in rows_of for one in generator.integers(len(of_class), size=subjects)]
            names = np.repeat(np.arange(len(drawn)), [len(own) for own in drawn])
            new, *other = (_take(each, np.concatenate(drawn), names) for each in (test, minus) if each)
            if interval := confidence_intervals(new, goal.level, [name], *other).get(name):
                low, high = interval
                reached.append(low - observed + goal.difference > 0 if goal.power else (high - low) / 2)
            update(1)
    return float(np.mean(reached)) if reached else None


def _values(test: HeldOut, name: str, minus: HeldOut | None) -> np.ndarray:
    """Returns the metric, or the difference: of all images, then without each subject."""
    values, *others = (Jackknife.of(each).values(each, [name])[name] for each in (test, minus) if each)
    return np.asarray(values - sum(others))


def _strata(test: HeldOut) -> list[np.ndarray]:
    """Returns which rows are of each class; one mask for all rows if subjects have images of several classes."""
    several = (Jackknife.of(test).images > 0).sum(0).max() > 1
    return [np.ones(len(test.labels), bool)] if several else [test.labels == label for label in np.unique(test.labels)]


def _groups(names: np.ndarray) -> list[np.ndarray]:
    """Returns the rows of each different name, in the order of the sorted names."""
    group = np.unique(names, return_inverse=True)[1]
    return np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])


def _take(test: HeldOut, rows: np.ndarray, subjects: np.ndarray) -> HeldOut:
    """Returns rows of a test as images of new subjects."""
    parts = {"labels": test.labels[rows], "probabilities": test.probabilities[:, rows], "folds": test.fold[rows]}
    return replace(test, subjects=subjects, scores=test.ranking[:, rows], **parts)
