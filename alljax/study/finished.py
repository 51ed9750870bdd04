"""A finished study read back from its folder, and nothing but its folder."""

import csv
import io
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from alljax import config as configs
from alljax.errors import WorkdirError
from alljax.study import sweep, workdir

HISTORY = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
AGAIN = "run the same `alljax study` command again"
"""Writes every file of a study anew but those of the cells, which are kept."""

SETTINGS = ("seed", "split.test_fraction", "evaluation.level", "evaluation.resamples")
PARTS = ("trials", "baselines", "protocol", "leaks", "dataset")
COUNTS = ("training_cells", "test_cells")
"""What a report needs to know of each split besides its protocol: how many cells it has."""

ENTRIES = ("intervals", "std", "over_size")
"""What a report needs of every cell besides its metrics."""


@dataclass(frozen=True, eq=False)
class Study:
    """What concerns all cells of a study, as it was read once: no two are equal.

    Attributes:
        folder: the working directory.
        config: the resolved settings, dotted key to value.
        environment: versions, devices, the command that was typed.
        metrics: metrics.json.
        people: from an image's path to its person, of all images that any split uses.
    """

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    people: dict[str, str]

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return list(self.metrics["dataset"]["classes"])

    def settings(self, name: str) -> dict[str, Any]:
        """Returns the settings of one cell, dotted key to value; the study's own where it has no such cell."""
        return self._of_cells.get(name, self.config)

    @cached_property
    def _of_cells(self) -> dict[str, dict[str, Any]]:
        return {trial.name: configs.flatten(trial.config) for trial in sweep.expand(configs.unflatten(self.config))}


@dataclass(frozen=True)
class Predictions:
    """The held-out predictions of one cell of a study: a row per image tested, in a fixed order.

    Attributes:
        places: (N,) strings that name a row: path, repeat and fold.
        paths: (N,) of the images.
        subjects: (N,) names, empty where unknown.
        people: (N,) names, as in split.csv.
        folds: (N,) strings that name repeat and fold, so the head that scored a row.
        labels: int (N,), indices of the true classes.
        probabilities: (R, N, C) of R seeds.
    """

    places: np.ndarray
    paths: np.ndarray
    subjects: np.ndarray
    people: np.ndarray
    folds: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


def best(trials: Mapping[str, Mapping[str, Any]], leaky: Container[str] = ()) -> str:
    """Returns the name of the best cell of a study: the highest AUC, or accuracy where there is no AUC.

    The AUC, because accuracy rewards a model for the share of the larger class: on C-NMC one that
    always says "all" is right for two cells of three.

    Args:
        trials: the ``cells`` of a metrics.json.
        leaky: names of cells whose test leaks (`ranking.leaky`); no number lifts them above another.
    """
    return ranked(trials, leaky)[0]


def ranked(trials: Mapping[str, Mapping[str, Any]], leaky: Container[str] = ()) -> list[str]:
    """Returns the names of the cells, best first (see `best`); of equals the earlier stays first."""
    name = headline(trials)
    return sorted(trials, key=lambda trial: (trial in leaky, -trials[trial][name]))


