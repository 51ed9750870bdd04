"""Collects the finished trials of a study, from its folder and those of shards, and reads them back from its folder."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from alljax import files
from alljax.errors import WorkdirError, first_few, plural
from alljax.evaluation.comparison import Ranking
from alljax.evaluation.intervals import Bootstrap, HeldOut
from alljax.study import workdir

if TYPE_CHECKING:
    from pandas import DataFrame

SHARED = ("config.json", "environment.json", "split.csv", "metrics.json", "trials.json")
"""Files of the study that every shard has; the last one marks a complete copy."""

TABLES = ("history.csv", "predictions.csv")


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


def merge_shards(folder: Path, shards: Sequence[Path]) -> dict[str, Any]:
    """Copies the trials of other folders of the same study, and writes metrics.json.

    Args:
        folder: the study's working directory; created from the first shard if it holds no study yet.
        shards: working directories in which other trials of it were trained; none if the shards shared one folder.

    Returns:
        The content of metrics.json.
    """
    for shard in shards:
        workdir.check_version(shard)
    if not shards:
        workdir.check_version(folder)
    elif not (folder / "trials.json").is_file():
        try:
            contents = {name: (shards[0] / name).read_bytes() for name in SHARED}
        except OSError as error:
            raise WorkdirError(f"{shards[0]}: incomplete shard ({error}); {workdir.RERUN}") from error
        for name, content in contents.items():
            files.write_bytes(folder / name, content)
    for shard in shards:
        _check_same_study(folder, shard)
        for trial in workdir.read_trials(folder):
            _merge_trial(folder, shard, trial["name"])
    summary = summarize_study(folder, workdir.read_json(folder / "metrics.json"))
    for name, reason in summary["failed"].items():
        logging.info(f"{name} failed: {reason}")
    if summary["missing"]:
        logging.info(f"{plural(len(summary['missing']), 'trial')} missing: {first_few(summary['missing'])}")
    return summary


def summarize_study(folder: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Writes and returns metrics.json: a description, the finished trials, and which ones failed or are missing."""
    trials = {trial["name"]: workdir.read_result(folder, trial["name"]) for trial in workdir.read_trials(folder)}
    summary = description | {
        "trials": {name: result for name, result in trials.items() if result and "failed" not in result},
        "missing": [name for name, result in trials.items() if not result],
        "failed": {name: result["failed"] for name, result in trials.items() if "failed" in result},
    }
    workdir.write_json(folder / "metrics.json", summary)
    return summary


def _check_same_study(folder: Path, shard: Path) -> None:
    inputs, other_inputs = (workdir.read_json(path / "environment.json")["inputs"] for path in (folder, shard))
    changes = first_few(workdir.changes(folder, workdir.read_json(shard / "config.json")))
    if changes := changes or workdir.input_changes(inputs, other_inputs):
        raise WorkdirError(f"{shard} holds a shard of another study than {folder}: {changes}")


def _merge_trial(folder: Path, shard: Path, name: str) -> None:
    """Copies a trial that is not finished in `folder`; compares one that is finished in both folders."""
    target, source = (workdir.trial_folder(path, name) for path in (folder, shard))
    finished = workdir.is_finished(shard, name)
    if finished:
        workdir.verify(source, *TABLES)
    if not workdir.is_finished(folder, name) and workdir.read_result(shard, name):
        part = target.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            shutil.copytree(source, part)
            shutil.rmtree(target, ignore_errors=True)  # only after the copy is complete
            part.rename(target)
        except OSError as error:  # shutil.Error, which lists several, is one
            raise files.write_error(target, error) from error
    elif finished:
        digests, others = (workdir.read_json(path / workdir.CHECKSUMS) for path in (target, source))
        if any(digests[table] != others[table] for table in TABLES):
            raise WorkdirError(f"{target} and {source} hold different results of the same trial; remove one of them")
