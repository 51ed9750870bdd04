"""The results of a study as a table in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from alljax.evaluation.metrics import METRICS
from alljax.report import findings
from alljax.report.tables import metric_value
from alljax.study.results import Study

PRINTED = 20
"""Models in the table at most, the best ones; the report has all."""

COLUMNS = ("auc", "accuracy", "macro_f1")
"""Metrics in the table; in less than 100 columns the first two."""


def print_results(study: Study, width: int | None = None) -> None:
    """Prints the models, best first, the baselines, the positive class, and what is missing or failed.

    Args:
        study: the study.
        width: columns of the terminal; by default as it is, or 120 where the output is no terminal.
    """
    console = Console(width=width)
    if width is None and not console.is_terminal:
        console = Console(width=120)
    console.print(results_table(study, console.width))
    for line in notes(study):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def results_table(study: Study, width: int = 120) -> Table:
    """Returns one row per model, best first, then the baselines of each split; long names are folded."""
    columns = COLUMNS if width >= 100 else COLUMNS[:2]
    ranking, trials = study.ranking, study.metrics["trials"]
    result = trials[ranking.best]
    title = f"held-out images, {result['level']:.0%} intervals over {result['interval_unit']}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    for metric in columns:
        table.add_column(METRICS[metric], justify="right", no_wrap=True)
    for name in ranking.order[:PRINTED]:
        label = f"{name} (leaky test)" if name in ranking.leaky else name
        best = name == ranking.best and len(trials) > 1
        table.add_row(label, *_entries(trials[name], columns), style="bold" if best else "")
    if len(trials) > PRINTED:
        table.add_row(f"… and {len(trials) - PRINTED} more", style="dim")
    table.add_section()
    splits = study.metrics["splits"]
    for split, content in splits.items():
        for name, baseline in content["baselines"].items():
            label = findings.BASELINES[name] + (f" ({split})" if len(splits) > 1 else "")
            table.add_row(label, *_entries(baseline, columns), style="dim")
    return table


def notes(study: Study) -> list[str]:
    """Returns the lines below the table."""
    lines = [f"positive class: {study.class_names[1]}"] if len(study.classes) == 2 else []
    groups = {key: list(study.metrics.get(key) or ()) for key in ("missing", "failed")}
    return lines + [f"{len(names)} {key}: {', '.join(names)}" for key, names in groups.items() if names]


def _entries(result: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    values = [metric_value(metric, result) for metric in columns]
    texts = [f"{value.text} {value.note}".strip() for value in values]
    return [text if "%" in text else text.replace("0.", ".") for text in texts]  # leaves more room for names
