"""Our numbers beside the published ones, and the tolerance of their difference.

Our number and the published one come from different random splits and seeds.  The tolerance is the standard deviation
of the difference of two such runs: √2 times the standard deviation of our number over runs, where a run is one repeat
of the split with one seed.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from alljax.evaluation.intervals import percentile_interval, resample
from alljax.evaluation.metrics import evaluate
from alljax.paper import matching, published
from alljax.paper.matching import Match
from alljax.paper.published import Key, Row
from alljax.report.tables import PERCENT, Value, format_bounds, format_difference, format_value
from alljax.study.results import Study


@dataclass(frozen=True)
class Comparison:
    """Our number beside a published one, as shares.

    Attributes:
        metric: ``training_accuracy`` (after the last epoch) or a metric of metrics.json.
        theirs: the published number; of test accuracy the middle of the implied range.
        rounding: half of the last printed digit, or of the implied range.
        ours: mean over runs; NaN where trials are missing.
        interval: of `ours` over subjects; None where there is none.
        tolerance: NaN with one run.
        missing: why `ours` is NaN.
    """

    metric: str
    theirs: float
    rounding: float
    ours: float = math.nan
    interval: tuple[float, float] | None = None
    tolerance: float = math.nan
    missing: str = ""

    @property
    def difference(self) -> float:
        """Ours − theirs."""
        return self.ours - self.theirs

    def within(self, tolerances: int = 1) -> bool:
        """Returns whether the difference, up to rounding, is at most this many tolerances; False without tolerance."""
        return abs(self.difference) <= tolerances * self.tolerance + self.rounding + 1e-9

    @property
    def values(self) -> list[Value]:
        """For a table: ours, theirs (an implied test accuracy with its range), and the difference with its verdict."""
        low, high = (f"{100 * (self.theirs + sign * self.rounding):.1f}" for sign in (-1, 1))
        text = format_value(self.metric, self.theirs) if self.metric in PERCENT else f"{self.theirs:.2f}"
        theirs = Value(text, self.theirs, f"{low} to {high}" if self.metric == "accuracy" else "")
        if self.missing:
            return [Value("–", note=self.missing), theirs, Value("–")]
        ours = Value(format_value(self.metric, self.ours), self.ours, format_bounds(self.metric, self.interval))
        difference, tolerance = (format_difference(self.metric, each) for each in (self.difference, self.tolerance))
        verdict = f"{'within' if self.within() else 'outside'} ±{tolerance.lstrip('+')}"
        if math.isnan(self.tolerance):
            verdict = "no tolerance: one run"
        return [ours, theirs, Value(difference, self.difference, verdict)]


def compare(match: Match, row: Row, metric: str) -> Comparison:
    """Returns our number beside that of a row of Tables 1 to 6, or for ``accuracy`` beside what the tables imply."""
    if metric == "accuracy":
        (low, high), _ = published.implied_ranges(row, match.test_sizes)
        found = Comparison(metric, (low + high) / 2, (high - low) / 2)
    else:
        found = Comparison(metric, published.printed(row, metric), 5e-5 if metric == "training_accuracy" else 5e-3)
    if not (result := match.result(row)):
        return replace(found, missing=match.missing(row))
    runs = _runs(match.study, match.trials[row])[metric]
    ours = float(runs.mean()) if metric == "training_accuracy" else result[metric]
    return replace(found, ours=ours, interval=result["intervals"].get(metric), tolerance=_tolerance(runs))


def compare_means(match: Match, key: Key) -> list[Comparison]:
    """Returns the means over epochs of one of Tables 3 to 6; intervals use the same resamples for all epochs."""
    found = [Comparison(metric, theirs, 5e-3) for metric, theirs in published.MEANS[key].items()]
    names = [match.trials[row] for row in match.finished if row[:2] == key]
    if len(names) < len(published.EPOCHS):
        missing = f"{len(names)} of {len(published.EPOCHS)} trials"
        return [replace(mean, missing=missing) for mean in found]
    study = match.study
    tests = [study.predictions(name).held_out for name in names]
    resampled = resample(tests, study.bootstrap, list(published.MEANS[key]))
    means = []
    for mean in found:
        ours = float(np.mean([study.metrics["trials"][name][mean.metric] for name in names]))
        draws = np.mean([test[mean.metric] for test in resampled], axis=0)
        tolerance = _tolerance(np.mean([_runs(study, name)[mean.metric] for name in names], axis=0))
        interval = percentile_interval(draws, study.bootstrap.level)
        means.append(replace(mean, ours=ours, interval=interval, tolerance=tolerance))
    return means


def describe(match: Match) -> str:
    """Returns what the tolerance is, for the report."""
    if match.finished and math.isnan(compare(match, match.finished[0], "macro_f1").tolerance):
        return "With one run there is no tolerance: set split.repeats or study.seeds to 2 or more."
    return (
        "Tolerance, after ±: √2 times the standard deviation of our number over runs (repeats of the random split × "
        "seeds). If only split and seed differ, about 68% of the differences are within the tolerance and 95% within "
        "twice the tolerance. Published numbers count with their rounding."
    )


def interval_note(match: Match) -> str:
    """Returns the sentence below a table that explains its intervals."""
    level, unit = match.study.bootstrap.level, matching.unit(match.study)
    caution = " The subjects are unknown: if subjects have several images, they are too narrow."
    return f"In brackets: {level:.0%} intervals over {unit}.{caution if unit == 'images' else ''}"


def _tolerance(runs: np.ndarray) -> float:
    return math.sqrt(2) * float(np.std(runs, ddof=1)) if len(runs) > 1 else math.nan


@functools.lru_cache(maxsize=64)
def _runs(study: Study, name: str) -> Mapping[str, np.ndarray]:
    """Returns the metrics of a trial, one number per repeat of the split and seed; test metrics are over all folds."""
    history = study.history(name)
    last = history.groupby(["repeat", "fold", "seed"]).tail(1)
    training = last.groupby(["repeat", "seed"])["train_accuracy"].mean()
    tested = study.predictions(name)
    repeats = np.array([int(fold.partition(" ")[0]) for fold in tested.folds])
    tests = []
    for repeat, seed in training.index:
        rows, of_seed = repeats == repeat, tested.probabilities[seed - history["seed"].min()]
        tests.append(evaluate(tested.labels[rows], of_seed[rows]))
    found = {metric: np.array([test[metric] for test in tests]) for metric in ("accuracy", *published.METRICS.values())}
    return {"training_accuracy": training.to_numpy(), **found}
