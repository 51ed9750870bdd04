"""Ranking of trials, with simultaneous intervals of the differences to the best one, and main effects of settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from alljax.evaluation.intervals import HeldOut, Interval, Jackknife
from alljax.evaluation.metrics import folds_are_complete


@dataclass(frozen=True)
class Difference:
    """The metric of a trial minus that of the best one."""

    value: float
    interval: Interval | None  # None where the two were tested on different images, or a class has one subject

    @property
    def below(self) -> bool:
        """Whether the trial is significantly worse than the best one."""
        return self.interval is not None and self.interval[1] < 0


@dataclass(frozen=True, repr=False)
class Ranking:
    """The trials of a study, best first."""

    metrics: Mapping[str, Any]  # metrics.json
    predictions: Callable[[str], Any]  # of a trial by name: ``paths`` (N,), by which its rows are sorted, ``held_out``
    settings: Mapping[str, Any]  # dotted key to value

    @cached_property
    def metric(self) -> str:
        """What ranks: the AUC; the balanced accuracy if a trial has none. The accuracy also rewards a large class."""
        return "macro_recall" if any(trial["auc"] is None for trial in self.metrics["trials"].values()) else "auc"

    @cached_property
    def masked(self) -> set[str]:
        """Names of the trials on images without the cell, which are baselines, unless all are."""
        return self._unless_all({name for name, trial in self.metrics["trials"].items() if trial.get("masked")})

    def _unless_all(self, names: set[str]) -> set[str]:
        return names if len(names) < len(self.metrics["trials"]) else set()

    @cached_property
    def marks(self) -> dict[str, str]:
        """Why a trial is ranked after all others, however high its metric: by name."""
        trials, splits = self.metrics["trials"], self.metrics["splits"]
        leaky = self._unless_all({name for name in trials if splits[trials[name]["split"]]["protocol"]["leaky"]})
        return dict.fromkeys(self.masked, "cell masked") | dict.fromkeys(leaky, "leaky test")

    @cached_property
    def order(self) -> list[str]:
        """Names of the trials, best first, equal ones in the order of the study; marked ones come last."""
        trials = self.metrics["trials"]
        return sorted(trials, key=lambda name: (name in self.masked, name in self.marks, -trials[name][self.metric]))

    @property
    def best(self) -> str:
        """Name of the best trial."""
        return self.order[0]

    @cached_property
    def differences(self) -> Mapping[str, Difference]:
        """The difference of every other trial to the best one, best first.

        The best trial was chosen on the images that it is compared on, so an interval that is right for one pair is
        too narrow. These hold for all pairs of trials tested on the same images at once: their half width is the
        standard deviation of the difference over the resamples times a quantile of the largest standardized deviation
        of any pair (single-step max-T; P. Westfall and S. Young, Resampling-Based Multiple Testing, 1993).
        """
        tested = {name: self.predictions(name) for name in self.order}
        values = {name: self.metrics["trials"][name][self.metric] for name in self.order}
        # Equal paths mean the same image in each row, whatever its fold.
        paired = [name for name in self.order if np.array_equal(tested[name].paths, tested[self.best].paths)]
        jackknife = Jackknife.of(tested[self.best].held_out)
        without = [jackknife.values(tested[name].held_out, [self.metric])[self.metric][1:] for name in paired]
        draws = _resample(jackknife, np.stack(without), self.settings["evaluation.resamples"], self.settings["seed"])
        level = self.settings["evaluation.level"]
        reach = dict(zip(paired, _reach(draws, level), strict=True)) if np.isfinite(draws).all() else {}
        differences = {}
        for name in self.order[1:]:
            value = values[name] - values[self.best]
            interval = (value - reach[name], value + reach[name]) if name in reach else None
            differences[name] = Difference(value, interval)
        return differences


def signal_to_noise(test: HeldOut, metric: str) -> np.ndarray:
    """Returns η = −10 log₁₀(mean(1/y²)) in decibels, larger is better: of all images, then without each of K subjects.

    y is the metric per seed and fold; per seed where folds lack a class. A fold that loses a class is left out.
    """
    jackknife, inverse = Jackknife.of(test), []
    folds = test.fold if folds_are_complete(test.labels, test.fold) else np.zeros_like(test.fold)
    for part in (test.take(folds == fold) for fold in np.unique(folds)):
        for probabilities in part.probabilities:
            of_seed = replace(part, probabilities=probabilities[None], scores=None)
            inverse.append(jackknife.values(of_seed, [metric])[metric] ** -2)
    return np.asarray(-10 * np.log10(np.nanmean(inverse, axis=0)))


def main_effect(levels: np.ndarray, ratios: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the effects of a factor's L levels, (L, 1 + K), and its share in the analysis of variance.

    From the level of each trial, int (T,), and its η, (T, 1 + K): an effect is the mean η of the trials with a level
    minus that of all, the share Σ effect² / Σ (η − mean)².
    """
    deviations = ratios - ratios.mean(0)
    effects = np.stack([deviations[levels == level].mean(0) for level in range(levels.max() + 1)])
    total = np.square(deviations[:, 0]).sum()
    return effects, float(np.square(effects[levels, 0]).sum() / total) if total else 0.0


def _resample(jackknife: Jackknife, without: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Returns deviations of T metrics in resamples of the subjects of each class, (T, resamples).

    To first order every copy of a subject changes a metric by the same amount (Efron and Tibshirani, 1993, section
    20.4), which follows from the metrics without each subject, (T, K).
    """
    generator, draws = np.random.default_rng(seed), np.zeros((len(without), resamples))
    for members in jackknife.strata:
        number, of_class = members.sum(), without[:, members]
        influence = (of_class.mean(1, keepdims=True) - of_class) * np.sqrt((number - 1) / number)
        for resample in draws.T:
            resample += influence @ np.bincount(generator.integers(number, size=number), minlength=number)
    return draws


def _reach(draws: np.ndarray, level: float) -> list[float]:
    """Returns the half width of the interval of each difference to the first, for all pairs at once."""
    largest, spread = np.zeros(draws.shape[1]), np.zeros(len(draws))
    for index in range(1, len(draws)):
        pairs = draws[index] - draws[:index]  # (pairs, resamples)
        deviation = pairs.std(1, ddof=1)
        spread[index] = deviation[0]
        varying = deviation > 0  # two models with equal predictions never differ
        standardized = np.abs(pairs[varying]) / deviation[varying, None]
        largest = np.maximum(largest, standardized.max(0, initial=0))
    return list(np.quantile(largest, level) * spread)
