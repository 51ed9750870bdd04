"""What a cell of a study leaves behind: curves, predictions, metrics, the cells it got wrong."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alljax import files
from alljax.data.dataset import Dataset
from alljax.data.images import load
from alljax.errors import WorkdirError
from alljax.evaluation import intervals, metrics
from alljax.evaluation.baselines import SizeRule
from alljax.report import plots
from alljax.study import finished, workdir
from alljax.study.experiment import Material
from alljax.study.finished import Study
from alljax.training import optimizers
from alljax.training.fold import steps_per_epoch
from alljax.training.head_training import HeadRuns

PLACE = ("split", "repeat", "fold", "seed")
HISTORY = (
    "repeat", "fold", "seed", "epoch", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
)  # fmt: skip
WRONG_SHOWN = 24
OVER_SIZE = ("accuracy", "macro_f1", "auc")
"""Metrics in which a cell is set beside the size of the cell alone, see `over_size`."""
FILES = ("history.csv", "predictions.csv")
"""What a cell's metrics.json vouches for, by SHA-256."""


def write_cell(
    folder: Path, name: str, config: ConfigDict, material: Material, runs: Sequence[HeadRuns], extra: dict[str, Any]
) -> None:
    """Writes ``trials/NAME/`` but for the checkpoint; metrics.json, which says "done", comes last.

    Args:
        folder: the working directory.
        name: of the cell.
        config: of the cell.
        material: the images and splits.
        runs: one a split.
        extra: added to metrics.json.
    """
    here = folder / "trials" / name
    seeds = [config.seed + number for number in range(config.study.seeds)]
    workdir.write_csv(here / "history.csv", HISTORY, _history(config, material, runs, seeds))
    classes = [f"prob_{name}" for name in material.dataset.classes]
    header = ["path", "subject", "label", "predicted", *classes, *PLACE]
    workdir.write_csv(here / "predictions.csv", header, _predictions(material, runs, seeds))

    tested = np.concatenate([split.test for split in material.splits])
    probabilities = np.concatenate(
        [run.probabilities[:, : len(split.test)] for run, split in zip(runs, material.splits, strict=True)], axis=1
    )
    digests = {file: files.sha256(here / file) for file in FILES}
    workdir.write_json(
        here / "metrics.json", summarize(config, material, tested, probabilities) | extra | {"sha256": digests}
    )


def damage(here: Path) -> str:
    """Returns what is wrong with a cell's files; empty if they are whole, or the cell is not done yet.

    Args:
        here: the cell's folder.
    """
    if not (here / "metrics.json").is_file():
        return ""
    try:
        digests = workdir.read_json(here / "metrics.json").get("sha256", {})
        changed = [name for name, digest in digests.items() if files.sha256(here / name) != digest]
    except (WorkdirError, OSError, AttributeError) as error:
        return f"{here / 'metrics.json'} or a file beside it cannot be read ({type(error).__name__})"
    return f"{here / changed[0]} is not as it was written (cut off?)" if changed else ""


def whole(here: Path) -> bool:
    """Says whether a cell is done and its files are as they were written.

    Args:
        here: the cell's folder.
    """
    return (here / "metrics.json").is_file() and not damage(here)


