"""Progress of long work, as a person watches it: what, how far, how fast, how long still."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

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
from rich.text import Text


class Advance(Protocol):
    """Call it with the number of units done since the last call, and what is worth showing beside the bar."""

    def __call__(self, units: int, note: str = "") -> None:
        """Moves the bar."""


Say = Callable[[str], None]
"""Prints a line for the person who waits."""


hidden = False
"""Whether bars stay away, as they do in all processes of a run but the first."""


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
    console = Console(file=sys.stderr, width=None if sys.stderr.isatty() else 120)
    with Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=total == 0 or hidden,
    ) as display:
        task = display.add_task(description, total=total, unit=unit, note="")

        def advance(units: int, note: str = "") -> None:
            display.advance(task, units)
            if note:
                display.update(task, note=note)

        yield advance
