"""Reads a study from its folder, recognizes a finished one, and collects trials of shards; imports no JAX."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from absl import logging
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import files
from alljax.data.dataset import Dataset
from alljax.data.readers import open_labeled
from alljax.errors import UserError, WorkdirError, first_few, plural, unknown_name
from alljax.evaluation.comparison import Ranking
from alljax.evaluation.intervals import HeldOut
from alljax.study import identity, sweep, workdir
from alljax.weights import store

HISTORY = {"repeat": int, "fold": int, "seed": int, "epoch": int} | dict.fromkeys(
    ("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy"), float
)
IMAGES = {"path": str, "subject_name": str, "subject": str, "label": str, "area": float, "pixels": str}
"""Columns of the tables of a study that are read, and their types."""


@dataclass(frozen=True)
class Predictions:
    """The held-out predictions of one trial: one row per tested image, sorted by path, repeat and fold."""

    paths: np.ndarray  # (N,)
    subject_names: np.ndarray  # (N,) as in the data set, empty where unknown
    subjects: np.ndarray  # (N,) names after merging aliases; the path where unknown
    folds: np.ndarray  # (N,) the head that scored a row: repeat and fold (and inner fold), as "0 2"
    labels: np.ndarray  # int (N,), indices of the true classes
    probabilities: np.ndarray  # (R, N, C) of R seeds

    @property
    def held_out(self) -> HeldOut:
        """The predictions for `evaluation.intervals`."""
        return HeldOut(self.labels, self.probabilities, self.subjects, self.folds)


@dataclass(frozen=True, eq=False)
class Study:
    """A study, read from its folder."""

    folder: Path
    config: dict[str, Any]  # the resolved settings, dotted key to value
    environment: dict[str, Any]
    metrics: dict[str, Any]  # its ``trials`` are those that are done
    trials: tuple[str, ...]  # the names of all trials in order, missing and failed ones too
    _settings: dict[str, dict[str, Any]] = field(repr=False)
    _predictions: dict[str, Predictions] = field(default_factory=dict, repr=False)
    _columns: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return list(self.metrics["dataset"]["classes"])

    @property
    def class_names(self) -> list[str]:
        """Display names of the classes in label order."""
        return list(self.metrics["dataset"]["class_names"])

    @property
    def level(self) -> float:
        """The confidence level."""
        return float(self.config["evaluation.level"])

    @property
    def interval_unit(self) -> str:
        """What intervals resample: ``subjects``, or ``images`` where subjects are unknown."""
        return str(next(iter(self.metrics["trials"].values()))["interval_unit"])

    @property
    def intervals(self) -> str:
        """How notes below tables name intervals: ``95% intervals over subjects``."""
        return f"{self.level:.0%} intervals over {self.interval_unit}"

    @cached_property
    def ranking(self) -> Ranking:
        """The trials that are done, best first."""
        return Ranking(self.metrics, self.predictions, self.config)

    def find(self, trial: str = "") -> str:
        """Returns the name of a trial that is done, by default the best; raises `WorkdirError` for another name."""
        if trial and trial not in self.metrics["trials"]:
            raise WorkdirError(f"{self.folder}: {unknown_name('finished trial', trial, self.metrics['trials'])}")
        return trial or self.ranking.best

    def settings(self, name: str) -> dict[str, Any]:
        """Returns the resolved settings of a trial, dotted key to value."""
        return self._settings[name]

    def split_of(self, name: str) -> Mapping[str, Any]:
        """Returns ``protocol``, ``leaks`` and ``baselines`` of the split that a trial was tested on."""
        split: Mapping[str, Any] = self.metrics["splits"][self.metrics["trials"][name]["split"]]
        return split

    def history(self, name: str) -> pandas.DataFrame:
        """Returns history.csv of a trial, without rows for a classifier without epochs; infinite losses are NaN."""
        folder = workdir.trial_folder(self.folder, name)
        if workdir.HISTORY not in workdir.read_checksums(folder):
            return pandas.DataFrame(columns=list(HISTORY))
        return workdir.read_csv(folder, workdir.HISTORY, HISTORY).replace([np.inf, -np.inf], np.nan)

    def predictions(self, name: str) -> Predictions:
        """Returns the held-out predictions of a trial; they are read once."""
        if name not in self._predictions:
            self._predictions[name] = self._read_predictions(name, "predictions.csv", ["repeat", "fold"])
        return self._predictions[name]

    def inner_predictions(self, name: str) -> Predictions | None:
        """Returns the predictions of the training images of each fold by its inner folds; None if a trial has none."""
        if not (workdir.trial_folder(self.folder, name) / workdir.INNER_PREDICTIONS).is_file():
            return None
        return self._read_predictions(name, workdir.INNER_PREDICTIONS, ["repeat", "fold", "inner_fold"])

    def _read_predictions(self, name: str, file: str, heads: list[str]) -> Predictions:
        """Reads a table of predictions; `heads` are the columns that identify the head, apart from the seed."""
        columns, folder = [f"prob_{label}" for label in self.classes], workdir.trial_folder(self.folder, name)
        types = {"path": str, "label": str} | dict.fromkeys([*heads, "seed"], int) | dict.fromkeys(columns, float)
        frame = workdir.read_csv(folder, file, types)
        frame = frame.sort_values(["seed", "path", *heads], kind="stable")
        seeds = max(frame["seed"].nunique(), 1)
        rows = frame.iloc[: len(frame) // seeds].merge(self.images.drop(columns="label"), on="path", how="left")
        labels = {label: index for index, label in enumerate(self.classes)}
        probabilities = frame[columns].to_numpy(np.float64)
        known = rows["label"].isin(labels) & rows["subject"].notna()
        if not 0 < known.sum() * seeds == len(frame):
            raise WorkdirError(f"{folder / file} has other images or classes than the study, or rows are missing")
        heads_of_rows = rows[heads[0]].astype(str).str.cat(rows[heads[1:]].astype(str), sep=" ")
        return Predictions(
            paths=self._shared(np.array(rows["path"], str)),
            subject_names=self._shared(np.array(rows["subject_name"], str)),
            subjects=self._shared(np.array(rows["subject"], str)),
            folds=self._shared(np.array(heads_of_rows, str)),
            labels=self._shared(np.array(rows["label"].map(labels), np.int64)),
            probabilities=probabilities.reshape(seeds, -1, len(self.classes)),
        )

    def _shared(self, column: np.ndarray) -> np.ndarray:
        """Returns an equal array read before, if there is one: trials of a split have the same images."""
        key = f"{column.dtype} {hashlib.sha256(column.tobytes()).hexdigest()}"
        return self._columns.setdefault(key, column)

    @cached_property
    def images(self) -> pandas.DataFrame:
        """The images of the study, images.csv: `IMAGES`, and the columns named in ``evaluation.subgroups``."""
        columns = IMAGES | dict.fromkeys(self.config["evaluation.subgroups"], str)
        return workdir.read_csv(self.folder, "images.csv", columns)

    @cached_property
    def training_images(self) -> pandas.DataFrame:
        """The rows of `images` that are training images of a fold."""
        sides = workdir.read_csv(self.folder, "split.csv", {"path": str, "subset": str})
        return self.images[self.images["path"].isin(sides["path"][sides["subset"] == "train"])]

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """What `assessment` computed, evaluation.json: ``trials``, by name, and ``selection``."""
        return dict(workdir.read(self.folder, workdir.EVALUATION))

    def robustness(self, name: str) -> list[dict[str, Any]] | None:
        """Returns robustness.json of a trial, see `robustness`; None where it was not measured."""
        path = workdir.trial_folder(self.folder, name) / workdir.ROBUSTNESS
        return list(workdir.read_json(path)) if path.is_file() else None


def read_study(folder: Path) -> Study:
    """Returns a study with at least one finished trial; raises `WorkdirError` for other folders and damaged files."""
    workdir.check_folder(folder)
    try:
        settings = workdir.read_trials(folder)
        config = configs.flatten(configs.default_config()) | workdir.read(folder, "config.json")
        environment, summary = workdir.read(folder, "environment.json"), workdir.read(folder, "metrics.json")
        if environment.get("format") != identity.FORMAT:
            version = environment["alljax"]
            raise WorkdirError(f"{folder} was written by another version of alljax, {version}; use that version")
        if not summary["trials"]:
            raise WorkdirError(f"{folder}: no trial of this study is finished; {workdir.RERUN}")
        if not {*summary["trials"], *summary["failed"], *summary["missing"]} <= settings.keys():
            raise WorkdirError(f"{folder / 'metrics.json'} does not fit trials.json; {workdir.RERUN}")
        study = Study(folder, config, environment, summary, tuple(settings), settings)
        _ = study.class_names, study.level, study.interval_unit, [study.split_of(name) for name in summary["trials"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorkdirError(f"{folder}: its files are not those that alljax writes ({error!r})") from error
    return study


def find_unchanged(config: ConfigDict, folder: Path) -> Study | None:
    """Returns the study in `folder` if all its trials are finished and config, stamps of images, weights are equal."""
    try:
        study, given = read_study(folder), identity.settings(sweep.expand(config))
        found = {name: workdir.read_result(folder, name) for name in study.trials}
        unchanged = (
            not identity.changes(study._settings, given)
            and all(study.config[f"report.{key}"] == value for key, value in config.report.items())
            and not workdir.damaged(folder)
            and all(workdir.is_finished(folder, name) for name in study.trials)
            and study.metrics["trials"] == found
            and study.evaluation["trials"].keys() == found.keys()
            and all(store.digest(path) == sha256 for path, sha256 in _weight_files(given, found))
            and study.environment.get("source_state") == source_state(config)
        )
    except UserError:  # no study, or `run_study` reports it
        return None
    return study if unchanged else None


def _weight_files(given: identity.Settings, found: Mapping[str, Any]) -> set[tuple[Path, str]]:
    """Returns the file that ``weights.path`` names, else the one that was used, and the SHA-256 of the one used."""
    now = {name: Path(given[name]["weights.path"]).expanduser() for name in found}
    used = {name: of["weights"] for name, of in found.items() if of["weights"] and of["weights"]["path"]}
    return {(Path(of["path"]) if now[name].is_dir() else now[name], of["sha256"]) for name, of in used.items()}


def source_state(config: ConfigDict) -> str:
    """Returns a hash of the records of the source and the stamps of their files; generated images have no files."""
    dataset, digest = open_records(config), hashlib.sha256()
    for record in dataset.records:
        digest.update(f"{record} {dataset.stamp(record) if dataset.stamp else ''}\n".encode())
    return digest.hexdigest()


def open_records(config: ConfigDict) -> Dataset:
    """Returns the data set of a study without reading its images."""
    return open_labeled(config.data, sweep.subsets(sweep.expand(config)))


def merge_shards(folder: Path, shards: Sequence[Path]) -> dict[str, Any]:
    """Copies the trials of other folders of the same study into a (new) one; writes and returns metrics.json."""
    new = bool(shards) and not (folder / "trials.json").is_file()
    for path in shards if new else (folder, *shards):
        workdir.check_folder(path)
    if new:
        workdir.check_links(folder)
        workdir.verify(shards[0], *workdir.STUDY_FILES)
        workdir.write_study(folder, {name: (shards[0] / name).read_text("utf-8") for name in workdir.STUDY_FILES})
    trials = workdir.read_trials(folder)
    inputs = workdir.read(folder, "environment.json")["inputs"]
    for shard in shards:
        given = workdir.read(shard, "environment.json")["inputs"]
        changes = first_few(identity.changes(trials, workdir.read_trials(shard)))
        if changes := changes or identity.input_changes(inputs, given):
            raise WorkdirError(f"{shard} holds a shard of another study than {folder}: {changes}")
        for name in trials:
            _merge_trial(folder, shard, name)
    summary = summarize_study(folder, workdir.read(folder, "metrics.json"))
    for name, reason in summary["failed"].items():
        logging.info(f"{name} failed: {reason}")
    if missing := summary["missing"]:
        logging.info(f"{plural(len(missing), 'trial')} missing: {first_few(missing)}; {workdir.RERUN}")
    return summary


def summarize_study(folder: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Writes and returns metrics.json: a description, the finished trials, and which ones failed or are missing."""
    trials = {name: workdir.read_result(folder, name) for name in workdir.read_trials(folder)}
    summary = description | {
        "trials": {name: result for name, result in trials.items() if result and "failed" not in result},
        "missing": [name for name, result in trials.items() if not result],
        "failed": {name: one["failed"] for name, one in trials.items() if "failed" in one and not one.get("skipped")},
        "skipped": {name: one["failed"] for name, one in trials.items() if one.get("skipped")},
    }
    workdir.write_study(folder, {"metrics.json": summary})
    return summary


def _merge_trial(folder: Path, shard: Path, name: str) -> None:
    """Copies a trial that is not finished in `folder`; compares one that is finished in both folders."""
    target, source = (workdir.trial_folder(path, name) for path in (folder, shard))
    if not (result := workdir.read_result(shard, name)):
        return
    if "failed" not in result:
        workdir.verify(source)
    if not workdir.is_finished(folder, name):
        part = target.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        with files.write_errors(target):  # shutil.Error, which lists several, is an OSError
            shutil.copytree(source, part, symlinks=True)  # links, which loggers make, are not followed
            shutil.rmtree(target, ignore_errors=True)  # only after the copy is complete
            part.rename(target)
    elif "failed" not in result:
        ours, theirs = (workdir.read_checksums(path) for path in (target, source))
        tables = [name for name in ours if name in (workdir.HISTORY, "predictions.csv")]
        if any(ours[table]["sha256"] != theirs.get(table, {}).get("sha256") for table in tables):
            raise WorkdirError(f"{target} and {source} hold different results of the same trial; remove one of them")
