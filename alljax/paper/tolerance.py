"""Our numbers beside the published ones, and the tolerance of their difference.

Our number and the published one come from different random splits and seeds.  The tolerance is the standard deviation
of the difference of two such runs: √2 times the standard deviation of our number over runs, where a run is one repeat
of the split with one seed.
"""

import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from alljax.evaluation.metrics import evaluate
from alljax.paper import matching, published
from alljax.paper.matching import Match
from alljax.paper.published import Row
from alljax.report.tables import Value, format_bounds, format_difference, format_value
from alljax.study.results import Study

if TYPE_CHECKING:
    from pandas import DataFrame

METRICS = ("training_accuracy", "accuracy", *published.METRICS.values())


@functools.lru_cache(maxsize=1)
def comparisons(match: Match) -> "DataFrame":
    """Returns every finished row of the paper and metric of `METRICS` with our number and the published one.

    The index is network, optimizer, epochs and metric.  Columns, as shares: ``ours``, the mean over runs; ``low`` and
    ``high``, its interval over subjects (NaN for training accuracy); ``theirs``, for test accuracy the middle of the
    implied range; ``rounding``, half of the last printed digit or of that range; ``difference`` and ``tolerance``
    (NaN with one run).
    """
    import pandas

    records = []
    for row in match.finished:
        runs = _runs(match.study, match.trials[row])
        result = match.study.metrics["trials"][match.trials[row]]
        for metric in METRICS:
            ours = float(runs[metric].mean()) if metric == "training_accuracy" else result[metric]
            low, high = result["intervals"].get(metric) or (math.nan, math.nan)
            theirs, rounding = published_value(row, metric, match.stratified)
            records.append((*row, metric, ours, low, high, theirs, rounding, ours - theirs, _tolerance(runs[metric])))
    index = ["network", "optimizer", "epochs", "metric"]
    columns = [*index, "ours", "low", "high", "theirs", "rounding", "difference", "tolerance"]
    return pandas.DataFrame(records, columns=columns).set_index(index)


def mean_comparison(match: Match, rows: Iterable[Row], metric: str, theirs: float) -> dict[str, float]:
    """Returns the mean of a test metric over rows like an entry of `comparisons`, without an interval.

    Args:
        match: the study beside the paper.
        rows: finished rows.
        metric: one of Tables 3 to 6.
        theirs: the published mean.
    """
    runs = [_runs(match.study, match.trials[row])[metric] for row in rows]
    ours = float(np.mean([match.study.metrics["trials"][match.trials[row]][metric] for row in rows]))
    return {"ours": ours, "low": math.nan, "high": math.nan, "theirs": theirs, "rounding": 5e-3,
            "difference": ours - theirs, "tolerance": _tolerance(np.mean(runs, axis=0))}  # fmt: skip


def published_value(row: Row, metric: str, stratified: bool) -> tuple[float, float]:
    """Returns a published number as a share and half of its last digit; of test accuracy the implied range."""
    if metric == "accuracy":
        (low, high), _ = published.implied_ranges(row, stratified)
        return (low + high) / 2, (high - low) / 2
    if metric == "training_accuracy":
        return published.training_accuracy(row) / 100, 5e-5
    return published.printed(row)[list(published.METRICS.values()).index(metric)], 5e-3


def within(entry: Any, tolerances: int = 1) -> bool:
    """Returns whether a difference, up to rounding, is at most this many tolerances; False without a tolerance."""
    return bool(abs(entry["difference"]) <= tolerances * entry["tolerance"] + entry["rounding"] + 1e-9)


def values(metric: str, entry: Any) -> list[Value]:
    """Returns an entry of `comparisons` for a table: ours, theirs and the difference with its verdict."""
    note = "" if math.isnan(entry["low"]) else format_bounds(metric, (entry["low"], entry["high"]))
    reach = _difference(metric, entry["tolerance"]).lstrip("+")
    verdict = f"{'within' if within(entry) else 'outside'} ±{reach}"
    return [
        Value(_text(metric, entry["ours"]), entry["ours"], note),
        published_text(metric, entry["theirs"], entry["rounding"]),
        Value(_difference(metric, entry["difference"]), entry["difference"],
              "no tolerance: one run" if math.isnan(entry["tolerance"]) else verdict),
    ]  # fmt: skip


def row_values(match: Match, row: Row, metric: str) -> list[Value]:
    """Returns ours, theirs and the difference of a row, whose trial may be missing."""
    if match.result(row):
        return values(metric, comparisons(match).loc[(*row, metric)])
    theirs = published_text(metric, *published_value(row, metric, match.stratified))
    return [Value("–", note=match.missing(row)), theirs, Value("–")]


def describe(match: Match) -> str:
    """Returns what the tolerance is, for the report."""
    if comparisons(match)["tolerance"].isna().all():
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


def published_text(metric: str, value: float, rounding: float) -> Value:
    """Returns a published number for a table; of an implied test accuracy the ends of its range too."""
    if metric == "training_accuracy":
        return Value(f"{value:.2%}", value)
    if metric == "accuracy" and rounding > 5e-5:
        return Value(f"{value:.1%}", value, f"{100 * (value - rounding):.1f} to {100 * (value + rounding):.1f}")
    return Value(f"{value:.2%}" if metric == "accuracy" else f"{value:.2f}", value)


def _text(metric: str, value: float) -> str:
    return f"{value:.2%}" if metric == "training_accuracy" else format_value(metric, value)


def _difference(metric: str, value: float) -> str:
    return (
        f"{100 * value:+.2f}".replace("-", "−") if metric == "training_accuracy" else format_difference(metric, value)
    )


def _tolerance(runs: Any) -> float:
    return math.sqrt(2) * float(np.std(runs, ddof=1)) if len(runs) > 1 else math.nan


@functools.lru_cache(maxsize=64)
def _runs(study: Study, name: str) -> "DataFrame":
    """Returns the metrics of every run of a trial, one row per repeat of the split and seed.

    Training accuracy is that after the last epoch, averaged over folds; test metrics are over all folds.
    """
    import pandas

    history = study.history(name)
    last = history.groupby(["repeat", "fold", "seed"]).tail(1)
    training = last.groupby(["repeat", "seed"])["train_accuracy"].mean()
    tested = study.predictions(name)
    repeats = np.array([int(fold.partition(" ")[0]) for fold in tested.folds])
    records = []
    for repeat, seed in training.index:
        rows, of_seed = repeats == repeat, tested.probabilities[seed - history["seed"].min()]
        metrics = evaluate(tested.labels[rows], of_seed[rows])
        records.append({"training_accuracy": training[repeat, seed]} | {name: metrics[name] for name in METRICS[1:]})
    return pandas.DataFrame(records)
