"""The table of subjects that a new study needs, for `alljax power`."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import rich.table
from rich import box
from rich.console import Console

from alljax.errors import ConfigError, DataError
from alljax.evaluation import baselines, power
from alljax.evaluation.intervals import HeldOut, Jackknife, confidence_intervals
from alljax.evaluation.metrics import METRICS
from alljax.evaluation.power import Goal
from alljax.report.tables import Table, Value, number_value
from alljax.study.results import Predictions, Study


def power_table(study: Study, metric: str, difference: float, share: float, images: int) -> Table:
    """Returns the subjects needed to measure the best model, and to compare it with the next one and the size alone.

    Args:
        study: with at least one finished trial.
        metric: ``auc`` or ``macro_recall``; empty: the metric that ranks the study's models.
        difference: to be significant; for a single model the half width of the interval.
        share: the power, the probability of a significant difference.
        images: images per subject for the last column.
    """
    best, name = study.ranking.best, metric or study.ranking.metric
    predictions, rows, notes = study.predictions(best), [], []
    test, result = predictions.held_out, study.metrics["trials"][best]
    if 1 in Jackknife.of(test).subjects:
        raise DataError(f"{study.folder}: a class has one subject only, whose variance is unknown; it needs two")
    if images < 1:
        raise ConfigError(f"--images={images} is not a number of images; it is at least 1")
    if result[name] is None:
        raise ConfigError("the AUC is undefined, because folds lack a class; use --metric=macro_recall")
    for label, (minus, subtracted) in ({best: (None, {})} | _rivals(study)).items():
        parts = power.components(test, predictions.paths, name, minus)
        goal = Goal(difference, study.level, share if minus else 0.0)
        interval = confidence_intervals(test, goal.level, [name], minus).get(name)
        needed = power.subjects_needed(parts, goal)
        reached = power.simulate(test, name, goal, needed, minus) if needed else None
        value = result[name] - subtracted.get(name, 0.0)
        rows.append((
            Value(label), number_value(name, value, interval, sign="+" if minus else ""),
            Value(f"{difference:g} {f'found by {share:.0%}' if minus else 'half width'}"), _number(needed),
            Value("–") if reached is None else Value(f"{reached:.3f}", reached),
            _number(power.subjects_needed(parts, goal, images)),
        ))  # fmt: skip
        names = study.class_names if len(parts) > 1 else ["all classes"]
        pairs = zip(names, parts, strict=True)
        deviations = [f"{of} {part.between**0.5:.3f}, {part.within**0.5:.3f}" for of, part in pairs]
        notes.append(f"{label}: {'; '.join(deviations)}.")
    unit = f"{study.interval_unit} per class" if len(parts) > 1 else study.interval_unit
    columns = ("model", METRICS[name], "goal", unit, "simulated", f"with {images} images each")
    explained = (
        f"{goal.level:.0%} intervals. Images per subject as in this study, in the last column equally many. At least "
        f"{power.FEW_SUBJECTS} effective subjects per class. Simulated: mean half width, or share of significant "
        f"differences, in {power.ROUNDS} studies whose subjects are drawn from this study.",
        "Standard deviation between subjects, and between images of a subject:",
    )
    return Table("power", f"{study.interval_unit.capitalize()} needed", columns, rows, notes=(*explained, *notes))


def _rivals(study: Study) -> dict[str, tuple[HeldOut, Mapping[str, Any]]]:
    """Returns what the best model is compared with on the same images, and its metrics: the next model, the size."""
    best, *others = study.ranking.order
    predictions, rivals = study.predictions(best), {}
    same = [name for name in others if np.array_equal(study.predictions(name).paths, predictions.paths)]
    for name in same[:1]:
        rivals[f"{best} minus {name}"] = study.predictions(name).held_out, study.metrics["trials"][name]
    rules = study.split_of(best)["baselines"]
    if "size_threshold" in rules and (sized := _by_size(study, predictions)):
        rivals[f"{best} minus cell size"] = sized, rules["size_threshold"]
    return rivals


def _by_size(study: Study, predictions: Predictions) -> HeldOut | None:
    """Returns the predictions of the size threshold learned on the other folds; None where there are none."""
    areas = study.images.set_index("path")["area"][predictions.paths].to_numpy()[:, None]
    repeats, classes = np.array([fold.split()[0] for fold in predictions.folds]), len(study.classes)
    probabilities, scores = np.zeros((2, 1, len(areas), classes))
    for fold, repeat in {*zip(predictions.folds, repeats, strict=True)}:
        tested = predictions.folds == fold
        train = (repeats == repeat) & ~tested
        if not train.any():
            return None
        found = baselines.size_threshold(areas[train], predictions.labels[train], areas[tested], classes)
        probabilities[0, tested], scores[0, tested] = found
    return replace(predictions.held_out, probabilities=probabilities, scores=scores)


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


def _number(number: int | None) -> Value:
    if number is None:
        return Value("–")
    return Value(f"> {power.LARGEST:,}") if number > power.LARGEST else Value(f"{number:,}", number)
