"""The results of a study as a table in the terminal."""

import sys

import rich.table
from rich import box
from rich.console import Console

from alljax.evaluation.metrics import METRICS
from alljax.report.model_tables import results_table
from alljax.study.results import Study

PRINTED = 20
"""Models in the table at most, the best ones; the report has all."""


def print_results(study: Study, width: int | None = None) -> None:
    """Prints the models, best first, the baselines, the positive class, and what is missing or failed.

    The default width is that of the terminal, or 120 columns without one; below 100 the third metric is omitted.
    """
    console = Console(width=width or (None if sys.stdout.isatty() else 120))
    results = results_table(study)
    first = results.columns.index(METRICS["auc"])
    shown = first + (3 if console.width >= 100 else 2)
    title = f"{results.title}. {results.notes[0]}"
    table = rich.table.Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in results.columns[:first]:
        table.add_column(heading, overflow="fold")
    for heading in results.columns[first:shown]:
        table.add_column(heading, justify="right", no_wrap=True)
    for place, row in enumerate(results.rows[:PRINTED]):
        table.add_row(*map(str, row[:shown]), style="" if place else "bold")
    table.add_section()
    for row in results.footer:
        table.add_row(*map(str, row[:shown]), style="dim")
    console.print(table)
    if len(results.rows) > PRINTED:
        print(f"{len(results.rows) - PRINTED} more models are in the report")
    if len(study.classes) == 2:
        print(f"positive class: {study.class_names[1]}")
    for key in ("missing", "failed"):
        if names := study.metrics[key]:
            print(f"{len(names)} {key}: {', '.join(names)}")
