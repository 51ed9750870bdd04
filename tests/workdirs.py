"""Folders as a study leaves them, made without training anything."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alljax import config
from alljax.evaluation.baselines import SizeRule
from alljax.evaluation.intervals import bootstrap
from alljax.evaluation.metrics import evaluate, most_wrong
from alljax.report import plots
from alljax.study import results, sweep

NASTY = "H9<script>alert(1)</script>&"
TWO = ("vgg16-adam", "resnet50-adam")
EVERY_CELL = ("vgg16-adam", "vgg16-rmsprop", "resnet50-adam", "resnet50-rmsprop")


def write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def make_workdir(
    folder: Path,
    classes: tuple[str, ...] = ("hem", "all"),
    people: tuple[int, ...] = (12, 20),
    names: tuple[str, ...] = EVERY_CELL,
    seeds: int = 2,
    folds: int = 5,
    epochs: int = 20,
    subjects: bool = True,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    skill: float = 1.2,
    protocol: str = "subject_kfold",
    dataset: str = "cnmc",
    settings: dict[str, Any] | None = None,
    step: float = 0.12,
    sheets: int = 1000,
) -> Path:
    """Writes what a study leaves behind: people with good and bad days, models that differ a little.

    Args:
        settings: of config.json besides; with a ``study.sweep`` the cells are its product.
        step: how much less each model sees than the one before.
        sheets: how many models have a sheet of wrong cells.
    """
    if settings and settings.get("study.sweep"):
        names = tuple(cell.name for cell in sweep.expand(config.unflatten(settings)))
    generator = np.random.default_rng(0)
    cells = [
        (label, f"{'H' * (label == 0)}{number}", shot)
        for label, count in enumerate(people)
        for number in range(1, count + 1)
        for shot in range(4 + generator.poisson(12))
    ]
    labels = np.array([label for label, _, _ in cells])
    owners = [NASTY if subject == "H9" else subject for _, subject, _ in cells]
    paths = [f"fold_0/{classes[label]}/UID_{subject}_1_{shot}_{classes[label]}.bmp" for label, subject, shot in cells]
    persons = owners if subjects else paths
    fold_of = {person: index % folds for index, person in enumerate(dict.fromkeys(persons))}
    fold = [fold_of[person] for person in persons]
    rows = [
        [path, owner if subjects else "", person, classes[label], "test" if own == held else "train", 0, held]
        for held in range(folds)
        for path, owner, person, label, own in zip(paths, owners, persons, labels, fold, strict=True)
    ]
    write_csv(folder / "split.csv", ["path", "subject", "person", "label", "split", "repeat", "fold"], rows)
    mood = {person: generator.normal(size=len(classes)) for person in dict.fromkeys(owners)}
    hard = np.stack([mood[owner] for owner in owners]) + generator.normal(size=(len(cells), len(classes)))
    units = persons
    results_of: dict[str, Any] = {}
    tested: dict[str, np.ndarray] = {}
    for place, name in enumerate(names):
        logits = hard + generator.normal(scale=0.5, size=(seeds, *hard.shape))
        logits[:, np.arange(len(cells)), labels] += skill * (2 - step * place)
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        results_of[name] = write_cell(folder, name, classes, probabilities, cells, paths, owners if subjects else None,
                                   fold, epochs, generator, place < sheets)  # fmt: skip
        results_of[name]["intervals"] = {
            key: list(bounds)
            for key, bounds in bootstrap(
                labels, probabilities, units, resamples=resamples, level=level, seed=seed
            ).items()
        }
        results_of[name] |= {"interval_unit": "people" if subjects else "trials", "level": level}
        results_of[name] |= {"seconds": 60.0 * (place + 1), "feature_seconds": 6000.0 if place == 0 else 0.0}
        tested[name] = probabilities
        results_of[name]["weights"] = {"name": name.partition("-")[0], "sha256": "ab" * 32, "path": "w.pth"}
    shares = np.tile(np.bincount(labels) / len(labels), (len(labels), 1))
    size = np.eye(len(classes))[np.where(generator.random(len(labels)) < 0.3, (labels + 1) % len(classes), labels)]
    size = 0.6 * size + 0.4 * shares
    for name, result in results_of.items():
        rule = SizeRule(size, size, [0.2] * folds, [[0, 1]] * folds)
        result["over_size"] = results.over_size(
            result, labels, tested[name], rule, units, np.array(fold), resamples=resamples, level=level, seed=seed
        )
        (folder / "trials" / name / "metrics.json").write_text(json.dumps(result))
    rules = {
        "majority": evaluate(labels, shares, np.zeros_like(shares)),
        "size_threshold": evaluate(labels, size) | {"thresholds": [0.2] * folds, "sides": [[0, 1]] * folds},
    }
    for name, values in (("majority", shares), ("size_threshold", size)):
        bounds = bootstrap(labels, values[None], units, resamples=resamples)
        rules[name]["intervals"] = {key: list(pair) for key, pair in bounds.items()}
    by_class = {
        name: {"images": int((labels == label).sum()), "subjects": people[label] if subjects else 0}
        for label, name in enumerate(classes)
    }
    summary = {
        "trials": results_of,
        "baselines": rules,
        "protocol": {
            "name": protocol, "folds": folds, "repeats": 1, "seed": 0, "fingerprint": "cd" * 32,
            "leaky": protocol == "paper",
            "training_cells": [len(cells) - fold.count(one) if folds > 1 else 4 * len(cells) for one in range(folds)],
            "test_cells": [fold.count(one) for one in range(folds)],
        },
        "leaks": {"test_cells": len(cells), "person": len(cells) if protocol == "paper" else 0, "field": 0},
        "dataset": {
            "name": dataset, "source": "/data/C-NMC_Leukemia", "classes": list(classes), "images": len(cells),
            "subjects": sum(people) if subjects else 0, "people": sum(people) if subjects else 0,
            "by_class": by_class, "notes": ["2 files passed over: Thumbs.db"], "sha256": "ef" * 32,
        },
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(summary))
    (folder / "config.json").write_text(
        json.dumps(
            {
                "seed": seed,
                "evaluation.resamples": resamples,
                "evaluation.level": level,
                "data.source": "/data/C-NMC_Leukemia",
                "train.epochs": epochs,
                "study.sweep": [],
                "split.test_fraction": 0.2,
                "weights.name": "",
            }
            | (settings or {})
        )
    )
    (folder / "environment.json").write_text(
        json.dumps(
            {
                "alljax": "0.1.0",
                "command": "alljax study --config=configs/quickstart.py:cnmc --workdir=D",
                "devices": ["cpu cpu"],
                "packages": {"jax": "0.10.2"},
            }
        )
    )
    return folder


def write_cell(
    folder: Path, name: str, classes: tuple[str, ...], probabilities: np.ndarray, cells: list, paths: list[str],
    owners: list[str] | None, fold: list[int], epochs: int, generator: np.random.Generator,
    sheet: bool = True,
) -> dict:  # fmt: skip
    labels = np.array([label for label, _, _ in cells])
    here = folder / "trials" / name
    rows, history = [], []
    for seed, one in enumerate(probabilities):
        for row in np.lexsort((np.arange(len(fold)), fold)):
            called = classes[one[row].argmax()]
            shown = [f"{value:.9g}" for value in one[row]]
            owner = owners[row] if owners else ""
            rows.append([paths[row], owner, classes[labels[row]], called, *shown, "test", 0, fold[row], seed])
        for held in range(max(fold) + 1):
            shift = generator.normal(scale=0.02)
            for epoch in range(1, epochs + 1):
                gain = 1 - np.exp(-epoch / (epochs / 5))
                values = [1e-4 * 0.95**epoch, 0.65 - 0.5 * gain, 0.6 + 0.36 * gain, 0.66 - 0.25 * gain + 0.004 * epoch]
                held_out = 0.6 + 0.22 * gain + shift + generator.normal(scale=0.01)
                history.append([0, held, seed, epoch, *(f"{value:.9g}" for value in (*values, held_out))])
    header = ["path", "subject", "label", "predicted", *(f"prob_{name}" for name in classes)]
    write_csv(here / "predictions.csv", [*header, "split", "repeat", "fold", "seed"], rows)
    write_csv(
        here / "history.csv",
        [
            "repeat",
            "fold",
            "seed",
            "epoch",
            "learning_rate",
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
        ],
        history,
    )
    images, captions = [], []
    for row in most_wrong(labels, probabilities, 24) if sheet else ():
        radius = np.hypot(*np.mgrid[-1:1:450j, -1:1:450j]) + 0.05 * generator.normal(size=(450, 450))
        images.append(Image.fromarray((radius < 0.55)[..., None] * np.array([120, 70, 150], np.uint8)))
        called = probabilities.mean(0)[row]
        captions.append(
            f"{classes[labels[row]]}, called {classes[called.argmax()]} {called.max():.0%}\nsubject {cells[row][1]}"
        )
    (folder / "figures").mkdir(exist_ok=True)
    if sheet:
        (folder / "figures" / f"wrong-{name}.png").write_bytes(plots.contact_sheet(images, captions))
    each = [evaluate(labels, one) for one in probabilities]
    return results.over_seeds(each, range(len(each)))
