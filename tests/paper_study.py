"""The folder of a study that redoes the paper, made without training anything."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from alljax import config as configs
from alljax.evaluation.baselines import SizeRule
from alljax.evaluation.intervals import bootstrap
from alljax.evaluation.metrics import evaluate
from alljax.study import results, sweep, workdir

BUDGETS = (10, 20, 30, 40, 50, 60, 80, 100)
CLASSES = ("hem", "all")
COLUMNS = (
    "repeat", "fold", "seed", "epoch", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
)  # fmt: skip


def make(
    folder: Path,
    networks: tuple[str, ...] = ("vgg16", "resnet50"),
    budgets: tuple[int, ...] = BUDGETS,
    seeds: int = 2,
    people: tuple[int, int] = (7, 9),
    shots: int = 10,
    subjects: bool = True,
    protocols: tuple[str, ...] = ("paper",),
    missing: tuple[str, ...] = (),
    dataset: str = "cnmc",
    resamples: int = 100,
    separate: bool = False,
) -> Path:
    """Writes what `alljax study` leaves behind: people who are hard for all models, curves that rise.

    Args:
        folder: where.
        networks: backbones, the first plays the paper's VGG16.
        budgets: epochs.
        seeds: of each cell.
        people: how many of each class.
        shots: images of a person, on average.
        subjects: whether who they are is known.
        protocols: one makes the study without a varied split.
        missing: names of cells that are not done.
        dataset: its name.
        resamples: of the bootstrap.
        separate: budgets are runs of their own.
    """
    vary: list = [
        ("model.backbone", networks),
        ("train.optimizer", ("adam", "rmsprop")),
        ("train.epochs", budgets),
    ]
    if len(protocols) > 1:
        vary.append(("split.protocol", protocols))
    config = configs.vary(
        configs.default_config(),
        {
            "data.source": "/data/C-NMC_Leukemia", "data.classes": CLASSES, "split.protocol": protocols[0],
            "study.sweep": tuple(vary), "study.seeds": seeds, "study.compare": "paper",
            "evaluation.resamples": resamples,
        },
    )  # fmt: skip
    generator = np.random.default_rng(1)
    owner = np.array([f"{'H' * (not side)}{who}" for side in (0, 1) for who in range(1, people[side] + 1)])
    owner = np.repeat(owner, 2 + generator.poisson(shots - 2, len(owner)))
    labels = np.array([not name.startswith("H") for name in owner], int)
    paths = np.array([f"UID_{name}_1_{row}_{CLASSES[label]}.bmp"
                      for row, (name, label) in enumerate(zip(owner, labels, strict=True))])  # fmt: skip
    units = owner if subjects else paths
    mood = {name: generator.normal() for name in units}
    hard = np.array([mood[name] for name in units]) + generator.normal(size=len(units))
    names = sorted(set(units))
    fold = np.array([names.index(name) % 5 for name in units])
    held_out = np.sort(generator.permutation(len(units))[: len(units) // 2])
    cells: dict[str, Any] = {}
    noise: dict[str, np.ndarray] = {}
    kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for cell in sweep.expand(config):
        settings = configs.flatten(cell.config)
        backbone, epochs = settings["model.backbone"], settings["train.epochs"]
        leaky = settings["split.protocol"] == "paper"
        tested, folds = (held_out, np.zeros_like(fold)) if leaky else (np.arange(len(units)), fold)
        key = f"{backbone}{settings['train.optimizer']}{settings['split.protocol']}"
        own = noise.setdefault(key, generator.normal(scale=0.4, size=(seeds, len(units))))
        skill = 0.9 - 0.25 * networks.index(backbone) + 0.2 * leaky + 0.05 * np.log(epochs)
        margin = hard + own + skill * (2 * labels - 1) + 0.5
        chance = 1 / (1 + np.exp(-margin[:, tested]))
        probabilities = np.stack([1 - chance, chance], -1)
        if cell.name in missing:
            continue
        here = folder / "trials" / cell.name
        write_predictions(here, probabilities, labels[tested], paths[tested], owner[tested], folds[tested], subjects)
        shift = generator.normal(scale=0.01) * separate
        write_history(here, key, epochs, seeds, 1 if leaky else 5, 0.2 * networks.index(backbone) + shift)
        kept[cell.name] = tested, probabilities
        each = [evaluate(labels[tested], one) for one in probabilities]
        bounds = bootstrap(labels[tested], probabilities, units[tested].tolist(), resamples=resamples)
        cells[cell.name] = results.over_seeds(each, range(seeds)) | {
            "intervals": {name: list(pair) for name, pair in bounds.items()},
            "interval_unit": "people" if subjects else "trials", "level": 0.95, "split": cell.split,
            "seconds": 60.0, "feature_seconds": 0.0, "weights": {"name": backbone, "sha256": "ab" * 32},
        }  # fmt: skip
    table = [[path, name if subjects else "", unit] for path, name, unit in zip(paths, owner, units, strict=True)]
    workdir.write_csv(folder / "split.csv", ["path", "subject", "person"], table)
    workdir.write_json(folder / "config.json", configs.flatten(config))
    workdir.write_json(folder / "environment.json", {"alljax": "0.1.0", "command": "alljax study"})
    by_class = {name: {"images": int((labels == label).sum()), "subjects": people[label]}
                for label, name in enumerate(CLASSES)}  # fmt: skip
    data = {"name": dataset, "source": "/data", "classes": list(CLASSES), "images": len(units), "notes": [],
            "subjects": sum(people), "people": sum(people), "by_class": by_class, "sha256": "ef" * 32}  # fmt: skip
    splits, sizes = {}, {}
    for cell in sweep.expand(config):
        if cell.split not in splits:
            leaky, folds = cell.config.split.protocol == "paper", 1 if cell.config.split.protocol == "paper" else 5
            rows = held_out if leaky else np.arange(len(units))
            how = {"name": cell.config.split.protocol, "folds": folds, "repeats": 1, "seed": 0, "leaky": leaky}
            rules, sizes[cell.split] = _rules(labels[rows], units[rows], generator, folds)
            count = [len(rows)] if leaky else np.bincount(fold, minlength=5).tolist()
            how |= {"test_cells": count, "training_cells": [len(units) - one for one in count]}
            splits[cell.split] = {
                "protocol": how | {"fingerprint": "cd" * 32}, "leaks": {"test_cells": len(rows)},
                "baselines": rules,
            }  # fmt: skip
        if cell.name in kept:
            tested, probabilities = kept[cell.name]
            own = fold[tested] if cell.config.split.protocol != "paper" else np.zeros(len(tested))
            rule = SizeRule(sizes[cell.split], sizes[cell.split], [0.2], [[0, 1]])
            cells[cell.name]["over_size"] = results.over_size(
                cells[cell.name], labels[tested], probabilities, rule, units[tested].tolist(), own, resamples=resamples
            )
    first = next(iter(splits.values()))
    workdir.write_json(folder / "metrics.json", first | {
        "trials": cells, "splits": splits, "dataset": data, "missing": list(missing),
    })  # fmt: skip
    return folder


def write_predictions(
    here: Path, probabilities: np.ndarray, labels: np.ndarray, paths: np.ndarray, owner: np.ndarray, fold: np.ndarray,
    subjects: bool,
) -> None:  # fmt: skip
    """Writes a cell's predictions.csv."""
    rows = [
        [paths[row], owner[row] if subjects else "", CLASSES[labels[row]], CLASSES[one[row].argmax()],
         *(f"{value:.9g}" for value in one[row]), "test", 0, fold[row], seed]
        for seed, one in enumerate(probabilities)
        for row in range(len(labels))
    ]  # fmt: skip
    header = ["path", "subject", "label", "predicted", "prob_hem", "prob_all", "split", "repeat", "fold", "seed"]
    workdir.write_csv(here / "predictions.csv", header, rows)


