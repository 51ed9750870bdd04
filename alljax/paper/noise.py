"""What may be called noise when a published number stands beside ours: one definition for every table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest

from alljax.report.tables import Value

WITHIN, BEYOND = "within the noise", "beyond the noise"


@dataclass(frozen=True)
class Estimate:
    """A number of ours and the range that chance explains.

    Attributes:
        value: the mean over seeds (and folds).
        low: lower end; NaN where there is no interval.
        high: upper end.
        deviation: standard deviation over seeds (of training accuracy: over runs, one a seed and fold); NaN with one.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    deviation: float = math.nan

    def agrees(self, published: float, rounding: float) -> bool | None:
        """Says whether a published number lies within the noise; None where there is no interval.

        The published number was rounded, so it is a range too: the two ranges must meet.

        Args:
            published: as printed.
            rounding: half of its last digit, for example .005 for two decimals.
        """
        if math.isnan(self.low):
            return None
        slack = 1e-9  # .825 + .005 is not quite .83 in binary
        return published - rounding <= self.high + slack and self.low <= published + rounding + slack


def training(history: Mapping[str, np.ndarray], trials: float, level: float) -> Estimate:
    """Returns the training accuracy after the last epoch, its mean over seeds and folds.

    Its noise is what n training cells drawn anew would change, Wilson's interval of a share (as if each cell
    were of a person of its own; JASA 22, 1927), and what another seed would, z times the standard deviation s over
    the runs (0 with one run, which makes the noise too small): each side is the root of both squared and added.
    z is 1.96 for 95 %.

    Args:
        history: of `finished.read_history`.
        trials: n, the training cells of one run.
        level: share of the normal distribution inside, for example .95.
    """
    epoch, accuracy = np.asarray(history["epoch"]), np.asarray(history["train_accuracy"])
    last = np.append(epoch[1:] <= epoch[:-1], True)  # rows run through the epochs, run after run
    ends = accuracy[last]
    mean = float(ends.mean())
    deviation = float(ends.std(ddof=1)) if len(ends) > 1 else math.nan
    z = float(ndtri((1 + level) / 2))
    wilson = binomtest(round(mean * trials), round(trials)).proportion_ci(level, "wilson")
    of_runs = z * deviation if len(ends) > 1 else 0.0
    below, above = (math.hypot(mean - end, of_runs) for end in (wilson.low, wilson.high))
    return Estimate(mean, max(mean - below, 0.0), min(mean + above, 1.0), deviation)


def tested(result: Mapping[str, Any], metric: str) -> Estimate:
    """Returns a metric of the held-out cells: its noise is the study's own bootstrap interval.

    Args:
        result: the cell's entry of metrics.json.
        metric: for example ``macro_f1``.
    """
    low, high = result.get("intervals", {}).get(metric) or (math.nan, math.nan)
    deviation = result["std"][metric]
    return Estimate(result[metric], low, high, math.nan if deviation is None else deviation)


def notes_of_training(level: float, runs: int) -> tuple[str, ...]:
    """Returns the sentences below a table of training accuracies that say what its noise is.

    Args:
        level: of the intervals.
        runs: how many a cell has, one a seed and fold.
    """
    z = float(ndtri((1 + level) / 2))
    lines = [
        f"Noise, in brackets: Wilson's {level:.0%} interval of a share of the n training cells, widened by {z:.2f} "
        "times the standard deviation s over runs, one a seed and fold; a published number, with its rounding of "
        "±0.005 points, lies within it where the two ranges meet."
    ]
    if runs == 1:
        lines.append("With one run s is not known and counts as 0, so the noise is larger than shown.")
    return tuple(lines)


def notes_of_test(unit: str, level: float, seeds: int) -> tuple[str, ...]:
    """Returns the sentences below a table of tested cells that say what its noise is.

    Args:
        unit: ``people`` or ``cells``, what the bootstrap draws.
        level: of the intervals.
        seeds: how many a cell has.
    """
    lines = [
        f"Noise, in brackets: the {level:.0%} interval of our number from drawing {unit} anew; a published number, "
        "with its rounding, lies within it where the two ranges meet. What other seeds would have given the paper "
        "is not in it." + (f" s: standard deviation over our {seeds} seeds." if seeds > 1 else "")
    ]
    if unit == "subjects":
        lines.append(
            "On C-NMC itself the people are the paper's own, and only the random cells held out and the seeds "
            "differ: the interval over people is then wider than that noise, so “within” is easily said."
        )
    if unit == "images":
        lines.append("Who the cells came from is not known: intervals over cells are too narrow if people repeat.")
    return tuple(lines)


def difference(ours: Estimate, published: float, rounding: float, text: str) -> Value:
    """Returns the entry for ours minus theirs, with the verdict as its second line.

    Args:
        ours: our number.
        published: theirs, in the same unit.
        rounding: half of its last digit.
        text: the difference as people read it.
    """
    agrees = ours.agrees(published, rounding)
    verdict = "no interval" if agrees is None else WITHIN if agrees else BEYOND
    return Value(text, ours.value - published, verdict)


def tally(entries: Sequence[Value]) -> tuple[int, int]:
    """Returns how many of the entries made by `difference` are within the noise, and how many have a verdict."""
    verdicts = [entry.note for entry in entries if entry.note in (WITHIN, BEYOND)]
    return verdicts.count(WITHIN), len(verdicts)
