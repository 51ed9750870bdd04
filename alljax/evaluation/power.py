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
from alljax.evaluation.intervals import HeldOut, Interval, Jackknife, effective_number, summarize

FEW_SUBJECTS = 10  # effective number of subjects of a class below which its intervals are uncertain themselves
LARGEST = 100_000  # number of subjects that is tried
ROUNDS, LIMIT = 200, 200_000  # simulated studies, and the largest number of predictions in one of them


@dataclass(frozen=True)
class Goal:
    """What a new study is to show."""

    difference: float  # that is to be significant; without a power the half width of the interval
    level: float  # of confidence
    power: float = 0.0  # probability of a significant difference


@dataclass(frozen=True)
class Components:
    """The variance of a metric, or of a difference of two models, in a class."""

    sizes: np.ndarray  # (n,), images of each subject
    total: float  # variance with one subject, whose number of images is one of `sizes`
    between: float  # variance between subjects, as if each had all possible images
    within: float  # variance between images of a subject


def components(test: HeldOut, images: np.ndarray, name: str, minus: HeldOut | None = None) -> list[Components]:
    """Returns the variance components of each class; of all classes together if subjects have images of several.

    Of `images`, (N,) names, a repeated split has several rows. With `minus`, of the difference to another model.
    """
    first = np.unique(images, return_index=True)[1]
    labels, subjects, count = test.labels[first], test.subjects[first], np.bincount(test.labels[first])
    tests = [replace(each, subjects=images) for each in (test, minus) if each]
    values, *others = (Jackknife.of(each).values(each, [name])[name] for each in tests)
    without = values[1:] - sum(other[1:] for other in others)
    deviations = (np.bincount(labels, without) / np.maximum(count, 1))[labels] - without
    found = []
    for members in _strata(test):
        own, owner = members[first], np.unique(subjects[members[first]], return_inverse=True)[1]
        contributions = (deviations * (count[labels] - 1) / count[labels])[own] * len(owner)
        sizes, sums = np.bincount(owner), np.bincount(owner, contributions)
        means, number = sums / sizes, len(sizes)
        total = number**2 / (number - 1) * np.sum((sums / len(owner)) ** 2)
        within = np.sum((contributions - means[owner]) ** 2) / max(1, len(owner) - number)
        between = max(0.0, np.var(means, ddof=1) - within * np.mean(1 / sizes))
        found.append(Components(sizes, float(total), float(between), float(within)))
    return found


def subjects_needed(parts: Sequence[Components], goal: Goal, images: int = 0) -> int | None:
    """Returns the number of subjects per class that reaches a goal, `LARGEST` + 1 at most; None if nothing varies.

    They are effectively at least `FEW_SUBJECTS`, of `images` each, or as many as in the finished study.
    """
    from scipy.special import nctdtr, stdtrit

    variance_of_one = np.array([part.between + part.within / images if images else part.total for part in parts])
    effective_share = np.array([1 if images else effective_number(part.sizes) / len(part.sizes) for part in parts])

    def reached(subjects: int) -> bool:
        variances, effective = variance_of_one / subjects, effective_share * subjects
        if effective.min() < FEW_SUBJECTS:
            return False
        degrees = variances.sum() ** 2 / (variances**2 / (effective - 1)).sum()
        error, quantile = np.sqrt(variances.sum()), stdtrit(degrees, (1 + goal.level) / 2)
        if not goal.power:
            return bool(quantile * error <= goal.difference)
        return bool(nctdtr(degrees, goal.difference / error, quantile) <= 1 - goal.power)

    if not variance_of_one.any():
        return None
    return 1 + bisect.bisect_left(range(1, LARGEST + 1), True, key=reached)


def simulate(test: HeldOut, name: str, goal: Goal, subjects: int, minus: HeldOut | None = None) -> float | None:
    """Returns what studies of subjects drawn with replacement reach; None above `LIMIT`. Arguments as in `components`.

    With a power, the share of significant differences, where the intervals are shifted so that their mean is the goal;
    else the mean half width. Studies without an interval (a fold lacks a class) do not count.
    """
    strata = [[np.flatnonzero(test.subjects == one) for one in np.unique(test.subjects[own])] for own in _strata(test)]
    if subjects * sum(np.mean([*map(len, rows)]) for rows in strata) * len(test.probabilities) > LIMIT:
        return None
    generator, found = np.random.default_rng(0), list[Interval]()
    with progress.bar("simulate studies", ROUNDS, "studies") as update:
        for _ in range(ROUNDS):
            drawn = [rows[one] for rows in strata for one in generator.integers(len(rows), size=subjects)]
            names, chosen = np.repeat(np.arange(len(drawn)), [*map(len, drawn)]), np.concatenate(drawn)
            new, *other = (replace(each.take(chosen), subjects=names) for each in (test, minus) if each)
            found += summarize(new, goal.level, [name], *other)["intervals"].values()
            update(1)
    if not found:
        return None
    low, high = np.transpose(found)
    return float(np.mean(low > np.mean(low + high) / 2 - goal.difference if goal.power else (high - low) / 2))


def _strata(test: HeldOut) -> list[np.ndarray]:
    """Returns which rows are of each of `Jackknife.strata`."""
    jackknife = Jackknife.of(test)
    return [np.isin(test.subjects, jackknife.units[members]) for members in jackknife.strata]
