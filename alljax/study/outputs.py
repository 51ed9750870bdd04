"""Writes the results of a study into its folder."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict

from alljax.data import splits
from alljax.evaluation import novelty
from alljax.evaluation.intervals import Jackknife, describe_seeds, summarize
from alljax.evaluation.subgroups import spread
from alljax.study import inner_folds, results, workdir
from alljax.study.experiment import Experiment
from alljax.study.sweep import Trial
from alljax.study.trials import Outcome
from alljax.training import checkpoints, classifiers
from alljax.training.network import Network

if TYPE_CHECKING:
    from pandas import DataFrame

COMPARED = ("accuracy", "macro_recall", "macro_f1", "auc")
"""Metrics in which a model is compared with the size threshold."""


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Writes images.csv, split.csv, and metrics.json with the trials that were finished before.

    With several split settings split.csv has their names in a first column ``split``.
    """
    import pandas

    tables, dataset = [], experiment.dataset
    for name, division in experiment.divisions.items():
        rows = splits.split_rows(division.folds, dataset.records, experiment.subjects, dataset.classes)
        tables.append(pandas.DataFrame(rows, columns=list(splits.COLUMNS)))
        if len(experiment.divisions) > 1:
            tables[-1].insert(0, "split", name)
    images = pandas.DataFrame({
        "path": [record.path for record in dataset.records],
        "subject_name": [record.subject for record in dataset.records],
        "subject": experiment.subjects,
        "label": [dataset.classes[record.label] for record in dataset.records],
        "area": experiment.inspection.areas,
        **dict(zip(("red", "green", "blue"), experiment.inspection.colors.T, strict=True)),
        "pixels": experiment.inspection.pixels,
        **{
            name: [dataset.columns[name][record.path] for record in dataset.records]
            for name in experiment.config.evaluation.subgroups
        },
    })  # fmt: skip
    contents = {"images.csv": images, "split.csv": pandas.concat(tables)}
    workdir.write_study(folder, {name: workdir.to_csv(table) for name, table in contents.items()})
    results.summarize_study(folder, experiment.description)


def write_trial(folder: Path, trial: Trial, experiment: Experiment, outcome: Outcome) -> None:
    """Writes ``trials/NAME/``; checksums.json, written last, means finished."""
    here, about, written = workdir.trial_folder(folder, trial.name), outcome.about, list[str]()
    workdir.begin_trial(here)
    if not trial.members:
        network, masked = experiment.networks.get(trial.name), trial.config.preprocessing.cell == "masked"
        about = {"weights": network.describe() if network else None, "seconds": outcome.seconds, "masked": masked}
        about["parameters"] = _parameter_count(network, outcome)
        written = _write_checkpoint(here, trial, experiment, outcome) if trial.config.study.checkpoints else []
    tables = _tables(trial, experiment, outcome)
    for name, table in tables.items():
        workdir.write_csv(here / name, table)
    result = _summarize(trial, experiment, outcome) | {"split": trial.split} | about
    workdir.write_json(here / "metrics.json", result)
    workdir.record(here, ["metrics.json", *tables, *written])


def _parameter_count(network: Network | None, outcome: Outcome) -> int:
    """Returns the number of parameters of the backbone up to its stage, and of a head in JAX."""
    trained = flatten_dict(outcome.folds[0].params, sep="/")
    other = "params/backbone/", "batch_stats/"  # of fine-tuned networks
    of_backbone = network.parameter_count if network else 0
    return of_backbone + sum(leaf[0].size for name, leaf in trained.items() if not name.startswith(other))


def _write_checkpoint(folder: Path, trial: Trial, experiment: Experiment, outcome: Outcome) -> list[str]:
    """Writes what `open_ensemble` reads into ``checkpoint/``; returns the names of the files."""
    arrays = {}
    if params := {str(fold): run.params for fold, run in enumerate(outcome.folds) if run.params}:
        arrays[workdir.PARAMETERS] = params
    if trial.config.features.select and trial.config.train.mode == "frozen":
        arrays[workdir.SELECTIONS] = {str(fold): run.selection.arrays for fold, run in enumerate(outcome.folds)}
    if trial.config.train.mode == "frozen":
        features = experiment.extractor.load(*experiment.sources[trial.name])
        rows = np.unique(np.concatenate([fold.train for fold in experiment.folds(trial)]))
        arrays[workdir.TRAINING_FEATURES] = novelty.training_features(features, np.array(experiment.subjects), rows)
    for name, content in arrays.items():
        checkpoints.save_arrays(folder / name, content)
    estimators = [estimator for run in outcome.folds for estimator in run.estimators]
    if estimators:
        classifiers.save(folder / workdir.ESTIMATORS, estimators)
    return [*arrays, *([workdir.ESTIMATORS] if estimators else ())]


