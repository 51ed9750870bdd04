"""A study from its config to its folder: open, split, features, heads, metrics, report."""

import dataclasses
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alljax import config as knobs
from alljax import progress
from alljax.data import pipeline, splits
from alljax.data.records import Dataset
from alljax.data.source import open_source
from alljax.evaluation import baselines, intervals, metrics
from alljax.files import write_bytes
from alljax.study import figures, report, workdir
from alljax.study.grid import Cell, cells
from alljax.training import checkpoint, features, frozen
from alljax.training.network import Network, open_networks

Say = Callable[[str], None]
"""Prints a line for the person who waits."""


@dataclasses.dataclass(frozen=True)
class Material:
    """What every cell of a study shares.

    Attributes:
        dataset: records, classes and the way to the images.
        inspection: digests and areas of the images, one a record.
        people: the person of each record.
        splits: rows learned from and tested, one a repeat and fold.
        labels: int32 (N,).
    """

    dataset: Dataset
    inspection: pipeline.Inspection
    people: tuple[str, ...]
    splits: tuple[splits.Split, ...]
    labels: np.ndarray


def run_study(config: ConfigDict, folder: Path, say: Say) -> dict[str, Any]:
    """Trains and evaluates every cell of the study and leaves its folder complete.

    Cells whose result is on disk already are not run again.

    Args:
        config: checked by `alljax.config.load`.
        folder: the working directory; see ../design for what it holds afterwards.
        say: prints a line.

    Returns:
        What is in ``metrics.json``.

    Raises:
        UserError: the source, the weights or the folder cannot be used; nothing is half-written.
    """
    grid = cells(config)
    material = open_material(config, say)
    networks = {cell.name: open_network(cell.config) for cell in grid}
    config = knobs.vary(config, {"data.classes": material.dataset.classes})
    inputs = {"images": _fingerprint(material), "split": splits.fingerprint(material.splits, material.dataset.records)}
    inputs |= {f"weights of {name}": network.sha256 for name, network in networks.items()}
    workdir.claim(folder, knobs.flatten(config), inputs)
    rows = splits.rows(material.splits, material.dataset.records, material.people, material.dataset.classes)
    workdir.write_csv(folder / "split.csv", splits.HEADER, rows)

    results = {}
    for cell in grid:
        if (folder / "cells" / cell.name / "metrics.json").is_file():
            say(f"{cell.name}: done before; remove {folder / 'cells' / cell.name} to run it again")
        else:
            run_cell(cell, networks[cell.name], material, folder, say)
        results[cell.name] = workdir.read_json(folder / "cells" / cell.name / "metrics.json")
    summary = {
        "cells": results,
        "baselines": _baselines(config, material),
        "protocol": _protocol(config, inputs["split"]),
        "leaks": splits.leaks(material.splits, material.dataset.records, material.people),
        "dataset": _describe(config, material, inputs["images"]),
    }
    workdir.write_json(folder / "metrics.json", summary)
    report.write_report(folder)
    return summary


def open_material(config: ConfigDict, say: Say) -> Material:
    """Opens the source, looks at every image once, and draws the splits.

    Raises:
        DataError: see `open_source`, `pipeline.inspect` and `splits.make_splits`.
    """
    dataset = open_source(config)
    for note in dataset.notes:
        say(note)
    with progress.bar("look at the images", len(dataset.records), "images") as advance:
        inspection = pipeline.inspect(dataset, advance)
    if converted := {mode: count for mode, count in inspection.modes.items() if mode != "RGB"}:
        shown = ", ".join(f"{count} of mode {mode}" for mode, count in sorted(converted.items()))
        say(f"converted to RGB: {shown}")
    people = splits.people(dataset.records, inspection.digests, dataset.known_people)
    drawn = splits.make_splits(
        config.split.protocol,
        dataset.records,
        people,
        classes=dataset.classes,
        folds=config.split.folds,
        repeats=config.split.repeats,
        seed=config.seed,
        test_fraction=config.split.test_fraction,
    )
    labels = np.array([record.label for record in dataset.records], np.int32)
    return Material(dataset, inspection, people, drawn, labels)


def cell_features(network: Network, dataset: Dataset, digests: tuple[str, ...], batch_size: int, say: Say) -> np.ndarray:
    """Returns float32 (N, D), from the cache where the same ones were computed before."""
    key = features.features_key(network.view, network.sha256, digests)
    stored = features.load_features(key, len(dataset.records))
    if stored is not None:
        say(f"features {network.view.backbone.name}: {len(stored):,} × {stored.shape[1]:,} from the cache")
        return stored
    with progress.bar(f"features {network.view.backbone.name}", len(dataset.records), "images") as advance:
        computed = features.compute_features(network.view, network.variables(), dataset, batch_size, advance)
    features.store_features(key, computed)
    return computed


def run_cell(cell: Cell, network: Network, material: Material, folder: Path, say: Say) -> None:
    """Trains a cell's heads, all seeds of all folds, and writes its results; metrics.json comes last."""
    start = time.perf_counter()
    config, dataset = cell.config, material.dataset
    matrix = cell_features(network, dataset, material.inspection.digests, config.features.batch_size, say)
    runs = train_heads(cell, matrix, material)
    seconds = time.perf_counter() - start

    seeds = [config.seed + number for number in range(config.study.seeds)]
    tested = np.concatenate([split.test for split in material.splits])
    probabilities = np.concatenate(
        [run.probabilities[:, : len(split.test)] for run, split in zip(runs, material.splits, strict=True)], axis=1
    )
    here = folder / "cells" / cell.name
    workdir.write_csv(here / "history.csv", HISTORY, _history(config, runs, material.splits, seeds))
    workdir.write_csv(
        here / "predictions.csv",
        ["path", "subject", "label", "predicted", *(f"prob_{name}" for name in dataset.classes), *PLACE],
        _predictions(runs, material, seeds),
    )
    checkpoint.save(here / "checkpoint", {"heads": [run.params for run in runs]})
    labels = material.labels[tested]
    result = _summary(config, labels, probabilities, material, tested, seeds)
    result |= {"seconds": round(seconds, 3), "weights": network.describe()}
    write_bytes(folder / "figures" / f"wrong-{cell.name}.png", _wrong_sheet(material, tested, probabilities.mean(0)))
    workdir.write_json(here / "metrics.json", result)


def train_heads(cell: Cell, matrix: np.ndarray, material: Material) -> list[frozen.HeadRuns]:
    """Returns one `HeadRuns` a split, its arrays on the host, seeds along the first axis."""
    config, classes = cell.config, len(material.dataset.classes)
    folds = frozen.make_folds(config, matrix, material.labels, classes, material.splits)
    rows, labels = jnp.asarray(matrix), jnp.asarray(material.labels)
    with progress.bar(f"heads {cell.name}", config.train.epochs * len(folds), "epochs") as advance:
        train = frozen.make_train(config, classes, on_epoch=lambda: advance(1))
        runs = []
        for split, fold in zip(material.splits, folds, strict=True):
            keys = jnp.stack([_key(config.seed + number, split) for number in range(config.study.seeds)])
            runs.append(jax.device_get(train(keys, rows, labels, fold)))
        jax.effects_barrier()  # the last epochs' progress arrives
    return runs


def _key(seed: int, split: splits.Split) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), split.repeat), split.fold)