def summarize(config: ConfigDict, material: Material, tested: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Returns the metrics over all tested cells: means over seeds, with their intervals.

    Args:
        config: ``evaluation`` and ``seed`` are read.
        material: the images and splits.
        tested: int (M,), the rows tested, folds and repeats one after the other.
        probabilities: float32 (R, M, C), of R seeds.
    """
    labels = material.labels[tested]
    people = [material.people[row] for row in tested]
    seeds = [config.seed + number for number in range(len(probabilities))]
    model = over_seeds([metrics.evaluate(labels, of_seed) for of_seed in probabilities], seeds)
    drawing = {
        "resamples": config.evaluation.resamples, "level": config.evaluation.level, "seed": config.seed,
    }  # fmt: skip
    bounds = intervals.bootstrap(labels, probabilities, people, **drawing)
    folds = np.repeat(np.arange(len(material.splits)), [len(split.test) for split in material.splits])
    return model | {
        "intervals": {key: list(bound) for key, bound in bounds.items()},
        "over_size": over_size(model, labels, probabilities, material.size_rule, people, folds, **drawing),
        "interval_unit": material.unit,
        "level": config.evaluation.level,
    }


def over_size(
    model: Mapping[str, Any], labels: np.ndarray, probabilities: np.ndarray, rule: SizeRule, people: Sequence[str],
    folds: np.ndarray, **drawing: Any,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Returns by how much a model is above the size of the cell alone, both on the same images and draws of people.

    The AUC of both is that within folds, so that the scales of several heads do not count against the model.

    Args:
        model: its metrics, from `over_seeds`.
        labels: int (M,).
        probabilities: (R, M, C) of the model.
        rule: of the same images.
        people: M names of what is drawn.
        folds: (M,) which head scored an image.
        drawing: ``resamples``, ``level`` and ``seed``, see `intervals.difference`.

    Returns:
        For each metric of `OVER_SIZE` that is defined its ``value`` and ``interval``.
    """
    rules, scores = rule.probabilities[None], rule.scores[None]
    bounds = intervals.difference(
        labels, probabilities, rules, people, names=OVER_SIZE, second_scores=scores, folds=folds, **drawing
    )
    size = metrics.evaluate(labels, rule.probabilities)
    size["auc"] = intervals.auc_within_folds(labels, scores, folds)
    own = {**model, "auc": intervals.auc_within_folds(labels, probabilities, folds)}
    return {
        name: {"value": own[name] - size[name], "interval": list(bounds[name])}
        for name in OVER_SIZE
        if name in bounds and None not in (own[name], size[name])
    }


def over_seeds(per_seed: Sequence[dict[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """Returns the means over seeds, with ``seeds``, ``std`` of the metrics, and ``per_seed`` what each gave.

    Args:
        per_seed: from `metrics.evaluate`, one a seed.
        seeds: theirs.
    """
    return {key: _mean([one[key] for one in per_seed]) for key in per_seed[0]} | {
        "seeds": list(seeds),
        "std": {key: _deviation([one[key] for one in per_seed]) for key in metrics.METRICS},
        "per_seed": [{"seed": seed} | one for seed, one in zip(seeds, per_seed, strict=True)],
    }


def _deviation(values: list[Any]) -> float | None:
    """Returns the standard deviation over seeds, as of a sample; None of one seed, or of what is undefined."""
    return float(np.std(values, ddof=1)) if len(values) > 1 and None not in values else None


def _mean(values: list[Any]) -> Any:
    """Returns the mean of numbers, or of each place of equally nested lists and dictionaries."""
    first = values[0]
    if isinstance(first, dict):
        return {key: _mean([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_mean(list(group)) for group in zip(*values, strict=True)]
    if all(value == first for value in values):  # counts, names, and metrics that are undefined
        return first
    return float(np.mean(values))


def _history(
    config: ConfigDict, material: Material, runs: Sequence[HeadRuns], seeds: Sequence[int]
) -> Iterator[list[Any]]:
    for split, run in zip(material.splits, runs, strict=True):
        steps = steps_per_epoch(len(split.train), config.train.batch_size)
        hyperparameters = optimizers.Hyperparameters.of(config, config.train.epochs * steps)
        schedule = optimizers.make_schedule(config, hyperparameters)
        for column, seed in enumerate(seeds):
            for epoch in range(config.train.epochs):
                curves = (
                    run.curves.train_loss, run.curves.train_accuracy, run.curves.val_loss, run.curves.val_accuracy,
                )  # fmt: skip
                if np.isnan(curves[0][epoch, column]):  # the run ended early
                    break
                rate = float(schedule((epoch + 1) * steps))
                row = [f"{curve[epoch, column]:.9g}" for curve in curves]
                yield [split.repeat, split.fold, seed, epoch + 1, f"{rate:.9g}", *row]


def _predictions(material: Material, runs: Sequence[HeadRuns], seeds: Sequence[int]) -> Iterator[list[Any]]:
    """Yields one row a tested cell and seed; nine digits give a float32 back bit for bit."""
    names, records = material.dataset.classes, material.dataset.records
    for split, run in zip(material.splits, runs, strict=True):
        for column, seed in enumerate(seeds):
            for row, probabilities in zip(split.test, run.probabilities[column], strict=False):
                record, predicted = records[row], names[int(probabilities.argmax())]
                shown = [f"{value:.9g}" for value in probabilities]
                place = ["test", split.repeat, split.fold, seed]
                yield [record.path, record.subject, names[record.label], predicted, *shown, *place]


def write_wrong_sheet(study: Study, name: str, dataset: Dataset) -> None:
    """Writes ``figures/wrong-NAME.png``: the tested cells that were most confidently given a wrong class.

    Args:
        study: the finished study.
        name: of the cell.
        dataset: its images.
    """
    predictions, names = finished.read_predictions(study, name), study.classes
    mean = predictions.probabilities.mean(0)
    record_of = {record.path: record for record in dataset.records}
    pictures, captions = [], []
    for place in metrics.most_wrong(predictions.labels, predictions.probabilities, WRONG_SHOWN):
        record = record_of[str(predictions.paths[place])]
        pictures.append(load(dataset, record))
        called, confidence = names[mean[place].argmax()], mean[place].max()
        who = f"subject {record.subject}" if record.subject else record.path.rpartition("/")[2]
        captions.append(f"{names[record.label]}\ncalled {called} {confidence:.0%}\n{who}")
    files.write_bytes(study.folder / "figures" / f"wrong-{name}.png", plots.contact_sheet(pictures, captions))
