"""Adam minus RMSprop, paired by seed and by cell image: what the paper's "Adam is superior" comes to."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from alljax.evaluation import intervals
from alljax.paper import matching, published
from alljax.paper.matching import Place, Reproduction
from alljax.report.tables import Table, Value, format_difference, format_difference_bounds

METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1"}


def table(found: Reproduction) -> Table | None:
    """Returns the difference between the optimizers a network and budget; None where no network has both.

    Args:
        found: the study beside the paper.
    """
    pairs = [
        (scenario, budget)
        for scenario in found.scenarios
        for budget in found.budgets
        if all((scenario.letter, one, budget) in found.names for one in published.OPTIMIZERS)
    ]
    if not pairs:
        return None
    rows: list[tuple[Value, ...]] = []
    verdicts: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    for scenario, budget in pairs:
        gaps = _gaps(found, scenario.letter, budget)
        row = [Value(scenario.network), Value(str(found.budgets[budget]), found.budgets[budget])]
        for metric in METRICS:
            ours, bounds, spread = gaps[metric]
            row += [ours, spread, _published(scenario.letter, budget, metric)]
            if bounds:
                verdicts[metric].append(bounds[0] > 0 or bounds[1] < 0)
        rows.append(tuple(row))
    columns = ["network", "epochs"]
    for label in METRICS.values():
        columns += [f"{label}, ours", f"{label}, sd over seeds", f"{label}, theirs"]
    names = " − ".join(published.OPTIMIZER_NAMES[one] for one in published.OPTIMIZERS)
    return Table(
        "optimizers", f"{names}, the same seeds on the same cells", tuple(columns), tuple(rows),
        notes=(_summary(verdicts, found.study.bootstrap["level"]), *_notes(found)),
    )  # fmt: skip


def _gaps(found: Reproduction, letter: str, budget: int) -> dict[str, tuple[Value, Any, Value]]:
    """Returns of each metric the difference, its interval or None, and its standard deviation over seeds."""
    one, other = ((letter, optimizer, budget) for optimizer in published.OPTIMIZERS)
    results = found.result(one), found.result(other)
    if results[0] is None or results[1] is None:
        lost: Place = one if results[0] is None else other
        empty = Value("–", note=f"{published.OPTIMIZER_NAMES[lost[1]]}: {found.absent(lost)}")
        return {metric: (empty, None, Value("–")) for metric in METRICS}
    first, second = found.predictions(one), found.predictions(other)
    bounds: Mapping[str, intervals.Interval] = {}
    if np.array_equal(first.keys, second.keys):
        bounds = intervals.paired_difference(
            first.held_out, second.held_out, names=list(METRICS), **found.study.bootstrap
        )
    gaps = {}
    for metric in METRICS:
        value, own = results[0][metric] - results[1][metric], bounds.get(metric)
        note = format_difference_bounds(metric, own) if own else "tested on other cells"
        gaps[metric] = (
            Value(format_difference(metric, value), value, note),
            own,
            _spread(results[0], results[1], metric),
        )
    return gaps


def _spread(first: Mapping[str, Any], second: Mapping[str, Any], metric: str) -> Value:
    """Returns the standard deviation over the seeds that both cells have of their difference."""
    of = [{one["seed"]: one[metric] for one in result["per_seed"]} for result in (first, second)]
    gaps = [of[0][seed] - of[1][seed] for seed in of[0] if seed in of[1]]
    if len(gaps) < 2:
        return Value("–", note="one seed")
    spread = float(np.std(gaps, ddof=1))
    return Value(format_difference(metric, spread).lstrip("+"), spread)


def _published(letter: str, budget: int, metric: str) -> Value:
    """Returns what the paper's tables say of the difference: from its implied accuracies, or its printed F1."""
    if metric == "accuracy":
        first, second = (published.implied(letter, optimizer, budget).accuracy for optimizer in published.OPTIMIZERS)
        low, high = first[0] - second[1], first[1] - second[0]
        return Value(
            format_difference(metric, (low + high) / 2), (low + high) / 2, format_difference_bounds(metric, (low, high))
        )
    place = published.BUDGETS.index(budget)
    one, other = (published.tested(letter, optimizer)["f1"][place] for optimizer in published.OPTIMIZERS)
    gap = round(one - other, 2)
    return Value(f"{gap:{'+' if gap else ''}.2f}".replace("-", "−"), gap)


def _summary(verdicts: Mapping[str, list[bool]], level: float) -> str:
    parts = [
        f"{sum(of_metric)} of {len(of_metric)} in {METRICS[metric]}"
        for metric, of_metric in verdicts.items()
        if of_metric
    ]
    if not parts:
        return "No pair of cells is there to compare."
    count = max(map(len, verdicts.values()))
    chance = (1 - level) * count
    return (
        f"More than noise, the interval without 0: {', '.join(parts)}. Were all {count} truly 0, about {chance:.1f} "
        "would seem more than noise by chance."
    )


def _notes(found: Reproduction) -> tuple[str, ...]:
    level, unit = found.study.bootstrap["level"], matching.unit(found.study)
    return (
        f"In brackets below ours: the {level:.0%} interval of the difference, both optimizers on the same {unit} in "
        "every draw, means over seeds. sd over seeds: of the differences, seed by seed. Accuracy in percentage points.",
        "Theirs, accuracy: the middle and, in brackets, the ends of what Tables 3 to 6 leave; theirs, macro F1: of two "
        "numbers rounded to two decimals, so ±0.01.",
    )
