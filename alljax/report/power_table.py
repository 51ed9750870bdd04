"""The table of subjects that a new study needs, for `alljax power`."""

import sys

import rich.table
from rich import box
from rich.console import Console

from alljax.errors import ConfigError, DataError
from alljax.evaluation import power
from alljax.evaluation.intervals import Jackknife, confidence_intervals
from alljax.evaluation.metrics import METRICS
from alljax.evaluation.power import Components, Goal
from alljax.report.tables import Table, Value, difference_value, number_value
from alljax.study.results import Study

CHOICES = {"": "", "auc": "auc", "balanced_accuracy": "macro_recall"}
"""Values of ``--metric``, and the metrics."""


def power_table(study: Study, metric: str, difference: float, share: float, images: int) -> Table:
    """Returns the subjects needed to measure the best model, and to compare it with the next one.

    Args:
        study: with at least one finished trial.
        metric: a key of `CHOICES`; empty: the metric that ranks the study's models.
        difference: to be significant; for a single model the half width of the interval.
        share: the power, the probability of a significant difference.
        images: images per subject for the last column.
    """
    best, *others = study.ranking.order
    name, predictions = CHOICES[metric] or study.ranking.metric, study.predictions(best)
    test, jackknife, rows, notes = predictions.held_out, Jackknife.of(predictions.held_out), [], []
    if 1 in jackknife.subjects:
        raise DataError(f"{study.folder}: a class has one subject only, whose variance is unknown; it needs two")
    if images < 1:
        raise ConfigError(f"--images={images} is not a number of images; it is at least 1")
    if study.metrics["trials"][best][name] is None:
        raise ConfigError("the AUC is undefined, because folds lack a class; use --metric=balanced_accuracy")
    compared = [other for other in others if list(study.predictions(other).paths) == list(predictions.paths)]
    for rival in (None, *compared[:1]):
        minus = study.predictions(rival).held_out if rival else None
        parts = power.components(test, predictions.paths, name, minus)
        goal = Goal(difference, study.bootstrap.level, share if rival else 0.0)
        interval = confidence_intervals(test, goal.level, [name], minus).get(name)
        value = study.metrics["trials"][best][name] - (study.metrics["trials"][rival][name] if rival else 0.0)
        shown = difference_value(name, value, interval) if rival else number_value(name, value, interval)
        needed = power.subjects_needed(parts, goal)
        reached = power.simulate(test, name, goal, needed, minus) if needed else None
        simulated = "not simulated" if reached is None else f"{reached:.0%}" if rival else f"±{reached:.3f}"
        rows.append((
            Value(f"{best} minus {rival}" if rival else best), shown,
            Value(f"±{difference:g}" if not rival else f"{difference:g} found by {share:.0%}"), _number(needed),
            Value(simulated, reached), _number(power.subjects_needed(parts, goal, images)),
        ))  # fmt: skip
        notes.append(f"{rows[-1][0]}: {_describe(study, parts)}.")
    unit = f"{study.interval_unit} per class" if len(parts) > 1 else study.interval_unit
    columns = ("model", METRICS[name], "goal", unit, "simulated", f"with {images} images each")
    explained = (
        f"{goal.level:.0%} intervals. ±: half width. Images per subject as in this study, in the last column equally "
        f"many. At least {power.FEW_SUBJECTS} effective subjects per class. Simulated: mean half width, or share of "
        f"significant differences, in {power.ROUNDS} studies whose subjects are drawn from this study.",
        "Standard deviation between subjects, and between images of a subject:",
    )
    return Table("power", f"{study.interval_unit.capitalize()} needed", columns, rows, notes=(*explained, *notes))


def print_table(table: Table) -> None:
    """Prints a table and its notes."""
    shown = rich.table.Table(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, numeric in zip(table.columns, table.numeric, strict=True):
        shown.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in table.all_rows:
        shown.add_row(*map(str, row))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(shown)
    for note in table.notes:
        console.print(note, markup=False, highlight=False)


def _describe(study: Study, parts: list[Components]) -> str:
    """Returns the standard deviations in words."""
    names = study.class_names if len(parts) > 1 else ["all classes"]
    pairs = zip(names, parts, strict=True)
    return "; ".join(f"{name} {part.between**0.5:.3f}, {part.within**0.5:.3f}" for name, part in pairs)


def _number(number: int | None) -> Value:
    if number is None:
        return Value("–")
    return Value(f"> {power.LARGEST:,}") if number > power.LARGEST else Value(f"{number:,}", number)
