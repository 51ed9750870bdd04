"""Which cell of a study is the best one, and which others could as well be."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alljax.evaluation import intervals
from alljax.study import finished
from alljax.study.finished import Study


@dataclass(frozen=True)
class Gap:
    """A cell set beside the best one.

    Attributes:
        value: its metric minus the best one's.
        bounds: interval of that difference, both tested on the same images, people drawn alike, right for all
            pairs of a study at once (see `gaps`); None where they were tested on different images, or no resample
            defines the metric.
        paired: both were tested on the same images.
        apart: of cells tested on different images: whether their own intervals lie apart; None if one has none.
    """

    value: float
    bounds: intervals.Interval | None
    paired: bool
    apart: bool | None = None

    @property
    def below(self) -> bool:
        """Whether the cell is worse by more than the choice of people (or cells), and of the best, explains."""
        return self.bounds is not None and self.bounds[1] < 0


def of_split(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns ``protocol``, ``leaks`` and ``baselines`` of the split that a cell was tested in."""
    split: Mapping[str, Any] = metrics.get("splits", {}).get(metrics["trials"][name].get("split"), metrics)
    return split


def leaky(metrics: Mapping[str, Any]) -> frozenset[str]:
    """Returns the names of the cells whose test leaks while that of others does not."""
    found = [name for name in metrics["trials"] if of_split(metrics, name)["protocol"].get("leaky")]
    return frozenset(found if len(found) < len(metrics["trials"]) else ())


def order(study: Study) -> list[str]:
    """Returns the names of the cells, best first; those whose test leaks come after all others."""
    return finished.ranked(study.metrics["trials"], leaky(study.metrics))


@functools.lru_cache(maxsize=1)
def gaps(study: Study) -> Mapping[str, Gap]:
    """Sets every other cell beside the best one, in the metric that ranks, best first; several parts of a page ask.

    The best was chosen on the images that it is compared on, so an interval that is right for one pair is too narrow:
    among ten equal models the luckiest would seem better than some.  These hold for all pairs of the cells tested on
    the same images at once: their half width is the standard deviation of the difference over the draws times a
    quantile of the largest standardized deviation of any pair in a draw (the single-step max-T of P. Westfall and
    S. Young, Resampling-Based Multiple Testing, 1993, by the bootstrap).

    Args:
        study: the study; the predictions of its cells are read.

    Raises:
        WorkdirError: predictions that are missing or cut off.
    """
    trials, names = study.metrics["trials"], order(study)
    by, best = finished.headline(trials), names[0]
    drawing = {key: value for key, value in bootstrap_options(study).items() if key != "level"}
    paths, drawn = np.zeros(0), dict[str, np.ndarray]()
    for name in names:
        read = finished.read_predictions(study, name)
        paths = read.paths if name == best else paths
        # Rows are sorted by path: with equal paths each row of both is the same image, whatever fold tested it.
        if np.array_equal(read.paths, paths):
            drawn[name] = intervals.resampled(
                read.labels, read.probabilities, read.people.tolist(), names=[by], **drawing
            )[by]
    bounds = _simultaneous({name: trials[name][by] for name in drawn}, drawn, study.config["evaluation.level"])
    found = {}
    for name in names[1:]:
        value = trials[name][by] - trials[best][by]
        if name in drawn:
            found[name] = Gap(value, bounds.get(name), paired=True)
            continue
        own, other = (trials[one].get("intervals", {}).get(by) for one in (best, name))
        apart = own[0] > other[1] or other[0] > own[1] if own and other else None
        found[name] = Gap(value, None, paired=False, apart=apart)
    return found


def _simultaneous(
    values: Mapping[str, float], drawn: Mapping[str, np.ndarray], level: float
) -> dict[str, intervals.Interval]:
    """Returns the interval of each difference to the first, right for all pairs at once; none if no draw is defined.

    Args:
        values: of each cell.
        drawn: the same in every resample, (resamples,).
        level: share of the resamples in which all pairs lie inside.
    """
    names, center = list(values), np.array(list(values.values()))
    draws = np.stack([drawn[name] for name in names]) - center[:, None]
    draws = draws[:, np.isfinite(draws).all(0)]
    if draws.shape[1] < 2:
        return {}
    largest, spread = np.zeros(draws.shape[1]), np.zeros(len(names))
    for place in range(len(names)):
        apart = draws[place] - draws[:place]  # (pairs, resamples)
        deviation = apart.std(1, ddof=1)
        if place:
            spread[place] = deviation[0]
        moving = deviation > 0  # two models that call everything alike never differ
        if moving.any():
            largest = np.maximum(largest, (np.abs(apart[moving]) / deviation[moving, None]).max(0))
    reach = np.quantile(largest, level) * spread
    gap = center - center[0]
    return {
        name: (float(low), float(high))
        for name, low, high in zip(names[1:], (gap - reach)[1:], (gap + reach)[1:], strict=True)
    }


def bootstrap_options(study: Study) -> dict[str, Any]:
    """Returns how the study drew its intervals, so that those computed later are of the same draws."""
    return {
        "resamples": study.config["evaluation.resamples"],
        "level": study.config["evaluation.level"],
        "seed": study.config["seed"],
    }
