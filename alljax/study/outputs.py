"""Writes the results of a study into its folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax import files
from alljax.data import splits
from alljax.evaluation import baselines, metrics
from alljax.evaluation.intervals import HeldOut, confidence_intervals
from alljax.study import workdir
from alljax.study.experiment import Experiment
from alljax.study.sweep import Trial
from alljax.study.trials import Outcome
from alljax.training import optimizers
from alljax.training.sampling import steps_per_epoch

if TYPE_CHECKING:
    from pandas import DataFrame

HEADS = "heads.npz"


def write_experiment(folder: Path, experiment: Experiment, config: ConfigDict) -> None:
    """Writes what does not depend on a model: split.csv, and a metrics.json without trials.

    With several split settings split.csv has their names in a first column ``split``.

    Args:
        folder: the working directory.
        experiment: images and folds.
        config: of the study.
    """
    import pandas

    missing = [trial.name for trial in experiment.trials]
    workdir.write_json(folder / "metrics.json", {"trials": {}, "missing": missing} | experiment.describe(config))
    tables, dataset = [], experiment.dataset
    for name, division in experiment.divisions.items():
        rows = splits.split_rows(division.folds, dataset.records, experiment.subjects, dataset.classes)
        tables.append(pandas.DataFrame(rows, columns=list(splits.COLUMNS)))
        if len(experiment.divisions) > 1:
            tables[-1].insert(0, "split", name)
    workdir.write_csv(folder / "split.csv", pandas.concat(tables))


def write_trial(folder: Path, trial: Trial, experiment: Experiment, outcome: Outcome) -> None:
    """Writes ``trials/NAME/`` except the checkpoint, which is complete; metrics.json, written last, means finished.

    Args:
        folder: the working directory.
        trial: the trial.
        experiment: images and folds.
        outcome: of the training.
    """
    here = workdir.trial_folder(folder, trial.name)
    seeds = [trial.config.seed + number for number in range(trial.config.study.seeds)]
    workdir.write_csv(here / "history.csv", _history(trial, experiment, outcome, seeds))
    workdir.write_csv(here / "predictions.csv", _predictions(trial, experiment, outcome, seeds))
    workdir.write_checksums(here)
    summary = summarize(trial, experiment, outcome) | {
        "weights": experiment.network(trial).describe(),
        "split": trial.split,
        "seconds": round(outcome.seconds, 3),
        "feature_seconds": round(outcome.feature_seconds, 3),
    }
    workdir.write_json(here / "metrics.json", summary | ({"features": outcome.features} if outcome.features else {}))


def save_heads(trial_folder: Path, heads: Sequence[Any]) -> None:
    """Writes ``checkpoint/heads.npz`` of a frozen trial.

    Heads are small and belong to one process, while Orbax writes with all processes of a run.

    Args:
        trial_folder: folder of the trial.
        heads: parameters, one tree per fold.
    """
    arrays: dict[str, Any] = {
        f"{fold}/{path}": np.asarray(leaf)
        for fold, tree in enumerate(heads)
        for path, leaf in flatten_dict(tree, sep="/").items()
    }
    with files.atomic_write(trial_folder / "checkpoint" / HEADS, "wb") as file:
        np.savez(file, **arrays)


def load_heads(trial_folder: Path) -> list[Any]:
    """Returns the parameters that `save_heads` wrote.

    Raises:
        WorkdirError: the file is missing or damaged.
    """
    workdir.verify(trial_folder, f"checkpoint/{HEADS}")
    folds: dict[str, dict[str, np.ndarray]] = {}
    with np.load(trial_folder / "checkpoint" / HEADS) as arrays:
        for name in arrays.files:
            fold, _, path = name.partition("/")
            folds.setdefault(fold, {})[path] = arrays[name]
    return [unflatten_dict(folds[fold], sep="/") for fold in sorted(folds, key=int)]


def summarize(trial: Trial, experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """Returns the metrics over all test images: means over seeds, with their intervals.

    Args:
        trial: ``evaluation`` and ``seed`` of its config are read.
        experiment: images and folds.
        outcome: of the training.
    """
    config, division = trial.config, experiment.divisions[trial.split]
    sizes = [len(fold.test) for fold in division.folds]
    tested = np.concatenate([fold.test for fold in division.folds])
    subjects = np.array([experiment.subjects[row] for row in tested])
    folds = np.repeat(np.arange(len(sizes)), sizes)
    probabilities = np.concatenate(
        [run.probabilities[:, :size] for run, size in zip(outcome.folds, sizes, strict=True)], axis=1
    )
    test = HeldOut(experiment.labels[tested], probabilities, subjects, folds)
    seeds = [config.seed + number for number in range(len(probabilities))]
    model = metrics.average_over_seeds([metrics.evaluate(test.labels, of_seed) for of_seed in probabilities], seeds)
    bootstrap = {"resamples": config.evaluation.resamples, "level": config.evaluation.level, "seed": config.seed}
    intervals = confidence_intervals(replace(test, folds=None), **bootstrap)
    return model | {
        "intervals": {name: list(interval) for name, interval in intervals.items()},
        "size_improvement": baselines.size_improvement(model, test, division.size_threshold, **bootstrap),
        "interval_unit": experiment.interval_unit,
        "level": config.evaluation.level,
    }


def _history(trial: Trial, experiment: Experiment, outcome: Outcome, seeds: Sequence[int]) -> "DataFrame":
    import pandas

    config, parts = trial.config, []
    for split, run in zip(experiment.folds(trial), outcome.folds, strict=True):
        steps = steps_per_epoch(len(split.train), config.train.batch_size)
        hyperparameters = optimizers.Hyperparameters.of(config, config.train.epochs * steps)
        schedule = optimizers.make_schedule(config, hyperparameters)
        rates = [float(schedule((epoch + 1) * steps)) for epoch in range(config.train.epochs)]
        for column, seed in enumerate(seeds):
            curves = run.history
            part = pandas.DataFrame(
                {
                    "repeat": split.repeat, "fold": split.fold, "seed": seed,
                    "epoch": np.arange(1, config.train.epochs + 1), "learning_rate": rates,
                    "train_loss": curves.train_loss[:, column], "train_accuracy": curves.train_accuracy[:, column],
                    "val_loss": curves.val_loss[:, column], "val_accuracy": curves.val_accuracy[:, column],
                }
            )  # fmt: skip
            parts.append(part[part["train_loss"].notna()])  # the run ended early
    return pandas.concat(parts)


def _predictions(trial: Trial, experiment: Experiment, outcome: Outcome, seeds: Sequence[int]) -> "DataFrame":
    """Returns one row per tested image and seed."""
    import pandas

    classes, records, parts = np.array(experiment.dataset.classes), experiment.dataset.records, []
    for split, run in zip(experiment.folds(trial), outcome.folds, strict=True):
        tested = [records[row] for row in split.test]
        for seed, of_seed in zip(seeds, run.probabilities, strict=True):
            probabilities = of_seed[: len(tested)]
            columns: dict[str, Any] = {
                "path": [record.path for record in tested],
                "subject": [experiment.subjects[row] if records[row].subject else "" for row in split.test],
                "label": classes[[record.label for record in tested]],
                "predicted": classes[probabilities.argmax(1)],
            }
            columns |= {f"prob_{name}": probabilities[:, index] for index, name in enumerate(classes)}
            place = {"subset": "test", "repeat": split.repeat, "fold": split.fold, "seed": seed}
            parts.append(pandas.DataFrame(columns | place))
    return pandas.concat(parts)
