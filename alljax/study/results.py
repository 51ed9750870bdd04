"""The results of a study: writes those of a trial, and reads a finished study back from its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alljax.errors import WorkdirError
from alljax.evaluation.comparison import Ranking
from alljax.evaluation.intervals import Bootstrap, HeldOut
from alljax.study import workdir

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Predictions:
    """The held-out predictions of one trial: one row per tested image, sorted by path, repeat and fold.

    Attributes:
        paths: (N,) of the images.
        subject_names: (N,) as in the data set, empty where unknown.
        subjects: (N,) names after merging aliases; the path where unknown.
        folds: (N,) strings that identify repeat and fold, and so the head that scored a row.
        labels: int (N,), indices of the true classes.
        probabilities: (R, N, C) of R seeds.
    """

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
    def bootstrap(self) -> Bootstrap:
        """Of the study's intervals, so that later ones use the same resamples."""
        config = self.config
        return Bootstrap(config["evaluation.resamples"], config["evaluation.level"], config["seed"])

    @cached_property
    def ranking(self) -> Ranking:
        """The trials that are done, best first."""
        return Ranking(self.metrics, self.predictions, self.bootstrap)

    def settings(self, name: str) -> dict[str, Any]:
        """Returns the resolved settings of a trial, dotted key to value."""
        return self._settings[name]

    def split_of(self, name: str) -> Mapping[str, Any]:
        """Returns ``protocol``, ``leaks`` and ``baselines`` of the split that a trial was tested on."""
        split: Mapping[str, Any] = self.metrics["splits"][self.metrics["trials"][name]["split"]]
        return split

    def history(self, name: str) -> "DataFrame":
        """Returns history.csv of a trial; infinite losses are NaN."""
        return self._read(name, "history.csv").replace([np.inf, -np.inf], np.nan)

    def predictions(self, name: str) -> Predictions:
        """Returns the held-out predictions of a trial; they are read once."""
        if name in self._predictions:
            return self._predictions[name]
        frame = self._read(name, "predictions.csv").drop(columns="subject")
        frame = frame.sort_values(["seed", "path", "repeat", "fold"], kind="stable")
        seeds = frame["seed"].nunique()
        rows = frame.iloc[: len(frame) // seeds].merge(self._subjects, on="path", how="left")
        labels = {label: index for index, label in enumerate(self.classes)}
        probabilities = frame[[f"prob_{label}" for label in self.classes]].to_numpy(np.float64)
        self._predictions[name] = Predictions(
            paths=np.array(rows["path"], str),
            subject_names=np.array(rows["subject_name"], str),
            subjects=np.array(rows["subject"], str),
            folds=np.array(rows["repeat"].astype(str) + " " + rows["fold"].astype(str), str),
            labels=np.array(rows["label"].map(labels), np.int64),
            probabilities=probabilities.reshape(seeds, -1, len(self.classes)),
        )
        return self._predictions[name]

    def _read(self, name: str, file: str) -> "DataFrame":
        """Returns a table of a trial that has its recorded checksum; raises `WorkdirError` for another one."""
        folder = workdir.trial_folder(self.folder, name)
        workdir.verify(folder, file)
        return workdir.read_csv(folder / file)

    @cached_property
    def _subjects(self) -> "DataFrame":
        """From path to the name of the subject in the data set and after merging aliases."""
        return workdir.read_csv(self.folder / "split.csv")[["path", "subject_name", "subject"]].drop_duplicates("path")


def read_study(folder: Path) -> Study:
    """Reads a study with at least one finished trial.

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
