"""Tests a finished trial on the images of another labeled source, and on changed images of its own."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from alljax import progress
from alljax.data.dataset import Dataset, merge_subjects
from alljax.data.inspection import inspect
from alljax.data.perturbation import PERTURBATIONS, perturb
from alljax.data.readers import open_mapped
from alljax.errors import DataError, plural
from alljax.evaluation.calibration import calibration, operating_points, scale
from alljax.evaluation.combination import by_subject, ensemble
from alljax.evaluation.intervals import HeldOut, Jackknife, summarize
from alljax.evaluation.metrics import METRICS
from alljax.study import results, workdir
from alljax.study.ensemble import open_ensemble
from alljax.study.results import Study

ROBUST = ("auc", "accuracy", "macro_recall")  # metrics whose change is measured


def evaluate_source(folder: Path, trial: str, weights: str, source: str, classes: str) -> Path:
    """Writes predictions.csv and metrics.json of a trial on another source to ``external/NAME/``, which is returned."""
    opened = open_ensemble(folder, trial, weights)
    study, name, level = opened.study, opened.trial, opened.study.level
    dataset, subjects, about = _open_source(study, source, classes, opened.config.data.on_error)
    networks = [one.network for one in (opened, *opened.combined) if one.network]
    seen = [one.weights.source.seen(dataset.name, Path(source).name) for one in networks if one.weights.source]
    about["notes"] += filter(None, dict.fromkeys(seen))
    labels = dataset.labels
    heads = np.concatenate([block.probabilities for block in opened.predict(dataset)], axis=1)
    test, predictions = HeldOut(labels, heads, subjects), study.predictions(name)
    joint = replace(test, probabilities=heads.mean(0, keepdims=True))
    within = ensemble(predictions.held_out, predictions.paths)
    pairs = {"heads": (test, predictions.held_out), "ensemble": (joint, within)}
    if study.interval_unit == "subjects" and about["subject_names"]:
        pairs["subjects"] = by_subject(joint), by_subject(within)
    present = np.unique(labels)
    known = [*METRICS] if len(present) == len(study.classes) else ["accuracy", "brier", "log_loss"]
    known += study.config["evaluation.metrics"] if len(present) == len(study.classes) else ()
    known += [f"recall_{label}" for label in present]
    about["subjects_by_class"] = Jackknife.of(joint).subjects
    found = about | {"trial": name, "calibration": calibration(joint, level)}
    if temperature := opened.result["temperature"]:
        scaled = replace(test, probabilities=scale(heads, temperature).mean(0, keepdims=True))
        found["calibration"]["after_temperature"] = calibration(scaled, level)
    points = [point | {"thresholds": [point["threshold"]]} for point in opened.result["operating_points"]]
    found["operating_points"] = operating_points(joint, np.zeros(len(labels), int), points, level)
    for kind, (new, old) in pairs.items():
        found[kind] = summarize(new, level, known)
        found[kind]["change"] = _changes(found[kind], summarize(old, level, known))
    names, mean = np.array(study.classes), joint.probabilities[0]
    columns = {"path": [record.path for record in dataset.records], "subject": subjects, "label": names[labels]}
    columns |= {"predicted": names[mean.argmax(1)]} | {f"prob_{of}": mean[:, label] for label, of in enumerate(names)}
    out = folder / "external" / re.sub(r"[^\w.-]", "-", Path(source).stem)
    workdir.write_csv(out / "predictions.csv", pandas.DataFrame(columns))
    workdir.write_json(out / "metrics.json", found)
    return out


def _open_source(study: Study, source: str, classes: str, on_error: str) -> tuple[Dataset, np.ndarray, dict[str, Any]]:
    """Returns the labeled images that are not of the study, their subjects, and what was found."""
    dataset = open_mapped(source, study.classes, classes)
    dataset, inspection = inspect(dataset, on_error)
    subjects = np.array(merge_subjects(dataset, inspection.pixels))
    new = ~np.isin(inspection.pixels, study.images["pixels"])
    used = tuple(record for record, chosen in zip(dataset.records, new, strict=True) if chosen)
    if not used:
        raise DataError(f"{source}: all {plural(len(new), 'image')} are images of the study; give other images")
    names = {record.subject for record in used} - {""}
    about = {
        "source": Path(source).name,
        "images": np.bincount([record.label for record in used], minlength=len(study.classes)).tolist(),
        "subject_names": len(names),
        "same_subject_names": sorted(names & {*study.images["subject_name"]}),
        "left_out": [record.path for record, chosen in zip(dataset.records, new, strict=True) if not chosen],
        "notes": list(dataset.notes),
    }
    return replace(dataset, records=used), subjects[new], about


def _changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the differences of metrics of independent subjects, and their ``intervals``.

    Source: G. Zou and A. Donner, Construction of confidence limits about effect measures, 2008.
    """
    both = [name for name in old if name != "intervals" and None not in (new[name], old[name])]
    changes: dict[str, Any] = {name: new[name] - old[name] for name in both} | {"intervals": {}}
    for name in new["intervals"].keys() & old["intervals"].keys():
        ends = np.array([new["intervals"][name], old["intervals"][name]])
        (low, high), (lowest, highest) = ends - [[new[name]], [old[name]]]
        bounds = -np.hypot(low, highest), np.hypot(high, lowest)
        changes["intervals"][name] = [changes[name] + float(bound) for bound in bounds]
    return changes


def measure_robustness(folder: Path, trial: str, weights: str, count: int) -> None:
    """Writes ``trials/NAME/robustness.json`` of a trial: metrics on perturbed images, and differences to unperturbed.

    Each image is classified by the heads that were not trained on it. At most `count` images are used: one of each
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
        probabilities = np.concatenate([block.probabilities for block in ensemble.predict(changed)], axis=1)
        update(len(position))
        return HeldOut(predictions.labels[chosen], probabilities[heads, images], predictions.subjects[chosen], folds)

    conditions = [(name, *pair) for name, (_, strengths) in PERTURBATIONS.items() for pair in enumerate(strengths, 1)]
    with progress.bar("robustness", (1 + len(conditions)) * len(position), "images") as update:
        unperturbed = classify(dataset)
        before = summarize(unperturbed, level, ROBUST)
        rows = [{"perturbation": "unperturbed", "severity": 0, "images": len(position), "metrics": before}]
        for name, severity, strength in conditions:
            test = classify(perturb(dataset, name, strength, seed))
            after, paired = summarize(test, level, ROBUST), summarize(test, level, ROBUST, unperturbed)
            differences = {key: value for key, value in paired.items() if value is not None}
            row = {"perturbation": name, "severity": severity, "strength": strength, "unit": PERTURBATIONS[name][0]}
            rows.append(row | {"metrics": after, "differences": differences})
    workdir.write_json(workdir.trial_folder(folder, ensemble.trial) / workdir.ROBUSTNESS, rows)
