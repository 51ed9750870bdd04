"""The results of a study: writes those of a trial, and reads a finished study back from its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alljax.errors import WorkdirError
from alljax.evaluation import baselines, metrics
from alljax.evaluation.comparison import Ranking, rank_trials, split_of
from alljax.evaluation.intervals import HeldOut, confidence_intervals
from alljax.study import workdir

if TYPE_CHECKING:
    from ml_collections import ConfigDict
    from pandas import DataFrame

    from alljax.study.experiment import Experiment
    from alljax.study.sweep import Trial
    from alljax.study.trials import Outcome


@dataclass(frozen=True)
class Predictions:
    """The held-out predictions of one trial: one row per tested image, sorted by `keys`.

    Attributes:
        keys: (N,) strings that identify a row: path, repeat and fold.
        paths: (N,) of the images.
        subject_names: (N,) as in the data set, empty where unknown.
        subjects: (N,) names after merging aliases; the path where unknown.
        folds: (N,) strings that identify repeat and fold, and so the head that scored a row.
        labels: int (N,), indices of the true classes.
        probabilities: (R, N, C) of R seeds.
    """

    keys: np.ndarray
    paths: np.ndarray
    subject_names: np.ndarray
    subjects: np.ndarray
    folds: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def held_out(self) -> HeldOut:
        """The predictions for `evaluation.intervals`; all images are ranked together."""
        return HeldOut(self.labels, self.probabilities, self.subjects)


@dataclass(frozen=True, eq=False)
class Study:
    """A study, read from its folder.

    Attributes:
        folder: the working directory.
        config: the resolved settings, dotted key to value.
        environment: versions, devices, the command.
        metrics: metrics.json; its ``trials`` are those that are done.
        trials: the names of all trials of the study in order, missing and failed ones too.
    """

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    trials: tuple[str, ...]
    _settings: dict[str, dict[str, Any]] = field(repr=False)
    _predictions: dict[str, Predictions] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return list(self.metrics["dataset"]["classes"])

    @property
    def class_names(self) -> list[str]:
        """Display names of the classes in label order."""
        return list(self.metrics["dataset"]["class_names"])

    @property
    def bootstrap(self) -> dict[str, Any]:
        """``resamples``, ``level`` and ``seed`` of the intervals, so that later ones use the same resamples."""
        return {
            "resamples": self.config["evaluation.resamples"],
            "level": self.config["evaluation.level"],
            "seed": self.config["seed"],
        }

    @cached_property
    def ranking(self) -> Ranking:
        """The trials that are done, best first."""
        return rank_trials(self.metrics, self.predictions, self.bootstrap)

    def settings(self, name: str) -> dict[str, Any]:
        """Returns the resolved settings of a trial, dotted key to value."""
        return self._settings[name]

    def split_of(self, name: str) -> Mapping[str, Any]:
        """Returns ``protocol``, ``leaks`` and ``baselines`` of the split that a trial was tested on."""
        return split_of(self.metrics, name)

    def history(self, name: str) -> "DataFrame":
        """Returns history.csv of a trial; infinite losses are NaN.

        Raises:
            WorkdirError: the file is missing or damaged.
        """
        frame = self._read(name, "history.csv")
        return frame.replace([np.inf, -np.inf], np.nan)

    def predictions(self, name: str) -> Predictions:
        """Returns the held-out predictions of a trial; they are read once.

        Raises:
            WorkdirError: the file is missing or damaged.
        """
        if name not in self._predictions:
            predictions = self._read_predictions(name)
            for other in self._predictions.values():  # the same images: their names are stored once
                if np.array_equal(other.keys, predictions.keys):
                    predictions = replace(other, probabilities=predictions.probabilities)
                    break
            self._predictions[name] = predictions
        return self._predictions[name]

    def _read(self, name: str, file: str) -> "DataFrame":
        path = workdir.trial_folder(self.folder, name) / file
        workdir.verify(path)
        return workdir.read_csv(path)

    def _read_predictions(self, name: str) -> Predictions:
        frame = self._read(name, "predictions.csv")
        fold = frame["repeat"].astype(str) + " " + frame["fold"].astype(str)
        frame = frame.assign(head=fold, key=frame["path"] + "\t" + fold.str.replace(" ", "\t"))
        frame = frame.sort_values(["seed", "key"], kind="stable")
        seeds = frame["seed"].nunique()
        rows = frame.iloc[: len(frame) // seeds].merge(self._subjects, on="path", how="left")
        labels = {label: index for index, label in enumerate(self.classes)}
        probabilities = frame[[f"prob_{label}" for label in self.classes]].to_numpy(np.float64)
        return Predictions(
            keys=np.array(rows["key"], str),
            paths=np.array(rows["path"], str),
            subject_names=np.array(rows["subject_name"], str),
            subjects=np.array(rows["merged_subject"], str),
            folds=np.array(rows["head"], str),
            labels=np.array(rows["label"].map(labels), np.int64),
            probabilities=probabilities.reshape(seeds, -1, len(self.classes)),
        )

    @cached_property
    def _subjects(self) -> "DataFrame":
        """From path to the name of the subject in the data set and after merging aliases."""
        frame = workdir.read_csv(self.folder / "split.csv")
        frame = frame[["path", "subject_name", "subject"]].drop_duplicates("path")
        return frame.rename(columns={"subject": "merged_subject"})


def read_study(folder: Path) -> Study:
    """Reads a study with at least one finished trial.

    Args:
        folder: the working directory.

    Raises:
        WorkdirError: not a work folder, one of another version of alljax, no trial is finished, or a damaged file.
    """
    workdir.check_version(folder)
    stored = {name: workdir.read_json(folder / f"{name}.json") for name in ("config", "environment", "trials")}
    summary = workdir.read_json(folder / "metrics.json")
    if not summary["trials"]:
        raise WorkdirError(f"{folder}: no trial of this study is finished; {workdir.RERUN}")
    settings = {trial["name"]: trial["config"] for trial in stored["trials"]}
    return Study(folder, stored["config"], stored["environment"], summary, tuple(settings), settings)


def write_experiment(folder: Path, experiment: "Experiment", config: "ConfigDict") -> None:
    """Writes what does not depend on a model: split.csv, and a metrics.json without trials.

    With several split settings split.csv has their names in a first column ``split``.

    Args:
        folder: the working directory.
        experiment: images and folds.
        config: of the study.
    """
    import pandas

    from alljax.data import splits

    missing = [trial.name for trial in experiment.trials]
    workdir.write_json(folder / "metrics.json", {"trials": {}, "missing": missing} | experiment.describe(config))
    tables, dataset = [], experiment.dataset
    for name, division in experiment.divisions.items():
        rows = splits.split_rows(division.folds, dataset.records, experiment.subjects, dataset.classes)
        tables.append(pandas.DataFrame(rows, columns=list(splits.COLUMNS)))
        if len(experiment.divisions) > 1:
            tables[-1].insert(0, "split", name)
    workdir.write_csv(folder / "split.csv", pandas.concat(tables))


def write_trial(folder: Path, trial: "Trial", experiment: "Experiment", outcome: "Outcome") -> None:
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


def summarize(trial: "Trial", experiment: "Experiment", outcome: "Outcome") -> dict[str, Any]:
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


def _history(trial: "Trial", experiment: "Experiment", outcome: "Outcome", seeds: Sequence[int]) -> "DataFrame":
    import pandas

    from alljax.training import optimizers
    from alljax.training.sampling import steps_per_epoch

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


def _predictions(trial: "Trial", experiment: "Experiment", outcome: "Outcome", seeds: Sequence[int]) -> "DataFrame":
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
