"""The results of a study as a table for the terminal."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from alljax.evaluation import comparison
from alljax.evaluation.metrics import METRICS
from alljax.report.findings import BASELINES
from alljax.report.tables import format_interval, format_value

MANY = 20
"""Of more cells than this only the best of each network and split are printed."""

PRINTED = 10
"""Cells of a network and split printed then."""

GAP, EDGES = 3, 2
"""Blanks between columns, and on both sides together."""


def table(metrics: Mapping[str, Any], width: int) -> Table:
    """Returns a row per model, best first, then the baselines; no row is wider than the terminal.

    Where names are long, macro F1 and then accuracy are left to the report, and what all names begin with goes into
    the heading; only a name that is too long even so is broken.

    Args:
        metrics: what metrics.json holds.
        width: columns of the terminal.
    """
    trials = metrics["trials"]
    ranking = comparison.rank_trials(metrics)
    first, leaky, best = next(iter(trials.values())), ranking.leaky, ranking.best
    groups, rules = _groups(metrics), _rules(metrics)
    printed = [name for names, _ in groups for name in names]
    label = {name: f"{name} (leaks)" if name in leaky else name for name in printed}
    results = {label[name]: trials[name] for name in printed} | dict(rules)
    columns, room = _columns(ranking.metric, results, width)
    prefix = _prefix(printed) if max(map(len, label.values())) > room else ""
    made = Table(
        title=f"held-out cells, with {first['level']:.0%} intervals over {first['interval_unit']}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    made.add_column(f"model: {prefix}…" if prefix else "model", overflow="fold")
    for column in columns:
        made.add_column(METRICS[column], justify="right", no_wrap=True)
    for names, more in groups:
        for name in names:
            style = "bold" if name == best and len(trials) > 1 else ""
            made.add_row(
                label[name].removeprefix(prefix), *(_entry(column, trials[name]) for column in columns), style=style
            )
        if more:
            made.add_row(f"… and {more} more", style="dim")
        made.add_section()
    for rule_name, rule in rules:
        made.add_row(rule_name, *(_entry(column, rule) for column in columns), style="dim")
    return made


def notes(metrics: Mapping[str, Any]) -> list[str]:
    """Returns the lines below the table: the positive class, what was left out, what is missing.

    Args:
        metrics: what metrics.json holds.
    """
    lines = []
    if len(classes := metrics["dataset"]["classes"]) == 2:
        lines.append(f"positive class: {classes[1]}")
    if more := sum(more for _, more in _groups(metrics)):
        lines.append(f"{more} of {len(metrics['trials'])} models are not printed here; the report has them all")
    for key, what in (("missing", "not there yet"), ("failed", "failed")):
        if names := list(metrics.get(key) or ()):
            lines.append(f"{len(names)} {what}: {', '.join(names)}")
    return lines


def _groups(metrics: Mapping[str, Any]) -> list[tuple[list[str], int]]:
    """Returns the cells printed together, best first, and how many more there are; the best one's group first."""
    trials = metrics["trials"]
    order = list(comparison.rank_trials(metrics).order)
    if len(order) <= MANY:
        return [(order, 0)]
    groups: dict[tuple[str, str], list[str]] = {}
    for name in order:
        groups.setdefault((name.partition("-")[0], str(trials[name].get("split", ""))), []).append(name)
    return [(group[:PRINTED], len(group[PRINTED:])) for group in groups.values()]


def _rules(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the baselines by the names they are printed with; of several splits, those of each."""
    splits = metrics.get("splits") or {}
    if len(splits) < 2:
        return [(BASELINES.get(name, name), rule) for name, rule in metrics["baselines"].items()]
    return [
        (f"{BASELINES.get(name, name)} ({label})", rule)
        for label, split in splits.items()
        for name, rule in split["baselines"].items()
    ]


def _columns(by: str, results: Mapping[str, Mapping[str, Any]], width: int) -> tuple[Sequence[str], int]:
    """Returns the metrics that fit beside the longest name, at least the one that ranks, and the room for names."""
    columns = ["accuracy", "macro_f1", "auc"]
    need = {
        column: GAP + max(len(METRICS[column]), *(len(_entry(column, result)) for result in results.values()))
        for column in columns
    }
    longest = max(map(len, results))
    for left_out in ("macro_f1", "accuracy" if by == "auc" else "auc"):
        if EDGES + longest + sum(need[column] for column in columns) > width:
            columns.remove(left_out)
    return columns, width - EDGES - sum(need[column] for column in columns)


def _prefix(names: Sequence[str]) -> str:
    """Returns the whole words that all names begin with: ``vgg16-``."""
    words = [name.split("-") for name in names]
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*words, strict=False))
    return "".join(f"{parts[0]}-" for parts in shared) if len(names) > 1 else ""


def _entry(name: str, result: Mapping[str, Any]) -> str:
    text = " ".join(filter(None, [format_value(name, result.get(name)), format_interval(name, result)]))
    return text.replace("0.", ".") if name != "accuracy" else text  # 80 columns are not many
