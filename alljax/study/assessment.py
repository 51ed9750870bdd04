"""Evaluates the finished trials of a study from their stored predictions, for evaluation.json; imports no JAX."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from alljax.data.archive import natural_sort
from alljax.evaluation.calibration import calibration, operating_points, scale
from alljax.evaluation.combination import by_subject, ensemble
from alljax.evaluation.intervals import HeldOut, describe, summarize
from alljax.evaluation.metrics import folds_are_complete
from alljax.evaluation.subgroups import beyond_size, subgroups
from alljax.study import results, workdir
from alljax.study.results import Study


def evaluate_study(folder: Path) -> Study:
    """Writes evaluation.json, and subjects.csv where subjects are known, of a study, which is returned."""
    study, trials, tables = results.read_study(folder), {}, []
    for name in study.metrics["trials"]:
        joint = ensemble(study.predictions(name).held_out, study.predictions(name).paths)
        subjects = by_subject(joint) if study.interval_unit == "subjects" else None
        trials[name] = _assess_trial(study, name, joint, subjects)
        if subjects:
            tables.append(_subjects_table(study, name, joint, subjects))
    contents: dict[str, Any] = {workdir.EVALUATION: {"trials": trials, "selection": _select(study)}}
    if tables:
        contents[workdir.SUBJECTS] = workdir.to_csv(pandas.concat(tables))
    workdir.write_study(folder, contents)
    return study


def _select(study: Study) -> dict[str, Any] | None:
    """Returns the metrics of the best trial if it is chosen per fold by inner or other folds; None without choice."""
    best, metric = study.ranking.best, study.ranking.metric
    trials, models = study.metrics["trials"], [name for name in study.ranking.order if name not in study.ranking.masked]
    names = [name for name in models if trials[name]["split"] == trials[best]["split"]]
    tests = {name: study.predictions(name).held_out for name in names}
    folds = natural_sort({*study.predictions(best).folds})
    inner = {name: study.inner_predictions(name) for name in names if study.config["study.select"] == "nested"}
    tuning = {name: found.held_out for name, found in inner.items() if found} or tests
    outer = np.array([" ".join(head.split()[:2]) for head in np.asarray(tuning[best].folds)])
    if tuning is tests:
        repeats = np.array([head.split()[0] for head in outer])
        members = {fold: (repeats == fold.split()[0]) & (outer != fold) for fold in folds}
    else:
        members = {fold: outer == fold for fold in folds}
    if len(names) < 2 or not all(rows.any() for rows in members.values()):
        return None
    chosen, probabilities = [], np.array(tests[best].probabilities)
    for fold, rows in members.items():
        values = {name: summarize(tuned.take(rows), 0, [metric])[metric] or 0 for name, tuned in tuning.items()}
        chosen.append(max(values, key=values.__getitem__))
        tested = tests[best].folds == fold
        probabilities[:, tested] = tests[chosen[-1]].probabilities[:, tested]
    found = summarize(replace(tests[best], probabilities=probabilities), study.level)
    by, value = "the other folds" if tuning is tests else "inner folds", trials[best][metric]
    nested = {"nested": found[metric], "interval": found["intervals"].get(metric), "chosen": chosen, "metrics": found}
    return {"best": best, "metric": metric, "value": value, "by": by, **nested}


def _assess_trial(study: Study, name: str, joint: HeldOut, subjects: HeldOut | None) -> dict[str, Any]:
    predictions, level = study.predictions(name), study.level
    test, images = predictions.held_out, study.images.set_index("path")
    sized = "size_threshold" in study.split_of(name)["baselines"]
    found: dict[str, Any] = {
        "ensemble": describe(joint, level),
        "calibration": calibration(test, level),
        "subgroups": subgroups(joint, _groups(study, joint, images.loc[np.unique(predictions.paths)], sized), level),
        "beyond_size": beyond_size(test, images["area"][predictions.paths].to_numpy(), level) if sized else None,
    }
    if (result := study.metrics["trials"][name])["temperature"]:
        number = {fold: number for number, fold in enumerate(natural_sort({*predictions.folds}))}
        fold = np.array([number[of_row] for of_row in predictions.folds])
        scaled = scale(test.probabilities, np.array(result["fold_temperatures"])[fold, None])
        found["calibration"]["after_temperature"] = calibration(replace(test, probabilities=scaled), level)
        found["operating_points"] = operating_points(test, fold, result["operating_points"], level)
    if subjects:
        by_image = [key for key in test.metric_names if "auc" not in key]
        found["subjects"] = describe(subjects, level)
        _, unit, counts = np.unique(test.subjects, return_inverse=True, return_counts=True)
        found["subjects"]["weighted"] = summarize(replace(test, weights=1 / counts[unit]), level, by_image)
    return found


def _groups(study: Study, joint: HeldOut, images: pandas.DataFrame, sized: bool) -> dict[str, np.ndarray]:
    """Returns the name of the part that each image is in, by how the images are divided."""
    groups = {}
    if joint.folds is not None and folds_are_complete(joint.labels, joint.fold):
        groups["fold"] = np.array([f"fold {name.split()[1]}" for name in joint.folds])
    if sized:
        bounds = images["area"].quantile([0, 1 / 3, 2 / 3, 1]).to_numpy()
        names = np.array([f"{low:.3f} to {high:.3f}" for low, high in itertools.pairwise(bounds)])
        groups["cell size as a share of the image"] = names[np.searchsorted(bounds[1:3], images["area"])]
    if study.interval_unit == "subjects":
        _, unit, counts = np.unique(joint.subjects, return_inverse=True, return_counts=True)
        few = np.where(counts > np.median(counts), "more", "few")
        groups[f"images of the subject (few: at most {np.median(counts):g})"] = few[unit]
    for column in study.config["evaluation.subgroups"]:
        groups[column] = np.array(images[column].replace("", "not given"), str)
    return groups


def _subjects_table(study: Study, name: str, joint: HeldOut, subjects: HeldOut) -> pandas.DataFrame:
    """Returns one row per subject of a trial, predicted by the ensemble."""
    classes = np.array(study.classes)
    _, unit, counts = np.unique(joint.subjects, return_inverse=True, return_counts=True)
    right = np.bincount(unit, joint.probabilities[0].argmax(1) == joint.labels)
    table = {"trial": name, "subject": subjects.subjects, "label": classes[subjects.labels], "images": counts}
    table |= {"accuracy": right / counts, "predicted": classes[subjects.probabilities[0].argmax(1)]}
    table |= {f"log_odds_{label}": subjects.ranking[0, :, number] for number, label in enumerate(classes)}
    return pandas.DataFrame(table)
