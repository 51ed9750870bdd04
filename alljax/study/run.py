"""A study from its config to its folder: images, splits, features, heads, metrics, report."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import files, progress
from alljax.data.pipeline import Source
from alljax.data.splits import COLUMNS, Split, rows
from alljax.data.tree import counted, some
from alljax.errors import ConfigError, WorkdirError
from alljax.evaluation import baselines
from alljax.progress import Say
from alljax.study import finetuned, report, results, workdir
from alljax.study.grid import Cell, cells
from alljax.study.material import Material, open_images, open_material
from alljax.study.sources import Sources, images_of
from alljax.training import checkpoint, features, frozen, processes
from alljax.training.network import Network, open_network, open_networks


def run_study(
    config: ConfigDict, folder: Path, say: Say, shard: tuple[int, int] = (0, 1), force: bool = False
) -> dict[str, Any] | None:
    """Trains and evaluates every cell of the study and leaves its folder complete.

    A cell whose result is on disk already is not run again.

    Args:
        config: from `alljax.config.load`.
        folder: the working directory.
        say: prints a line.
        shard: i and n: only cells i, i + n, … are run; the shard that finds all cells done joins them.
        force: runs under way go on even if they began with another config.

    Returns:
        What metrics.json holds; None where cells of other shards are missing, and in all processes but the first.

    Raises:
        UserError: the source, the weights or the folder cannot be used.  All of it is looked at
            before the first file is written.
    """
    grid = cells(config)
    workdir.check(folder, configs.flatten(config), force)
    networks = open_networks(cell.config for cell in grid)
    for cell, network in zip(grid, networks, strict=True):
        finetuned.check(cell.config, network)
    material = open_material(config, say)
    sources = Sources(config, material.dataset, networks, say)
    with workdir.alone(folder, shard) if processes.first() else contextlib.nullcontext():
        of_cells = {cell.name: network for cell, network in zip(grid, networks, strict=True)}
        if processes.first():
            _claim(config, folder, material, of_cells, force)
        results_of = {cell.name: folder / "cells" / cell.name / "metrics.json" for cell in grid}
        for cell, network in list(zip(grid, networks, strict=True))[shard[0] :: shard[1]]:
            if not processes.agree(results_of[cell.name].is_file()):
                run_cell(cell, network, material, sources, folder, say)
            elif processes.first():
                say(f"{cell.name}: done before (remove {results_of[cell.name].parent} to run it again)")
                finetuned.clear(results_of[cell.name].parent)
        if not processes.first():
            return None
        if missing := [name for name, result in results_of.items() if not result.is_file()]:
            say(f"{counted(len(missing), 'model')} of other shards missing: {some(missing)}")
            return None
        done = {name: workdir.read_json(result) for name, result in results_of.items()}
        summary = {"cells": done, "baselines": _baselines(config, material)} | material.describe(config)
        workdir.write_json(folder / "metrics.json", summary)
        report.write_report(folder)
    return summary


def run_cell(cell: Cell, network: Network, material: Material, sources: Sources, folder: Path, say: Say) -> None:
    """Trains a cell's heads, all seeds of all folds, and writes ``cells/NAME/``."""
    here, config, start = folder / "cells" / cell.name, cell.config, time.perf_counter()
    if config.train.regime == "finetune":
        computed, parameters = start, "networks"
        keys = [list(_keys(config, split)) for split in material.splits]
        runs = finetuned.train_cell(cell, network, sources.of(network, again=True), material, keys, here, say)
    else:
        source = partial(sources.of, network)
        matrix = cell_features(network, source, material.inspection.digests, config, say)
        computed, parameters = time.perf_counter(), "heads"
        folds = frozen.make_folds(config, material.labels, len(material.dataset.classes), material.splits)
        runs = _train_heads(cell, matrix, folds, material)
    trained = time.perf_counter()
    checkpoint.save(here / "checkpoint", {parameters: [run.params for run in runs]})
    if not processes.first():
        return
    extra = {
        "feature_seconds": round(computed - start, 3),
        "seconds": round(trained - computed, 3),
        "weights": network.describe(),
    }
    results.write_cell(folder, cell.name, config, material, runs, extra)
    finetuned.clear(here)


