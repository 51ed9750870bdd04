"""Which cell of a study is the best one, and which others could as well be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alljax.evaluation import intervals
from alljax.study import finished
from alljax.study.finished import Predictions, Study


@dataclass(frozen=True)
class Gap:
    """A cell set beside the best one.

    Attributes:
        value: its metric minus the best one's.
        bounds: interval of that difference, both tested on the same images, people drawn alike; None where
            they were tested on different images, or no resample defines the metric.
        paired: both were tested on the same images.
        apart: of cells tested on different images: whether their own intervals lie apart; None if one has none.
    """

    value: float
    bounds: intervals.Interval | None
    paired: bool
    apart: bool | None = None

    @property
    def below(self) -> bool:
        """Whether the cell is worse by more than the choice of people (or cells) explains."""
        return self.bounds is not None and self.bounds[1] < 0


def of_split(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns ``protocol``, ``leaks`` and ``baselines`` of the split that a cell was tested in."""
    split: Mapping[str, Any] = metrics.get("splits", {}).get(metrics["cells"][name].get("split"), metrics)
    return split


def leaky(metrics: Mapping[str, Any]) -> frozenset[str]:
    """Returns the names of the cells whose test leaks while that of others does not."""
    found = [name for name in metrics["cells"] if of_split(metrics, name)["protocol"].get("leaky")]
    return frozenset(found if len(found) < len(metrics["cells"]) else ())


def order(study: Study) -> list[str]:
    """Returns the names of the cells, best first; those whose test leaks come after all others."""
    return finished.ranked(study.metrics["cells"], leaky(study.metrics))


def gap(study: Study, best: str, name: str, of_best: Predictions, of_other: Predictions) -> Gap:
    """Sets a cell beside the best one, in the metric that ranks.

    Args:
        study: the study.
        best: name of the best cell.
        name: of the other.
        of_best: predictions of the first.
        of_other: of the second.
    """
    cells = study.metrics["cells"]
    by = finished.headline(cells)
    value = cells[name][by] - cells[best][by]
    # Rows are sorted by path: with equal paths each row of both is the same image, whatever fold tested it.
    if not np.array_equal(of_best.paths, of_other.paths):
        own, other = (cells[one].get("intervals", {}).get(by) for one in (best, name))
        apart = own[0] > other[1] or other[0] > own[1] if own and other else None
        return Gap(value, None, paired=False, apart=apart)
    bounds = intervals.difference(
        of_best.labels,
        of_other.probabilities,
        of_best.probabilities,
        of_best.people.tolist(),
        names=[by],
        **bootstrap_options(study),
    )
    return Gap(value, bounds.get(by), paired=True)


def bootstrap_options(study: Study) -> dict[str, Any]:
    """Returns how the study drew its intervals, so that those computed later are of the same draws."""
    return {
        "resamples": study.config["evaluation.resamples"],
        "level": study.config["evaluation.level"],
        "seed": study.config["seed"],
    }
