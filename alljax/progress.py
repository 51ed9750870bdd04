"""Progress bars and messages on standard error."""

import contextlib
import logging as stdlib_logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from absl import logging

from alljax import interrupts
from alljax.errors import printable

Update = Callable[..., None]
"""``update(n, note="")``: n units were finished; the note is shown.  Raises `errors.Stopped` on a stop request."""

hidden = False  # bars; true in all processes but the primary one


class _Handler(stdlib_logging.Handler):
    """Prints messages of alljax as plain lines, and warnings of other libraries."""

    def emit(self, record: stdlib_logging.LogRecord) -> None:
        if record.levelno >= stdlib_logging.WARNING or Path(__file__).parent in Path(record.pathname).parents:
            print(printable(record.getMessage()), file=sys.stderr, flush=True)


def show(*texts: object, sep: str = " ") -> None:
    """Prints texts that contain names from data to standard output; control characters are escaped."""
    print(*map(printable, texts), sep=sep)


def format_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Returns rows of texts and numbers (None: unknown) as a table without columns in which all are unknown."""
    import pandas  # importing it takes half a second

    table = pandas.DataFrame(rows, dtype=object)
    text = table.map(lambda value: f"{value:,}" if isinstance(value, int) else value or "")
    return text.loc[:, (text != "").any()].to_string(index=False) if rows else ""


def show_messages() -> None:
    """Shows the messages of alljax (absl's logger) on standard error, and hides what it says better than libraries."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's warnings about the timing of its kernels
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # Pillow's; images.decode refuses these images
    warnings.filterwarnings("ignore", "lbfgs failed to converge")  # see classifiers.fit, which says it in one line
    logging.set_verbosity(logging.INFO)
    logger = logging.get_absl_logger()
    logger.propagate = False  # TFDS configures the root logger, which would repeat each line
    if not any(isinstance(handler, _Handler) for handler in logger.handlers):
        logger.addHandler(_Handler())


@contextlib.contextmanager
def bar(description: str, total: int, unit: str, stops: bool = True) -> Iterator[Update]:
    """Shows a bar, in a log one line at the end, none if `total` is 0; without `stops` updates raise nothing."""
    # Here, because it takes most of the time before signals are handled.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description:<34}", table_column=Column(max_width=48, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
    )
    width = None if sys.stderr.isatty() else 160
    console = Console(file=sys.stderr, width=width, force_jupyter=False)  # else notebooks would need ipywidgets
    with Progress(*columns, console=console, disable=hidden or total == 0) as display:
        task = display.add_task(description, total=total, rate="", note="")

        def update(n: int, note: str = "") -> None:
            display.update(task, advance=n, note=note or display.tasks[0].fields["note"])
            if speed := display.tasks[0].finished_speed or display.tasks[0].speed:
                display.update(task, rate=f"{speed:,.1f} {unit}/s")
            if stops:
                interrupts.check(collective=True)

        yield update


def study(cost: int, trials: int) -> Callable[[int, int], None]:
    """Returns ``update(job_cost, job_trials)``, which logs, of a study's `trials`, those finished and the time left."""
    started, finished, spent = time.monotonic(), 0, 0

    def update(job_cost: int, job_trials: int) -> None:
        nonlocal finished, spent
        finished, spent = finished + job_trials, spent + job_cost
        remaining = (time.monotonic() - started) * (cost - spent) / max(spent, 1)
        if trials > 1 and not hidden:
            logging.info(f"{finished} of {trials} trials done, about {duration(remaining)} left")

    return update


def duration(seconds: float) -> str:
    """Returns a duration in seconds, minutes or hours."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.{int(unit == 'h')}f} {unit}"
    return f"{seconds:.0f} s"
