"""What the leak was worth: the same set-ups tested on random cells and on people they never saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alljax.evaluation import intervals
from alljax.evaluation.intervals import HeldOut, Interval
from alljax.paper import matching
from alljax.report import plots, setting_names
from alljax.report.plots import BLUE, INK, VERMILION
from alljax.report.tables import (
    Figure,
    Section,
    Table,
    Value,
    format_bounds,
    format_difference,
    format_difference_bounds,
    format_interval,
    format_value,
)
from alljax.study.results import Study

METRICS = {"accuracy": "accuracy", "auc": "AUC within folds", "macro_f1": "macro F1"}


@dataclass(frozen=True)
class Pair:
    """One set-up under both kinds of split.

    Attributes:
        label: what tells it from the others.
        leaky: name of its cell under the paper's split.
        apart: name of its cell with people kept apart.
    """

    label: str
    leaky: str
    apart: str


@dataclass(frozen=True)
class Worth:
    """What a pair scored under the paper's split, and with people apart.

    Attributes:
        sides: of each metric that both cells have, the two numbers.
        draws: of the same in every resample, (2, resamples) each.
    """

    sides: Mapping[str, tuple[float, float]]
    draws: Mapping[str, np.ndarray]

    def gain(self, metric: str) -> float:
        """Returns what the paper's split was worth."""
        leaky, apart = self.sides[metric]
        return leaky - apart

    def drawn_gain(self, metric: str) -> np.ndarray:
        """Returns the same in every resample, (resamples,)."""
        leaky, apart = self.draws[metric]
        return np.asarray(leaky - apart)


def sections(study: Study) -> list[Section]:
    """Returns the section, or nothing where the study has no set-up under both kinds of split.

    Args:
        study: the study.

    Raises:
        WorkdirError: predictions that are missing, cut off or not the study's.
    """
    pairs, protocols = find(study)
    if not pairs:
        return []
    trials, level = study.metrics["trials"], study.bootstrap["level"]
    there = [pair for pair in pairs if pair.leaky in trials and pair.apart in trials]
    worths = {pair: worth(study, pair) for pair in there}
    rows = tuple(_row(study, pair, worths.get(pair), level) for pair in pairs)
    columns = ["set-up"]
    for label in METRICS.values():
        columns += [f"{label}, random cells", f"{label}, people apart", f"{label}, difference"]
    table = Table("leak", "The same set-ups under both splits", tuple(columns), rows, notes=_notes(study, level))
    parts: tuple[Table | Figure, ...] = (table, picture(study, there)) if there else (table,)
    lines = [f"Random cells: protocol paper. People apart: protocol {' and '.join(protocols)}."]
    if there:
        lines.insert(0, _sentence(list(worths.values()), level, len(pairs), matching.unit(study)))
    return [Section("leak", "What the leak was worth", tuple(lines), parts)]


def find(study: Study) -> tuple[list[Pair], list[str]]:
    """Returns the set-ups that are to be tested both ways, and the protocols that keep people apart."""
    settings = matching.declared(study)
    setup = {name: {key: value for key, value in one.items() if not key.startswith("split.")}
             for name, one in settings.items()}  # fmt: skip
    apart = [name for name, one in settings.items() if matching.disjoint(one["split.protocol"])]
    found = []
    for one in settings:
        if settings[one]["split.protocol"] == "paper":
            others = [other for other in apart if setup[one] == setup[other]]
            # Where a study varies more of the split than the protocol, like stands beside like.
            found += [(one, other) for other in others if _split(settings[one]) == _split(settings[other])] or [
                (one, other) for other in others
            ]
    protocols = list(dict.fromkeys(settings[other]["split.protocol"] for _, other in found))
    varied = [one for one in setting_names.varied_settings(study) if "split.protocol" not in one.keys]
    counts = {one: sum(one == first for first, _ in found) for one, _ in found}
    pairs = []
    for one, other in found:
        words = [setting_names.describe(varied, settings[one]) or one]
        words += [settings[other]["split.protocol"]] if counts[one] > 1 else []
        pairs.append(Pair(", ".join(words), one, other))
    return pairs, protocols


def _split(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key.startswith("split.") and key != "split.protocol"}


def worth(study: Study, pair: Pair) -> Worth:
    """Returns what a set-up gains by the paper's split, with people drawn once for both tests.

    The two tests are of different images and cannot be paired image by image.  Their people are the same
    but for those of whom no cell was held out at random, so every draw of people is applied to both tests: a draw
    of easy people lifts both, and the difference is less noisy than two intervals suggest.
    """
    trials, drawing = study.metrics["trials"], study.bootstrap
    names = pair.leaky, pair.apart
    read = [study.predictions(name) for name in names]
    tests = [HeldOut(one.labels, one.probabilities, one.subjects, one.folds) for one in read]
    first, second = intervals.resample(
        tests, names=tuple(METRICS), resamples=drawing["resamples"], seed=drawing["seed"]
    )
    sides = {metric: [trials[name][metric] for name in names] for metric in METRICS}
    sides["auc"] = [intervals.auc_within_folds(one.labels, one.probabilities, one.folds) for one in read]
    there = [metric for metric, both in sides.items() if None not in both]
    return Worth(
        {metric: (sides[metric][0], sides[metric][1]) for metric in there},
        {metric: np.stack([first[metric], second[metric]]) for metric in there},
    )


