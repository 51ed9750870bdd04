"""Progress of long work, as a person watches it: what, how far, how fast, how long still."""

import contextlib
import logging as stdlib_logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from absl import logging
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text


class Advance(Protocol):
    """Call it with the number of units done since the last call, and what is worth showing beside the bar."""

    def __call__(self, units: int, note: str = "") -> None:
        """Moves the bar."""


_shared: Progress | None = None
"""The display of the study under way, which bars then join; a terminal has room for one."""

hidden = False
"""Whether bars stay away, as they do in all processes of a run but the first."""


class _Lines(stdlib_logging.Handler):
    """Writes messages of alljax as plain lines to standard error, and warnings of other libraries."""

    def filter(self, record: stdlib_logging.LogRecord) -> bool:
        return record.levelno >= stdlib_logging.WARNING or Path(__file__).parent in Path(record.pathname).parents

    def emit(self, record: stdlib_logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)


def show_messages() -> None:
    """Shows the messages of alljax (absl's logger) on standard error; called by the command line."""
    logging.set_verbosity(logging.INFO)
    logger = logging.get_absl_logger()
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())


def ignore(units: int, note: str = "") -> None:
    """An `Advance` for callers that watch nothing."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{speed:,.1f} {task.fields['unit']}/s", style="progress.data.speed", no_wrap=True
        )


@contextlib.contextmanager
def bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    """Shows a bar on standard error with count, rate and remaining time.

    On a terminal the bar moves; in a log it is one line when the work is done.

    Args:
        description: what is being done, for example ``"features vgg16"``.
        total: how many units there are.
        unit: the plural of what is counted, for example ``"images"``.

    Yields:
        The function to call with each number of finished units.
    """
    with contextlib.nullcontext(_shared) if _shared else _display(total == 0 or hidden) as display:
        task = display.add_task(description, total=total, unit=unit, note="", visible=total > 0 and not hidden)

        def advance(units: int, note: str = "") -> None:
            display.advance(task, units)
            if note:
                display.update(task, note=note)

        try:
            yield advance
        finally:
            if display is _shared:
                display.remove_task(task)


@contextlib.contextmanager
def study(cost: int, models: int) -> Iterator[Callable[[int, int], None]]:
    """Shows how much of a study is done, below the bars of its parts: models, share of the work, remaining time.

    On a terminal that is one more bar; in a log a line each time models are done.

    Args:
        cost: of all models, in any unit.
        models: how many there are.

    Yields:
        The function to call with the cost and the number of models that were done since the last call.
    """
    global _shared
    started, done, spent = time.monotonic(), 0, 0
    if models < 2 or hidden:
        yield lambda cost, models: None
        return
    terminal = sys.stderr.isatty()
    display = _display()
    task = display.add_task("study", total=cost, unit="epochs", note=f"0 of {models} models", visible=terminal)

    def advance(of_cost: int, of_models: int) -> None:
        nonlocal done, spent
        done, spent = done + of_models, spent + of_cost
        display.update(task, advance=of_cost, note=f"{done} of {models} models")
        if not terminal:
            left = (time.monotonic() - started) * (cost - spent) / max(spent, 1)
            display.console.print(f"{done} of {models} models done, about {duration(left)} left")

    with display if terminal else contextlib.nullcontext():
        _shared = display if terminal else None
        try:
            yield advance
        finally:
            _shared = None


def sparkline(values: Sequence[float]) -> str:
    """Returns a curve in a line of text, one letter a value, the newest twelve."""
    recent = values[-12:]
    low, high = min(recent), max(recent)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (value - low) / (high - low))] if high > low else "▄" for value in recent)


def _display(disable: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description:<34}", table_column=Column(max_width=48, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
        console=Console(file=sys.stderr, width=None if sys.stderr.isatty() else 160),
        disable=disable,
    )


def duration(seconds: float) -> str:
    """Returns a time as people say it: seconds, minutes or hours."""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