def headline(trials: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the metric that cells are ranked by."""
    return "auc" if all(trial["auc"] is not None for trial in trials.values()) else "accuracy"


def read_study(folder: Path) -> Study:
    """Reads what concerns all cells.

    Args:
        folder: the working directory of a finished study.

    Raises:
        WorkdirError: no study, an unfinished one, or a file of it is missing, cut off or lacks an entry.
    """
    config = workdir.read_json(folder / "config.json")
    # Before anything is advised: config.json is a name that other programs use too.
    if lacking := [key for key in SETTINGS if not isinstance(config, dict) or key not in config]:
        raise WorkdirError(
            f"{folder / 'config.json'}: no {lacking[0]!r} in it; is {folder} the --workdir of an alljax study?"
        )
    if not (folder / "metrics.json").exists():
        raise WorkdirError(f"{folder}: this study is not finished; {AGAIN}")
    metrics = workdir.read_json(folder / "metrics.json")
    for key in PARTS:
        found = metrics.get(key) if isinstance(metrics, dict) else None
        if not isinstance(found, dict) or (key == "images" and not found):
            raise WorkdirError(f"{folder / 'metrics.json'}: no {key!r} in it; {AGAIN}")
    protocols = [metrics["protocol"], *(split["protocol"] for split in metrics.get("splits", {}).values())]
    if lacking := [key for key in COUNTS if not all(key in protocol for protocol in protocols)]:
        raise WorkdirError(
            f"{folder / 'metrics.json'}: no {lacking[0]!r} in its protocol: another version of alljax wrote it; {AGAIN}"
        )
    for name, trial in metrics["trials"].items():
        if lacking := [key for key in ENTRIES if key not in trial]:
            raise WorkdirError(
                f"{folder / 'trials' / name} has no {lacking[0]!r}: another version of alljax wrote it; remove it (or "
                f"take another --workdir) and {AGAIN}"
            )
    people: dict[str, str] = {}
    for path in (folder / "split.csv", *sorted(folder.glob("split-*.csv"))):  # ways to split may use other images
        split = _columns(path, ("path", "person"), AGAIN)
        people |= zip(split["path"], split["person"], strict=True)
    return Study(
        folder,
        config,
        workdir.read_json(folder / "environment.json"),
        metrics,
        people,
    )


def mend(study: Study, name: str) -> str:
    """Returns what to do about a damaged file of the cell `name`: only a cell that is gone is run again."""
    return f"remove {study.folder / 'trials' / name} and {AGAIN}"


def read_history(study: Study, name: str) -> dict[str, np.ndarray]:
    """Returns the columns of a cell's history.csv that are drawn, (rows,) each; infinite losses as NaN.

    Raises:
        WorkdirError: the file is missing, cut off or lacks a column.
    """
    path = study.folder / "trials" / name / "history.csv"
    columns = _columns(path, HISTORY, mend(study, name))
    numbers = {key: _numbers(path, columns[key], mend(study, name)) for key in HISTORY}
    return {key: np.where(np.isfinite(values), values, np.nan) for key, values in numbers.items()}


def read_predictions(study: Study, name: str) -> Predictions:
    """Returns a cell's held-out predictions.

    Raises:
        WorkdirError: the file is missing or cut off, names a class or path the study has not, or
            its seeds have not tested the same images.
    """
    path = study.folder / "trials" / name / "predictions.csv"
    wanted, advice = [f"prob_{label}" for label in study.classes], mend(study, name)
    columns = _columns(path, ("path", "subject", "label", "repeat", "fold", "seed", *wanted), advice)
    index = {label: number for number, label in enumerate(study.classes)}
    if unknown := set(columns["label"]) - index.keys():
        raise WorkdirError(f"{path}: class {min(unknown)!r} is none of the study's; {advice}")
    if strange := set(columns["path"]) - study.people.keys():
        raise WorkdirError(f"{path}: {min(strange)} is not in split.csv; {advice}")
    seeds, run = np.unique(np.array(columns["seed"]), return_inverse=True)
    parts = zip(columns["path"], columns["repeat"], columns["fold"], strict=True)
    places = np.array(["\t".join(part) for part in parts])
    order = np.lexsort((places, run))
    size = len(np.unique(places))
    if len(order) != size * len(seeds) or (places[order].reshape(-1, size) != np.unique(places)).any():
        raise WorkdirError(f"{path}: its {len(seeds)} seeds have not tested the same cells; {advice}")
    probabilities = np.stack([_numbers(path, columns[key], advice) for key in wanted], axis=1)
    if (rotten := np.flatnonzero(~np.isfinite(probabilities).all(1))).size:
        raise WorkdirError(f"{path}: line {rotten[0] + 2} has a probability that is no number; {advice}")
    probabilities = probabilities[order]
    rows = order[:size]
    paths = [columns["path"][row] for row in rows]
    return Predictions(
        places=places[rows],
        paths=np.array(paths),
        subjects=np.array([columns["subject"][row] for row in rows]),
        people=np.array([study.people[path] for path in paths]),
        folds=np.array([f"{columns['repeat'][row]} {columns['fold'][row]}" for row in rows]),
        labels=np.array([index[columns["label"][row]] for row in rows]),
        probabilities=probabilities.reshape(len(seeds), len(rows), len(study.classes)),
    )


def _columns(path: Path, wanted: tuple[str, ...], advice: str) -> dict[str, list[str]]:
    """Reads a CSV by columns; at least one row."""
    try:
        text = path.read_text(encoding="utf-8")
        header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except FileNotFoundError as error:
        raise WorkdirError(f"{path}: no such file; {advice}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise WorkdirError(f"{path}: cannot be read ({error}); {advice}") from error
    if lacking := [name for name in wanted if name not in header]:
        raise WorkdirError(f"{path}: no column {lacking[0]!r}; {advice}")
    broken = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if broken or not rows or not text.endswith("\n"):
        raise WorkdirError(f"{path}: cut off at line {broken or len(rows) + 1}; {advice}")
    return {name: list(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def _numbers(path: Path, column: list[str], advice: str) -> np.ndarray:
    try:
        values = np.array(column, np.float64)
    except ValueError as error:
        raise WorkdirError(f"{path}: {error}; {advice}") from error
    return values