def mean(worths: Sequence[Worth], metric: str, level: float) -> tuple[float, Interval | None]:
    """Returns the mean over set-ups of what the leak was worth, and its interval: all on the same draws of people."""
    draws = np.mean([one.drawn_gain(metric) for one in worths], axis=0)
    return float(np.mean([one.gain(metric) for one in worths])), intervals.percentile_interval(draws, level)


def picture(study: Study, pairs: Sequence[Pair]) -> Figure:
    """Returns both accuracies of each set-up with their intervals, a line a set-up.

    Args:
        study: the study.
        pairs: at least one, both of whose cells are there.
    """
    trials = study.metrics["trials"]
    height = 1.3 + 0.34 * len(pairs)
    with plots.subplots(1, 1, (8.4, height)) as (figure, axes):
        one = axes[0, 0]
        for row, pair in enumerate(pairs):
            sides = (("random cells", pair.leaky, BLUE, -0.13, "o"), ("people apart", pair.apart, VERMILION, 0.13, "s"))
            for label, name, color, shift, marker in sides:
                value, bounds = trials[name]["accuracy"], trials[name].get("intervals", {}).get("accuracy")
                if bounds:
                    one.plot(bounds, [row + shift] * 2, color=color, linewidth=1.4)
                one.plot(value, row + shift, marker, color=color, markersize=5, label=label if row == 0 else None,
                         linestyle="none")  # fmt: skip
        if rule := study.split_of(pairs[0].apart)["baselines"].get("size_threshold"):
            one.axvline(rule["accuracy"], color=INK, linewidth=0.9, linestyle=plots.DASHES[2],
                        label="size of the cell alone")  # fmt: skip
        one.set_yticks(range(len(pairs)), [pair.label for pair in pairs], fontsize=9)
        one.set(ylim=(len(pairs) - 0.5, -0.5), xlabel="accuracy on held-out cells")
        one.xaxis.set_major_formatter("{x:.0%}")
        one.grid(axis="x")
        figure.legend(loc="outside upper center", ncols=3, fontsize=9)
        caption = "Accuracy of the same set-ups when cells, and when people, are held out, with intervals."
        return plots.save("leak", caption, figure)


def _row(study: Study, pair: Pair, found: Worth | None, level: float) -> tuple[Value, ...]:
    row = [Value(pair.label)]
    for metric in METRICS:
        row += [_entry(study, pair, place, metric, found, level) for place in (0, 1)]
        if found is None or metric not in found.sides:
            row.append(Value("–"))
            continue
        bounds = intervals.percentile_interval(found.drawn_gain(metric), level)
        gain = found.gain(metric)
        row.append(
            Value(format_difference(metric, gain), gain, format_difference_bounds(metric, bounds) if bounds else "")
        )
    return tuple(row)


def _entry(study: Study, pair: Pair, place: int, metric: str, found: Worth | None, level: float) -> Value:
    """Returns what one cell of a pair scored."""
    name = (pair.leaky, pair.apart)[place]
    result = study.metrics["trials"].get(name)
    if result is None:
        return Value("–", note="cell failed" if name in study.metrics.get("failed", {}) else "cell missing")
    if metric != "auc":
        return Value(format_value(metric, result[metric]), result[metric], format_interval(metric, result))
    if found is None or metric not in found.sides:
        return Value("–")
    bounds, value = intervals.percentile_interval(found.draws[metric][place], level), found.sides[metric][place]
    return Value(format_value(metric, value), value, format_bounds(metric, bounds) if bounds else "")


def _sentence(worths: Sequence[Worth], level: float, declared: int, unit: str) -> str:
    of = f"{len(worths)} of {declared} set-ups" if len(worths) < declared else f"{declared} set-ups"
    what = "Over one set-up" if declared == 1 else f"Over {of}, the mean"
    defined = [metric for metric in ("accuracy", "auc") if all(metric in one.sides for one in worths)]
    gains = [_gain(worths, metric, level, unit) for metric in defined]
    return f"{what}: holding out cells instead of people was worth {'; and '.join(gains)}."


def _gain(worths: Sequence[Worth], metric: str, level: float, unit: str) -> str:
    value, bounds = mean(worths, metric, level)
    what = "points of accuracy" if metric == "accuracy" else "of AUC within folds"
    gain = f"{format_difference(metric, value)} {what}"
    if bounds is None:
        return gain
    more = "more" if bounds[0] > 0 or bounds[1] < 0 else "no more"
    return f"{gain} {format_difference_bounds(metric, bounds)}, {more} than the choice of {unit} explains"


def _notes(study: Study, level: float) -> tuple[str, ...]:
    unit = matching.unit(study)
    lines = [
        f"In brackets: {level:.0%} intervals over {unit}. The two tests are of different cells, so the difference "
        f"cannot be paired cell by cell; {unit} are drawn once for both, and every draw is applied to both tests.",
        "AUC within folds: of pairs of cells that one head scored; where a fold has one class only there is none. The "
        "AUC of all folds together, in the other tables, ranks the scores of several heads against one another, which "
        "can lower it and would pass for a leak.",
        "Models of the two splits may have learned from different numbers of cells; that is part of the difference.",
    ]
    if unit == "images":
        lines.append("Who the cells came from is not known, so people were not kept apart: this shows little.")
    return tuple(lines)