def cell_features(
    network: Network, source: Callable[[], Source], digests: tuple[str, ...], config: ConfigDict, say: Say
) -> np.ndarray:
    """Returns float32 (N, V, D), V views of each image, from the cache where they were computed before."""
    views, name = config.features.views, network.backbone.name
    key = features.features_key(network, digests, views)
    for note in network.notes:
        say(f"{network.weights.path}: {note}")
    if network.mismatch():
        say(f"{name}: its weights expect another preprocessing: {network.mismatch()}")
    matrix = features.load_features(key, len(digests))
    if matrix is None:
        images = source()
        with progress.bar(f"features {name}", len(digests), "images") as advance:
            batch_size, workers = config.features.batch_size, config.data.workers
            matrix = features.compute_features(network, images, batch_size, advance, views, workers)
        try:
            features.store_features(key, matrix)
        except WorkdirError as error:
            say(f"the features are not kept for the next run: {error} (ALLJAX_CACHE_DIR names the folder)")
    else:
        of_views = f" of {matrix.shape[1]} views" if matrix.shape[1] > 1 else ""
        say(f"features {name}: {matrix.shape[0]:,} × {matrix.shape[2]:,}{of_views} computed before")
    return matrix


def write_features(config: ConfigDict, out: Path, say: Say) -> tuple[int, int]:
    """Writes ``features`` float32 (N, D), ``paths``, ``labels`` and ``subjects`` (N,) to an .npz.

    With ``features.views=dihedral`` also ``views`` float32 (N, 8, D), the first of which is ``features``.

    Returns:
        The shape of the features.

    Raises:
        UserError: the source or the weights cannot be used, or `out` cannot be written.
    """
    workdir.check_output(out)
    network = open_network(config)
    dataset, inspection = open_images(config, say)
    source = partial(images_of, network, dataset)
    matrix = cell_features(network, source, inspection.digests, config, say)
    arrays: dict[str, Any] = {
        "features": matrix[:, 0],
        "paths": np.array([record.path for record in dataset.records]),
        "labels": np.array([record.label for record in dataset.records], np.int32),
        "subjects": np.array([record.subject for record in dataset.records]),
    }
    if matrix.shape[1] > 1:
        arrays["views"] = matrix
    with files.atomic(out, "wb") as file:
        np.savez(file, **arrays)
    return matrix.shape[0], matrix.shape[2]


def _claim(config: ConfigDict, folder: Path, material: Material, networks: dict[str, Network], force: bool) -> None:
    resolved = configs.flatten(configs.vary(config, {"data.classes": material.dataset.classes}))
    weights = {f"weights of {name}": network.weights.sha256 for name, network in networks.items()}
    workdir.claim(folder, resolved, material.digests | weights, force)
    table = rows(material.splits, material.dataset.records, material.people, material.dataset.classes)
    workdir.write_csv(folder / "split.csv", COLUMNS, table)


def _train_heads(cell: Cell, matrix: np.ndarray, folds: list[frozen.Fold], material: Material) -> list[frozen.HeadRuns]:
    """Returns one `HeadRuns` a split, its arrays on the host."""
    config = cell.config
    # jnp.asarray would copy twice, and eight views of ten thousand images take most of a gigabyte.
    matrix_on_device, labels = jax.device_put(matrix.reshape(-1, matrix.shape[2])), jnp.asarray(material.labels)
    with progress.bar(f"heads {cell.name}", config.train.epochs * len(folds), "epochs") as advance:
        train = frozen.make_train(config, len(material.dataset.classes), on_epoch=lambda: advance(1))
        runs = []
        for split, fold in zip(material.splits, folds, strict=True):
            keys = _keys(config, split)
            runs.append(_finite(jax.device_get(train(keys, matrix_on_device, labels, fold)), config, split))
        jax.effects_barrier()  # the bar's last epochs arrive
    return runs


def _finite(run: frozen.HeadRuns, config: ConfigDict, split: Split) -> frozen.HeadRuns:
    """Returns `run` if its losses are numbers.

    Raises:
        ConfigError: they are not; names the first epoch and seed.
    """
    bad = np.argwhere(~np.isfinite(run.curves.train_loss + run.curves.val_loss))
    if len(bad):
        epoch, seed = bad[0]
        raise ConfigError(
            f"the loss is no number any more in epoch {epoch + 1} (seed {config.seed + seed}, fold {split.fold}); "
            f"lower train.learning_rate={config.train.learning_rate:g}"
        )
    return run


def _keys(config: ConfigDict, split: Split) -> jax.Array:
    """Returns the key of each seed's run on a split, (R,)."""

    def key(seed: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), split.repeat), split.fold)

    return jnp.stack([key(config.seed + number) for number in range(config.study.seeds)])


def _baselines(config: ConfigDict, material: Material) -> dict[str, Any]:
    return baselines.evaluate(
        material.labels,
        material.inspection.areas,
        material.splits,
        material.people,
        classes=len(material.dataset.classes),
        resamples=config.evaluation.resamples,
        level=config.evaluation.level,
        seed=config.seed,
    )
