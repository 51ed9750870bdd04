"""How the metrics of a study's best trial change when the images change, for robustness.csv."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas

from alljax import progress
from alljax.data.dataset import Dataset
from alljax.data.perturbation import PERTURBATIONS, perturb
from alljax.errors import DataError
from alljax.evaluation.intervals import HeldOut, Jackknife, confidence_intervals
from alljax.study import results, workdir
from alljax.study.ensemble import open_ensemble
from alljax.study.results import Predictions

METRICS = ("auc", "accuracy", "macro_recall")


def measure_robustness(folder: Path, weights: str, count: int) -> None:
    """Writes ``trials/NAME/robustness.csv`` of the best trial: metrics on perturbed images and their differences.

    Each image is classified by the heads that were not trained on it. The unperturbed images have severity 0.

    Args:
        folder: the working directory of a study.
        weights: file of the backbone's weights or a folder with it, if it was moved since the study.
        count: how many images are used at most: one of each subject at random, then a second one of each, ...

    Raises:
        DataError: an image of the study is missing or cannot be read.
        WorkdirError: see `open_ensemble`.
    """
    ensemble = open_ensemble(folder, weights=weights)
    study, seed = ensemble.study, ensemble.config.seed
    tested = _choose(study.predictions(ensemble.trial), count, seed)
    opened = results.open_records(ensemble.config)
    dataset = replace(opened, records=tuple(record for record in opened.records if record.path in {*tested.paths}))
    position = {record.path: index for index, record in enumerate(dataset.records)}
    if missing := sorted({*tested.paths} - position.keys()):
        raise DataError(f"{ensemble.config.data.source}: {missing[0]} is missing; restore the images of the study")
    of_fold = {(f"{repeat} {fold}", seed): index for index, (repeat, fold, seed) in enumerate(ensemble.heads)}
    seeds, images = sorted({seed for _, seed in of_fold}), [position[path] for path in tested.paths]
    heads = [[of_fold[fold, seed] for fold in tested.folds] for seed in seeds]  # (R, N): those that score each row

    def classify(changed: Dataset) -> HeldOut:
        blocks = []
        for block in ensemble.predict(changed):
            blocks.append(block.probabilities)
            update(block.probabilities.shape[1])
        return replace(tested.held_out, probabilities=np.concatenate(blocks, axis=1)[heads, images])

    conditions = [(name, *pair) for name, (_, strengths) in PERTURBATIONS.items() for pair in enumerate(strengths, 1)]
    with progress.bar("robustness", (1 + len(conditions)) * len(position), "images") as update:
        unperturbed, rows = classify(dataset), []
        for name, severity, strength in [("unperturbed", 0, 0.0), *conditions]:
            test = classify(perturb(dataset, name, strength, seed)) if severity else unperturbed
            unit = PERTURBATIONS[name][0] if severity else ""
            row = {
                "perturbation": name,
                "severity": severity,
                "strength": strength,
                "unit": unit,
                "images": len(position),
            }
            rows.append(row | _metrics(test, unperturbed, study.bootstrap.level))
    workdir.write_csv(workdir.trial_folder(folder, ensemble.trial) / workdir.ROBUSTNESS, pandas.DataFrame(rows))


def _choose(predictions: Predictions, count: int, seed: int) -> Predictions:
    """Returns the predictions for some images, see `measure_robustness`."""
    images = pandas.DataFrame({"path": predictions.paths, "subject": predictions.subjects}).drop_duplicates("path")
    images = images.sample(frac=1, random_state=seed)
    chosen = images["path"].iloc[np.argsort(images.groupby("subject").cumcount(), kind="stable")[:count]]
    rows = np.isin(predictions.paths, chosen)
    per_image = {name: getattr(predictions, name)[rows] for name in ("paths", "subjects", "folds", "labels")}
    return replace(predictions, **per_image, probabilities=predictions.probabilities[:, rows])


def _metrics(test: HeldOut, unperturbed: HeldOut, level: float) -> dict[str, float]:
    """Returns each metric and its difference to that of the unperturbed images, with the ends of their intervals."""
    values, before = (Jackknife.of(one).values(one, METRICS) for one in (test, unperturbed))
    own, paired = (confidence_intervals(test, level, METRICS, minus) for minus in (None, unperturbed))
    found: dict[str, float] = {}
    for name in METRICS:
        value, undefined = values[name][0], (np.nan, np.nan)
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), (value, *own.get(name, undefined)), strict=True))
        keys = (f"{name}_difference", f"{name}_difference_low", f"{name}_difference_high")
        found |= dict(zip(keys, (value - before[name][0], *paired.get(name, undefined)), strict=True))
    return found