def write_failure(folder: Path, name: str, reason: str, skipped: bool = False) -> None:
    """Logs and writes why a trial failed, or writes why it is skipped, which is logged before and printed after."""
    logging.log(logging.DEBUG if skipped else logging.INFO, f"{name} failed: {reason}")
    workdir.begin_trial(workdir.trial_folder(folder, name))
    workdir.write_json(workdir.trial_folder(folder, name) / "metrics.json", {"failed": reason, "skipped": skipped})


def _summarize(trial: Trial, experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """Returns the metrics over all test images: means over seeds, with their intervals."""
    rules = experiment.divisions[trial.split].baselines
    tested = [len(fold.test) for fold in experiment.folds(trial)]
    runs = [run.probabilities[:, :count] for run, count in zip(outcome.folds, tested, strict=True)]
    test = replace(rules["majority"], probabilities=np.concatenate(runs, axis=1), scores=None)
    config, subjects = trial.config, Jackknife.of(test)
    level, seeds = config.evaluation.level, range(config.seed, config.seed + len(test.probabilities))
    model, improvement = describe_seeds(test, level, seeds), {}
    if size := rules.get("size_threshold"):
        difference = summarize(test, level, COMPARED, minus=size)
        intervals = difference["intervals"].items()
        improvement = {name: {"value": difference[name], "interval": interval} for name, interval in intervals}
    for label, of_class in enumerate(model["per_class"]):
        of_class["subjects"] = subjects.subjects[label]
        of_class["effective_subjects"] = subjects.effective[label]
    repeats = np.repeat([fold.repeat for fold in experiment.folds(trial)], tested)
    return model | {
        "spread": {"folds": spread(test, test.fold), "repeats": spread(test, repeats)},
        "size_improvement": improvement,
        "interval_unit": experiment.interval_unit,
        "level": level,
        **inner_folds.tune(
            experiment.folds(trial), experiment.inner_folds.get(trial.split, ()), outcome.inner,
            [of_fold[0] for of_fold in runs], experiment.labels,
        ),
    }  # fmt: skip


def _tables(trial: Trial, experiment: Experiment, outcome: Outcome) -> "dict[str, DataFrame]":
    """Returns the tables of a trial by file name.

    history.csv (of epochs) has a row per fold, seed and epoch, predictions.csv one per tested image and seed,
    inner_predictions.csv (if there are inner folds) one per training image and fold, predicted by an inner fold.
    """
    import pandas

    histories, predictions, inner, seed = [], [], [], trial.config.seed
    for fold, run in zip(experiment.folds(trial), outcome.folds, strict=True):
        for index, probabilities in enumerate(run.probabilities[:, : len(fold.test)]):
            place = {"repeat": fold.repeat, "fold": fold.fold, "seed": seed + index}
            if run.history is not None:
                curves = {name: curve[index] for name, curve in run.history._asdict().items()}
                history = pandas.DataFrame(place | {"epoch": np.arange(1, trial.config.train.epochs + 1)} | curves)
                histories.append(history[history["train_loss"].notna()])  # the run ended early
            predictions.append(_predictions(experiment, fold, probabilities, place))
    parts = (pair for of_fold in experiment.inner_folds.get(trial.split, ()) for pair in enumerate(of_fold))
    for (number, part), probabilities in zip(parts, outcome.inner, strict=False):  # none for fine-tuned networks
        place = {"repeat": part.repeat, "fold": part.fold, "inner_fold": number, "seed": seed}
        inner.append(_predictions(experiment, part, probabilities, place))
    tables = {workdir.HISTORY: histories, "predictions.csv": predictions, workdir.INNER_PREDICTIONS: inner}
    return {name: pandas.concat(frames) for name, frames in tables.items() if frames}


def _predictions(
    experiment: Experiment, fold: splits.Fold, probabilities: np.ndarray, place: dict[str, int]
) -> "DataFrame":
    """Returns a row per test image of a fold with its probabilities (n, C)."""
    import pandas

    classes, records = np.array(experiment.dataset.classes), experiment.dataset.records
    columns = {
        "path": [records[row].path for row in fold.test],
        "subject": [experiment.subjects[row] if records[row].subject else "" for row in fold.test],
        "label": classes[experiment.labels[fold.test]],
        "predicted": classes[probabilities.argmax(1)],
    }
    columns |= {f"prob_{name}": probabilities[:, label] for label, name in enumerate(classes)}
    return pandas.DataFrame(columns | {"subset": "test"} | place)
