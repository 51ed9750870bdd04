"""Writes the results of a study into its folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from absl import logging
from flax.traverse_util import flatten_dict

from alljax.data import splits
from alljax.errors import ConfigError
from alljax.evaluation.combination import accuracy_weights, combine
from alljax.evaluation.feature_space import training_features
from alljax.evaluation.intervals import Jackknife, describe_seeds, summarize
from alljax.evaluation.subgroups import spread
from alljax.study import inner_folds, results, workdir
from alljax.study.experiment import Experiment
from alljax.study.sweep import Trial
from alljax.study.trials import Outcome
from alljax.training import checkpoints, classifiers
from alljax.training.head_training import FoldOutcome

COMPARED = ("accuracy", "macro_recall", "macro_f1", "auc")  # of a model and the size threshold


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Writes images.csv, split.csv (with a column ``split`` if there are several), metrics.json of finished trials."""
    tables, dataset = [], experiment.dataset
    for name, division in experiment.divisions.items():
        tables.append(division.splits.to_pandas())
        if len(experiment.divisions) > 1:
            tables[-1].insert(0, "split", name)
    images = pandas.DataFrame({
        "path": [record.path for record in dataset.records],
        "subject_name": [record.subject for record in dataset.records],
        "subject": experiment.subjects,
        "label": [dataset.classes[record.label] for record in dataset.records],
        "area": experiment.inspection.areas,
        "pixels": experiment.inspection.pixels,
    })  # fmt: skip
    images[["red", "green", "blue"]] = experiment.inspection.colors
    for name in experiment.config.evaluation.subgroups:
        images[name] = [dataset.columns[name][record.path] for record in dataset.records]
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
        trained, no_head = flatten_dict(outcome.folds[0].params, sep="/"), ("params/backbone/", "batch_stats/")
        of_head = sum(leaf[0].size for name, leaf in trained.items() if not name.startswith(no_head))
        about["parameters"] = of_head + (network.parameter_count if network else 0)  # up to its stage
        written = _write_checkpoint(here, trial, experiment, outcome) if trial.config.study.checkpoints else []
    tables = _tables(trial, experiment, outcome)
    for name, table in tables.items():
        workdir.write_csv(here / name, table)
    result = _summarize(trial, experiment, outcome) | {"split": trial.split} | about
    workdir.write_json(here / "metrics.json", result)
    workdir.record(here, ["metrics.json", *tables, *written])


def _write_checkpoint(folder: Path, trial: Trial, experiment: Experiment, outcome: Outcome) -> list[str]:
    """Writes what `open_ensemble` reads into ``checkpoint/``; returns the names of the files."""
    params = {str(fold): run.params for fold, run in enumerate(outcome.folds) if run.params}
    selections = {str(fold): run.selection.arrays for fold, run in enumerate(outcome.folds) if run.selection}
    arrays = {workdir.PARAMETERS: params} if params else {}
    if selections:
        arrays[workdir.SELECTIONS] = selections
    if trial.config.train.mode == "frozen":
        features = experiment.extractor.load(*experiment.sources[trial.name])
        rows = np.unique(np.concatenate([fold.train for fold in experiment.folds(trial)]))
        arrays[workdir.TRAINING_FEATURES] = training_features(features, np.array(experiment.subjects), rows)
    for name, content in arrays.items():
        checkpoints.save_arrays(folder / name, content)
    if estimators := [estimator for run in outcome.folds for estimator in run.estimators]:
        classifiers.save(folder / workdir.ESTIMATORS, estimators)
    return [*arrays, *([workdir.ESTIMATORS] if estimators else ())]


def write_failure(folder: Path, name: str, reason: str, skipped: bool = False) -> None:
    """Logs and writes why a trial failed, or writes why it is skipped, which is logged before and printed after."""
    logging.log(logging.DEBUG if skipped else logging.INFO, f"{name} failed: {reason}")
    workdir.begin_trial(workdir.trial_folder(folder, name))
    workdir.write_json(workdir.trial_folder(folder, name) / "metrics.json", {"failed": reason, "skipped": skipped})


def write_combined(folder: Path, trials: Sequence[Trial], experiment: Experiment) -> None:
    """Writes the combined ones of `trials` whose members are all done, also those that are finished: members change."""
    for trial in (trial for trial in trials if trial.members):
        members = {name: workdir.read_result(folder, name) for name in trial.members}
        if not all(members.values()):
            continue  # some are of other shards
        failed = [result for result in members.values() if "failed" in result]
        try:
            if failed:
                raise ConfigError("a member has no results")
            here = [workdir.trial_folder(folder, name) for name in members]
            about = {"rule": trial.config.study.combine[0][1], "members": [*members]}
            about |= {key: sum(one[key] for one in members.values()) for key in ("seconds", "parameters")}
            frozen = [one for name, one in experiment.networks.items() if name in members.keys() & experiment.sources]
            # Members share a backbone up to the deepest of their stages.
            shared = dict(sorted((one.weights.sha256, one.parameter_count) for one in frozen))
            about["parameters"] += sum(shared.values()) - sum(one.parameter_count for one in frozen)
            about["masked"] = any(one["masked"] for one in members.values())
            about["weights"] = members[trial.members[0]]["weights"]  # those of the others are in theirs
            write_trial(folder, trial, experiment, _combine(here, trial, experiment, about))
        except ConfigError as error:
            write_failure(folder, trial.name, str(error), any(result.get("skipped") for result in failed))


