"""Ranking of the trials of a study, with simultaneous intervals of the differences to the best one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from alljax.evaluation.intervals import Bootstrap, Interval, resample


@dataclass(frozen=True)
class Difference:
    """A trial compared with the best one.

    Attributes:
        value: its metric minus that of the best trial.
        interval: of this difference, simultaneous for all pairs of the study (see `Ranking.differences`). None where
            the two were tested on different images, or no resample defines the metric.
    """

    value: float
    interval: Interval | None

    @property
    def below(self) -> bool:
        """Whether the trial is significantly worse than the best one."""
        return self.interval is not None and self.interval[1] < 0


@dataclass(frozen=True)
class Ranking:
    """The trials of a study, best first.

    Attributes:
        metric: the metric that ranks: the AUC (accuracy rewards a model for the share of the larger class), or the
            accuracy where a trial has no AUC.
        order: names of the trials, best first; leaky ones come last.
        leaky: names of the trials whose test leaks while that of others does not.
    """

    metric: str
    order: tuple[str, ...]
    leaky: frozenset[str]
    _trials: Mapping[str, Any] = field(repr=False)
    _predictions: Callable[[str], Any] = field(repr=False)
    _bootstrap: Bootstrap = field(repr=False)

    @property
    def best(self) -> str:
        """Name of the best trial."""
        return self.order[0]

    @cached_property
    def differences(self) -> Mapping[str, Difference]:
        """The difference of every other trial to the best one, best first.

        The best trial was chosen on the images that it is compared on, so an interval that is right for one pair is
        too narrow. These intervals hold for all pairs of trials tested on the same images at once: their half width
        is the standard deviation of the difference over the resamples times a quantile of the largest standardized
        deviation of any pair in a resample (single-step max-T by the bootstrap; P. Westfall and S. Young,
        Resampling-Based Multiple Testing, 1993).
        """
        paths, resampled = np.zeros(0), dict[str, np.ndarray]()
        for name in self.order:
            predictions = self._predictions(name)
            paths = predictions.paths if name == self.best else paths
            # Rows are sorted by path, so equal paths mean the same image in each row, whatever its fold.
            if np.array_equal(predictions.paths, paths):
                resampled[name] = resample([predictions.held_out], self._bootstrap, [self.metric])[0][self.metric]
        values = {name: self._trials[name][self.metric] for name in self.order}
        bounds = _simultaneous({name: values[name] for name in resampled}, resampled, self._bootstrap.level)
        return {name: Difference(values[name] - values[self.best], bounds.get(name)) for name in self.order[1:]}


def rank_trials(metrics: Mapping[str, Any], predictions: Callable[[str], Any], bootstrap: Bootstrap) -> Ranking:
    """Ranks the trials of a study.

    Args:
        metrics: metrics.json of the study.
        predictions: returns the predictions of a trial by name, with ``paths`` (N,), by which its rows are sorted, and
            ``held_out``; read by `Ranking.differences` only.
        bootstrap: of the study's intervals (the same resamples).
    """
    trials = metrics["trials"]
    metric = "auc" if all(trial["auc"] is not None for trial in trials.values()) else "accuracy"
    leaky = frozenset(name for name in trials if metrics["splits"][trials[name]["split"]]["protocol"]["leaky"])
    leaky = leaky if len(leaky) < len(trials) else frozenset()
    order = sorted(trials, key=lambda name: (name in leaky, -trials[name][metric]))  # stable: the earlier stays first
    return Ranking(metric, tuple(order), leaky, trials, predictions, bootstrap)


def _simultaneous(
    values: Mapping[str, float], resampled: Mapping[str, np.ndarray], level: float
) -> dict[str, Interval]:
    """Returns the interval of each difference to the first, for all pairs at once; none if no resample is defined."""
    names, center = list(values), np.array(list(values.values()))
    draws = np.stack([resampled[name] for name in names]) - center[:, None]
    draws = draws[:, np.isfinite(draws).all(0)]
    if draws.shape[1] < 2:
        return {}
    largest, spread = np.zeros(draws.shape[1]), np.zeros(len(names))
    for index in range(1, len(names)):
        pairs = draws[index] - draws[:index]  # (pairs, resamples)
        deviation = pairs.std(1, ddof=1)
        spread[index] = deviation[0]
        varying = deviation > 0  # two models with equal predictions never differ
        if varying.any():
            largest = np.maximum(largest, (np.abs(pairs[varying]) / deviation[varying, None]).max(0))
    reach = np.quantile(largest, level) * spread
    difference = center - center[0]
    bounds = np.stack([difference - reach, difference + reach], axis=1).tolist()
    return {name: (low, high) for name, (low, high) in zip(names[1:], bounds[1:], strict=True)}
