"""Writes the results of a study into its folder."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alljax.data import splits
from alljax.evaluation import novelty
from alljax.evaluation.intervals import Jackknife, describe_seeds, summarize
from alljax.evaluation.subgroups import spread
from alljax.study import inner_folds, results, workdir
from alljax.study.experiment import Experiment
from alljax.study.sweep import Trial
from alljax.study.trials import Outcome
from alljax.training import checkpoints

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
    here, written = workdir.trial_folder(folder, trial.name), list(workdir.TRIAL_FILES)
    workdir.begin_trial(here)
    if trial.config.study.checkpoints:
        folds = {str(fold): run.params for fold, run in enumerate(outcome.folds)}
        checkpoints.save_arrays(here / workdir.PARAMETERS, folds)
        written.append(workdir.PARAMETERS)
        if trial.config.train.mode == "frozen":
            features = experiment.extractor.load(experiment.networks[trial.name])
            rows = np.unique(np.concatenate([fold.train for fold in experiment.folds(trial)]))
            stored = novelty.training_features(features, np.array(experiment.subjects), rows)
            checkpoints.save_arrays(here / workdir.TRAINING_FEATURES, stored)
            written.append(workdir.TRAINING_FEATURES)
    history, predictions = _tables(trial, experiment, outcome)
    workdir.write_csv(here / "history.csv", history)
    workdir.write_csv(here / "predictions.csv", predictions)
    if outcome.inner:
        workdir.write_csv(here / workdir.INNER_PREDICTIONS, _inner_table(trial, experiment, outcome))
        written.append(workdir.INNER_PREDICTIONS)
    network = experiment.networks[trial.name]
    inputs = {"weights": network.describe(), "split": trial.split, "masked": network.preprocessing.cell == "masked"}
    workdir.write_json(here / "metrics.json", _summarize(trial, experiment, outcome) | inputs | outcome.costs)
    workdir.record(here, written)


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


def _tables(trial: Trial, experiment: Experiment, outcome: Outcome) -> "tuple[DataFrame, DataFrame]":
    """Returns history.csv, one row per fold, seed and epoch, and predictions.csv, one row per tested image and seed."""
    import pandas

    config, dataset, histories, predictions = trial.config, experiment.dataset, [], []
    classes = np.array(dataset.classes)
    for fold, run in zip(experiment.folds(trial), outcome.folds, strict=True):
        tested = [dataset.records[row] for row in fold.test]
        images = {
            "path": [record.path for record in tested],
            "subject": [experiment.subjects[row] if dataset.records[row].subject else "" for row in fold.test],
            "label": classes[[record.label for record in tested]],
        }
        for index, probabilities in enumerate(run.probabilities[:, : len(tested)]):
            place = {"repeat": fold.repeat, "fold": fold.fold, "seed": config.seed + index}
            curves = {name: curve[index] for name, curve in run.history._asdict().items()}
            history = pandas.DataFrame(place | {"epoch": np.arange(1, config.train.epochs + 1)} | curves)
            histories.append(history[history["train_loss"].notna()])  # the run ended early
            columns = {"predicted": classes[probabilities.argmax(1)]}
            columns |= {f"prob_{name}": probabilities[:, label] for label, name in enumerate(classes)}
            predictions.append(pandas.DataFrame(images | columns | {"subset": "test"} | place))
    return pandas.concat(histories), pandas.concat(predictions)


def _inner_table(trial: Trial, experiment: Experiment, outcome: Outcome) -> "DataFrame":
    """Returns inner_predictions.csv: one row per training image and fold, predicted by the head of an inner fold."""
    import pandas

    dataset, tables, classes = experiment.dataset, [], list(experiment.dataset.classes)
    parts = [pair for of_fold in experiment.inner_folds[trial.split] for pair in enumerate(of_fold)]
    for (number, part), probabilities in zip(parts, outcome.inner, strict=True):
        table = pandas.DataFrame(probabilities, columns=[f"prob_{name}" for name in classes])
        place = {"repeat": part.repeat, "fold": part.fold, "inner_fold": number, "seed": trial.config.seed}
        images = [(dataset.records[row].path, classes[dataset.records[row].label]) for row in part.test]
        tables.append(pandas.DataFrame(images, columns=["path", "label"]).assign(**place).join(table))
    return pandas.concat(tables)
