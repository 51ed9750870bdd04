"""How the metrics of a trial change when the images change, for robustness.json."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas

from alljax import progress
from alljax.data.dataset import Dataset
from alljax.data.perturbation import PERTURBATIONS, perturb
from alljax.errors import DataError
from alljax.evaluation.intervals import HeldOut, summarize
from alljax.study import results, workdir
from alljax.study.ensemble import open_ensemble

METRICS = ("auc", "accuracy", "macro_recall")


def measure_robustness(folder: Path, trial: str, weights: str, count: int) -> None:
    """Writes ``trials/NAME/robustness.json`` of a trial, by default the best: metrics on perturbed images.

    The unperturbed images are first; ``differences`` are those to them. Each image is classified by the heads that were
    not trained on it. `trial` and `weights` are those of `open_ensemble`; at most `count` images are used: one of each
    subject at random, then a second one of each, ….
    """
    ensemble = open_ensemble(folder, trial, weights)
    level, seed = ensemble.study.level, ensemble.config.seed
    predictions, opened = ensemble.study.predictions(ensemble.trial), results.open_records(ensemble.config)
    candidates = pandas.DataFrame({"path": predictions.paths, "subject": predictions.subjects})
    candidates = candidates.drop_duplicates("path").sample(frac=1, random_state=seed)
    order = np.argsort(candidates.groupby("subject").cumcount(), kind="stable")
    chosen = np.flatnonzero(np.isin(predictions.paths, candidates["path"].iloc[order[: max(count, 1)]]))
    folds, paths = predictions.folds[chosen], predictions.paths[chosen]
    dataset = replace(opened, records=tuple(record for record in opened.records if record.path in {*paths}))
    position = {record.path: index for index, record in enumerate(dataset.records)}
    if missing := sorted({*paths} - position.keys()):
        raise DataError(f"{ensemble.config.data.source}: {missing[0]} is missing; restore the images of the study")
    place = {(f"{repeat} {fold}", seed): index for index, (repeat, fold, seed) in enumerate(ensemble.heads)}
    seeds, images = sorted({seed for _, seed in place}), [position[path] for path in paths]
    heads = [[place[fold, seed] for fold in folds] for seed in seeds]  # (R, N): those that score each row

    def classify(changed: Dataset) -> HeldOut:
        blocks = []
        for block in ensemble.predict(changed):
            blocks.append(block.probabilities)
            update(block.probabilities.shape[1])
        probabilities = np.concatenate(blocks, axis=1)[heads, images]
        return HeldOut(predictions.labels[chosen], probabilities, predictions.subjects[chosen], folds)

    conditions = [(name, *pair) for name, (_, strengths) in PERTURBATIONS.items() for pair in enumerate(strengths, 1)]
    with progress.bar("robustness", (1 + len(conditions)) * len(position), "images") as update:
        unperturbed = classify(dataset)
        before = summarize(unperturbed, level, METRICS)
        rows = [{"perturbation": "unperturbed", "severity": 0, "images": len(position), "metrics": before}]
        for name, severity, strength in conditions:
            test = classify(perturb(dataset, name, strength, seed))
            after, paired = summarize(test, level, METRICS), summarize(test, level, METRICS, unperturbed)
            differences = {key: value for key, value in paired.items() if value is not None}
            row = {"perturbation": name, "severity": severity, "strength": strength, "unit": PERTURBATIONS[name][0]}
            rows.append(row | {"metrics": after, "differences": differences})
    workdir.write_json(workdir.trial_folder(folder, ensemble.trial) / workdir.ROBUSTNESS, rows)