def write_history(here: Path, key: str, epochs: int, seeds: int, folds: int, worse: float) -> None:
    """Writes a cell's history.csv; with the same key a shorter one is the beginning of a longer one."""
    rows = []
    for fold in range(folds):
        for seed in range(seeds):
            generator = np.random.default_rng([fold, seed, *key.encode()])
            for epoch in range(1, epochs + 1):
                gain, (wobble, other) = 1 - np.exp(-epoch / 30), generator.normal(scale=0.006, size=2)
                values = (0.6 - 0.4 * gain + worse, 0.75 + 0.2 * gain - worse / 2 + wobble,
                          0.62 - 0.25 * gain + worse, 0.74 + 0.13 * gain - worse / 3 + other)  # fmt: skip
                rows.append([0, fold, seed, epoch, 1e-4, *(f"{value:.9g}" for value in values)])
    workdir.write_csv(here / "history.csv", COLUMNS, rows)


def change(folder: Path, **entries: Any) -> None:
    """Changes entries of metrics.json."""
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def _rules(labels: np.ndarray, units: np.ndarray, generator: np.random.Generator, folds: int) -> tuple[Any, np.ndarray]:
    shares = np.tile(np.bincount(labels) / len(labels), (len(labels), 1))
    size = np.eye(2)[np.where(generator.random(len(labels)) < 0.2, 1 - labels, labels)] * 0.6 + 0.4 * shares
    rules = {}
    for name, values, scores in (("majority", shares, np.zeros_like(shares)), ("size_threshold", size, size)):
        bounds = bootstrap(labels, values[None], units.tolist(), scores=scores[None], resamples=100)
        rules[name] = evaluate(labels, values, scores) | {
            "intervals": {key: list(pair) for key, pair in bounds.items()}
        }
    rules["size_threshold"] |= {"thresholds": [0.2] * folds, "sides": [[0, 1]] * folds}
    return rules, size