def _combine(here: Sequence[Path], trial: Trial, experiment: Experiment, about: dict[str, Any]) -> Outcome:
    """Returns the combined predictions from the folders of the M members; adds ``member_weights``, (F, M), of folds."""
    folds, runs, inner, weights = experiment.folds(trial), [], [], []
    divided = experiment.inner_folds.get(trial.split, ((),) * len(folds))
    seeds, known = trial.config.study.seeds, all((path / workdir.INNER_PREDICTIONS).is_file() for path in here)
    tested = _read(here, "predictions.csv", [seeds * len(fold.test) for fold in folds], experiment)
    sizes = [len(part.test) for parts in divided for part in parts] if known else []
    guessed = iter(_read(here, workdir.INNER_PREDICTIONS, sizes, experiment) if known else ())
    for number, (parts, predicted) in enumerate(zip(divided, tested, strict=True)):
        of_parts = [next(guessed) for _ in parts] if known else []
        weights.append(np.full(len(here), 1 / len(here)))
        if about["rule"] == "weighted":
            if not of_parts:
                raise ConfigError(f"the weights are from inner folds, and fold {number} has none; use the rule mean")
            labels = experiment.dataset.labels[np.concatenate([part.test for part in parts])]
            weights[-1] = accuracy_weights(labels, np.concatenate(of_parts, axis=1))
        inner += [combine(about["rule"], of_part, weights[-1]) for of_part in of_parts]
        by_seed = predicted.reshape(len(here), seeds, -1, experiment.num_classes)
        runs.append(FoldOutcome({}, None, combine(about["rule"], by_seed, weights[-1][:, None])))
    return Outcome(runs, inner, 0, about | {"member_weights": np.array(weights).tolist()})


def _read(here: Sequence[Path], file: str, sizes: Sequence[int], experiment: Experiment) -> list[np.ndarray]:
    """Returns the probabilities in a table of each of M trials, in parts of these numbers of rows, (M, rows, C)."""
    columns = {f"prob_{name}": float for name in experiment.dataset.classes}
    tables = [workdir.read_csv(path, file, columns)[[*columns]].to_numpy(np.float32) for path in here]
    return np.split(np.stack(tables), np.cumsum(sizes)[:-1], axis=1)


def _summarize(trial: Trial, experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """Returns the metrics over all test images: means over seeds, with their intervals."""
    rules, folds = experiment.divisions[trial.split].baselines, experiment.folds(trial)
    tested = [len(fold.test) for fold in folds]
    runs = [run.probabilities[:, :count] for run, count in zip(outcome.folds, tested, strict=True)]
    test = replace(rules["majority"], probabilities=np.concatenate(runs, axis=1), scores=None)
    config, subjects = trial.config, Jackknife.of(test)
    level, seeds = config.evaluation.level, range(config.seed, config.seed + len(test.probabilities))
    model, improvement = describe_seeds(test, level, seeds, config.evaluation.metrics), {}
    if size := rules.get("size_threshold"):
        difference = summarize(test, level, COMPARED, minus=size)
        intervals = difference["intervals"].items()
        improvement = {name: {"value": difference[name], "interval": interval} for name, interval in intervals}
    for label, of_class in enumerate(model["per_class"]):
        of_class["subjects"] = subjects.subjects[label]
        of_class["effective_subjects"] = subjects.effective[label]
    repeats = np.repeat([fold.repeat for fold in folds], tested)
    divided, of_seed = experiment.inner_folds.get(trial.split, ()), [of_fold[0] for of_fold in runs]
    return model | inner_folds.tune(folds, divided, outcome.inner, of_seed, experiment.dataset.labels) | {
        "spread": {"folds": spread(test, test.fold), "repeats": spread(test, repeats)},
        "size_improvement": improvement,
        "interval_unit": experiment.interval_unit,
        "level": level,
    }  # fmt: skip


def _tables(trial: Trial, experiment: Experiment, outcome: Outcome) -> dict[str, pandas.DataFrame]:
    """Returns the tables of a trial that have rows, by file name; inner folds are predicted with the first seed."""
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
) -> pandas.DataFrame:
    """Returns a row per test image of a fold with its probabilities (n, C)."""
    classes, records = np.array(experiment.dataset.classes), experiment.dataset.records
    columns = {
        "path": [records[row].path for row in fold.test],
        "subject": [experiment.subjects[row] if records[row].subject else "" for row in fold.test],
        "label": classes[experiment.dataset.labels[fold.test]],
        "predicted": classes[probabilities.argmax(1)],
    }
    columns |= {f"prob_{name}": probabilities[:, label] for label, name in enumerate(classes)}
    return pandas.DataFrame(columns | {"subset": "test"} | place)
