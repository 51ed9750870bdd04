"""Predictions of finished studies for new images, as a table or written as a CSV while they are computed."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from absl import logging
from ml_collections import ConfigDict

from alljax import files, progress
from alljax.data import inspection
from alljax.data.dataset import Dataset
from alljax.data.readers import as_dataset
from alljax.errors import WorkdirError, plural
from alljax.evaluation import feature_space
from alljax.evaluation.calibration import scale
from alljax.evaluation.combination import by_subject
from alljax.evaluation.intervals import HeldOut
from alljax.study import sweep, workdir
from alljax.study.ensemble import Ensemble
from alljax.study.experiment import open_images
from alljax.study.exports import with_weight_file
from alljax.training.feature_extraction import FeatureExtractor, open_sources
from alljax.training.network import open_networks

CHUNK = 128  # images that are inspected, predicted and written together
TRAINED, UNREADABLE = "trained on this image", "unreadable: "  # how warnings start that are counted


def predict(models: Sequence[Ensemble], images: Any) -> pandas.DataFrame:
    """Returns a row per image, see `as_dataset`, with the columns of docs/reference/output-files.md."""
    source = open_source(models, images)
    with progress.bar("predict", len(source.records) * len(models), "images") as update:
        return pandas.concat(_chunks(models, source, update), ignore_index=True)


def write_predictions(models: Sequence[Ensemble], images: Any, out: Path) -> tuple[list[str], int]:
    """Writes `predict` as a CSV, and one of subjects; returns lines about them and the number of unreadable images.

    An interrupted call leaves a hidden file beside `out`, from which the same call continues.
    """
    for model in models:
        logging.info(f"{model.study.folder}: trial {model.trial}")
    source = open_source(models, images)
    part, done = _unfinished(out, models, source)
    total = (len(source.records) - done) * len(models)
    with progress.bar("predict", total, "images") as update, files.write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for rows in _chunks(models, source, update, done):
            text = workdir.to_csv(rows)
            with part.open("a", encoding="utf-8", newline="") as file:
                file.write(text.partition("\n")[2] if done else text)
            done += len(rows)
        part.replace(out)
    return _summarize(out, source.classes)


def classify(model: Ensemble, images: Any) -> np.ndarray:
    """Returns calibrated probabilities, float32 (N, C), of images; without calibration where the trial has none."""
    source, parts = open_source([model], images), []
    shown = len(source.records) if len(source.records) > CHUNK else 0
    with progress.bar("predict", shown, "images") as update:
        for probabilities, _ in model.predict(source):
            parts.append(_calibrate(model, probabilities).mean(0))
            update(len(parts[-1]))
    return np.concatenate(parts).astype(np.float32)


def open_source(models: Sequence[Ensemble], images: Any) -> Dataset:
    """Returns images, see `as_dataset`, with the classes of the studies, which must be the same."""
    first, data = models[0].study, models[0].config.data
    for study in (model.study for model in models):
        if study.classes != first.classes:
            listed = f"{study.folder} has {', '.join(study.classes)}, {first.folder} has {', '.join(first.classes)}"
            raise WorkdirError(f"studies of different classes cannot predict together: {listed}")
    source = replace(as_dataset(images, data.synthetic, data.name_pattern), classes=tuple(first.classes))
    for note in () if isinstance(images, Dataset) else source.notes:  # its notes are known
        logging.info(note)
    return source


def _unfinished(out: Path, models: Sequence[Ensemble], source: Dataset) -> tuple[Path, int]:
    """Returns the file of unfinished predictions, without part of a row, and its number of images."""
    key = [record.path for record in source.records]
    for model in models:
        trial = workdir.trial_folder(model.study.folder, model.trial)  # with the hashes of its parameters
        key.append(files.sha256(trial / workdir.CHECKSUMS))
    name = f".{out.name}.{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.part"
    if others := [path for path in out.parent.glob(f".{out.name}.*.part") if path.name != name]:
        ways = "repeat the command that it is from, remove it, or choose another --out"
        raise WorkdirError(f"{others[0]} has unfinished predictions of another model or of other images; {ways}")
    part = out.with_name(name)
    *complete, _ = part.read_bytes().split(b"\n") if part.is_file() else [b""]
    if len(complete) < 2:  # no row below the header
        part.unlink(missing_ok=True)
        return part, 0
    files.write_bytes(part, b"\n".join([*complete, b""]))
    logging.info(f"{plural(len(complete) - 1, 'image')} were predicted before")
    return part, len(complete) - 1


def _chunks(
    models: Sequence[Ensemble], source: Dataset, update: progress.Update, start: int = 0
) -> Iterator[pandas.DataFrame]:
    """Yields the rows for `CHUNK` images at a time, from number `start`."""
    trained = {pixels for model in models for pixels in model.study.training_images["pixels"]}
    classes, number = np.array(source.classes), len(source.classes)
    names = [f"{kind}_{name}" for kind in ("prob", "calibrated") for name in classes]
    for place in range(start, len(source.records), CHUNK):
        chunk = replace(source, records=source.records[place : place + CHUNK])
        found, errors = inspection.map_images(chunk, inspection.properties, "")
        update(len(errors) * len(models))
        warnings = {path: f"{UNREADABLE}{' '.join(reason.split())}" for path, reason in errors.items()}
        warnings |= {path: "; ".join(_warnings(models, trained, of_image)) for path, of_image in found.items()}
        readable = np.array([record.path in found for record in chunk.records])
        values = np.full((len(readable), 2 * number + 2), np.nan)
        if found:
            opened = replace(chunk, records=tuple(record for record in chunk.records if record.path in found))
            values[readable] = np.mean([_scores(model, opened, update) for model in models], axis=0)
        table = pandas.DataFrame({"path": [record.path for record in chunk.records]})
        table["subject"] = [record.subject for record in chunk.records]
        table["predicted"] = np.where(readable, classes[values[:, :number].argmax(1)], "")
        table[[*names, "distance", "distance_quantile"]] = values
        for point in models[0].result["operating_points"] if len(models) == 1 else ():
            decided = classes[(values[:, 1] >= point["threshold"]).astype(int)]
            table[f"{point['target']}_{point['value']:g}"] = np.where(readable, decided, "")
        table["warnings"] = table["path"].map(warnings)
        yield table


def _scores(model: Ensemble, dataset: Dataset, update: progress.Update) -> np.ndarray:
    """Returns probabilities, calibrated ones, distance and its quantile, (n, C + C + 2); NaN where unknown."""
    parts, known = [], bool(model.result["temperature"])
    for probabilities, features in model.predict(dataset):
        calibrated = _calibrate(model, probabilities) if known else np.full_like(probabilities, np.nan)
        distances = np.full((len(features), 2), np.nan)
        if model.frozen:
            distances = np.stack(feature_space.distances(model.training_features, features), axis=1)
        parts.append(np.hstack([probabilities.mean(0), calibrated.mean(0), distances]))
        update(len(features))
    return np.concatenate(parts)


def _calibrate(model: Ensemble, probabilities: np.ndarray) -> np.ndarray:
    """Returns calibrated probabilities (H, n, C); the same ones if the trial has no temperature."""
    temperature = model.result["temperature"]
    return np.asarray(scale(probabilities, temperature) if temperature else probabilities)


def _warnings(models: Sequence[Ensemble], trained: set[str], found: dict[str, Any]) -> list[str]:
    """Returns what is unusual in an image with these `inspection.properties`."""
    lines, size = [TRAINED] if found["pixels"] in trained else [], (found["width"], found["height"])
    others = {tuple(model.study.metrics["dataset"]["image_size"]) for model in models} - {size}
    text = "{} × {} pixels, in the study {} × {}: crop it if the scale is the same"
    lines += [text.format(*size, *other) for other in sorted(others)]
    if problem := inspection.pixel_problem(found["range"], found["mode"]):
        lines.append(inspection.PIXEL_PROBLEMS[problem])
    return lines


def _summarize(out: Path, classes: Sequence[str]) -> tuple[list[str], int]:
    """Writes the CSV of subjects; returns lines about both, and the number of images that cannot be read."""
    texts, numbers = dict.fromkeys(("subject", "warnings"), str), [f"prob_{name}" for name in classes]
    empty = {name: [""] for name in numbers}
    table = pandas.read_csv(out, usecols=[*texts, *numbers], dtype=texts, keep_default_na=False, na_values=empty)
    unreadable, trained = (int(table["warnings"].str.startswith(text).sum()) for text in (UNREADABLE, TRAINED))
    remarks = {f"{plural(unreadable, 'image')} cannot be read (column warnings)": unreadable}
    remarks[f"{plural(trained, 'image')} were trained on: their predictions are no test"] = trained
    lines = [f"{out}: {plural(len(table), 'image')}", *(remark for remark, count in remarks.items() if count)]
    known = table[(table["subject"] != "") & table[numbers].notna().all(axis=1)]
    if len(known):
        names, counts = np.unique(known["subject"].to_numpy(str), return_counts=True)
        unlabeled = np.zeros(len(known), int)
        test = by_subject(HeldOut(unlabeled, known[numbers].to_numpy()[None], known["subject"].to_numpy(str)))
        subjects = pandas.DataFrame({"subject": names, "images": counts})
        subjects["predicted"] = np.array(classes)[test.probabilities[0].argmax(1)]
        subjects[[f"mean_log_odds_{name}" for name in classes]] = test.ranking[0]
        path = out.with_name(f"{out.stem}-subjects.csv")
        files.write_text(path, subjects.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
        lines.append(f"{path}: {plural(len(subjects), 'subject')}")
    return lines, unreadable


def write_features(config: ConfigDict, out: Path) -> tuple[Dataset, int]:
    """Writes ``features`` float32 (N, D), ``paths``, ``labels`` and ``subjects`` (N,) to an .npz; returns images, D."""
    networks = open_networks([with_weight_file(config)] if sweep.has_backbone(config) else [])
    dataset, inspected = open_images(config)
    sources = open_sources(config, networks[0] if networks else None)
    features = FeatureExtractor(config, dataset, inspected.digests).load(*sources)
    paths, subjects = ([getattr(record, name) for record in dataset.records] for name in ("path", "subject"))
    with files.atomic_write(out) as file:
        np.savez(file, features=features, paths=paths, labels=dataset.labels, subjects=subjects)
    return dataset, features.shape[1]
