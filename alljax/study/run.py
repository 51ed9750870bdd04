"""A study from its config to its folder: images, splits, features, heads, metrics, report."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import files, progress
from alljax.data.archive import counted, some
from alljax.data.splits import COLUMNS, rows
from alljax.errors import ConfigError, UserError, WorkdirError
from alljax.evaluation import comparison
from alljax.progress import Say
from alljax.report import report
from alljax.study import finetuned, finished, merge, results, sweep, trials, workdir
from alljax.study.experiment import Material, open_materials
from alljax.study.extraction import Features
from alljax.study.sources import Sources
from alljax.study.sweep import Cell
from alljax.study.trials import Run, Trainer
from alljax.training import checkpoints, distributed
from alljax.training.head_training import HeadRuns
from alljax.training.network import Network, open_networks

SHEETS = 3
"""Models, best first, of which the cells called wrong are drawn."""


@dataclass(frozen=True)
class Study:
    """What the cells of a study are made of, and where they go.

    Attributes:
        cells: all of them.
        folder: the working directory.
        networks: of each cell, by its name.
        materials: likewise.
        sources: the images for each network.
        features: the features of each network.
        say: prints a line.
    """

    cells: list[Cell]
    folder: Path
    networks: dict[str, Network]
    materials: dict[str, Material]
    sources: Sources
    features: Features
    say: Say

    def folder_of(self, cell: Cell) -> Path:
        """Returns a cell's folder."""
        return self.folder / "cells" / cell.name

    def alike(self, run: Run) -> str:
        """Returns the same text for runs on the same features and splits."""
        first = run[0]
        return f"{id(self.networks[first.name])} {first.config.features.views} {first.split}"

    def done(self, cell: Cell) -> bool:
        """Returns whether a cell's result is on disk, whole."""
        return (self.folder_of(cell) / "metrics.json").is_file()

    def failed(self, cell: Cell) -> bool:
        """Returns whether a cell was given up, here or in another shard of the same folder."""
        return (self.folder_of(cell) / merge.FAILED).is_file()


def run_study(
    config: ConfigDict, folder: Path, say: Say, shard: tuple[int, int] = (0, 1), force: bool = False
) -> dict[str, Any] | None:
    """Trains and evaluates every cell of the study and leaves its folder complete.

    A cell whose result is on disk already is not run again.  One that fails is reported and does not stop
    the others.

    Args:
        config: from `alljax.config.load`.
        folder: the working directory.
        say: prints a line.
        shard: i and n: only runs i, i + n, … (`grid.runs`); the shard that finds all cells done joins them.
        force: runs under way go on even if they began with another config.

    Returns:
        What metrics.json holds; None where cells of other shards are missing, and in all processes but the first.

    Raises:
        UserError: the source, the weights or the folder cannot be used.  All of it is looked at
            before the first file is written.  Or a cell failed: after all others, and after the report.
    """
    study = open_study(config, folder, say, force)
    with workdir.alone(folder, shard) if distributed.first() else contextlib.nullcontext():
        if distributed.first():
            _claim(config, study, force)
            _set_aside_damaged(study)
        failed = _train(study, sweep.runs(study.cells)[shard[0] :: shard[1]])
        if not distributed.first():
            return None
        # A cell that failed in another shard is not waited for: it has said why, and only a new start tries it again.
        others = [cell.name for cell in study.cells if not (study.done(cell) or study.failed(cell))]
        summary = None
        if others:
            say(f"{counted(len(others), 'model')} of other shards missing: {some(others)}")
        elif any(map(study.done, study.cells)):
            summary = merge.join(folder, (), lambda line: None)
            _report(study)
    if len(failed) == len(study.cells):
        raise ConfigError(next(iter(failed.values())))
    if failed:
        raise ConfigError(
            f"{counted(len(failed), 'model')} of {len(study.cells)} failed, the others are kept: "
            + "; ".join(f"{name}: {reason}" for name, reason in list(failed.items())[:3])
        )
    return summary


def open_study(config: ConfigDict, folder: Path, say: Say, force: bool = False) -> Study:
    """Opens all that the cells of a study need, and finds what does not fit before anything is written.

    Raises:
        UserError: the source, the weights or the folder cannot be used.
    """
    cells = sweep.cells(config)
    workdir.check(folder, configs.flatten(config), force)
    networks = open_networks(cell.config for cell in cells)
    check_compared(config, networks)
    for cell, network in zip(cells, networks, strict=True):
        finetuned.check(cell.config, network)
    materials = open_materials([cell.config for cell in cells], say)
    sources = Sources(config, materials[0].dataset, networks, say)
    frozen = [cell.config.train.regime == "frozen" for cell in cells]
    wanted = [
        (network, cell.config.features.views)
        for cell, network, is_frozen in zip(cells, networks, frozen, strict=True)
        if is_frozen
    ]
    return Study(
        cells,
        folder,
        {cell.name: network for cell, network in zip(cells, networks, strict=True)},
        {cell.name: material for cell, material in zip(cells, materials, strict=True)},
        sources,
        Features(config, wanted, materials[0].inspection.digests, sources, say),
        say,
    )


def check_compared(config: ConfigDict, networks: Sequence[Network]) -> None:
    """Looks whether a study has the networks that ``study.compare`` sets beside the published ones.

    Raises:
        ConfigError: it has fewer than two.
    """
    if config.study.compare and len({id(network) for network in networks}) < 2:
        raise ConfigError(
            f"study.compare={config.study.compare} sets two networks beside the paper's two, and the study has one; "
            "vary model.backbone (or model.stage), or leave study.compare empty"
        )


def _train(study: Study, runs: Sequence[Run]) -> dict[str, str]:
    """Trains the runs that are not done; returns the names of cells that failed, with the reason."""
    left: list[Run] = []
    failed: dict[str, str] = {}
    for run in runs:
        missing = tuple(cell for cell in run if not distributed.agree(study.done(cell)))
        for cell in run:
            if cell not in missing and distributed.first():
                study.say(f"{cell.name}: done before (remove {study.folder_of(cell)} to run it again)")
                finetuned.clear(study.folder_of(cell))
        if missing:
            left.append(missing)
    with progress.study(sum(map(_cost, left)), sum(map(len, left))) as advance:
        trainer = Trainer(study.say)
        frozen = [run for run in left if run[0].config.train.regime == "frozen"]
        groups = trials.together(frozen, study.alike)
        groups += [[run] for run in left if run[0].config.train.regime == "finetune"]
        for group in groups:
            names = [cell.name for run in group for cell in run]
            try:
                if group[0][0].config.train.regime == "finetune":
                    _run_network(study, group[0][0])
                else:
                    failed |= _run_heads(study, trainer, group)
            except (UserError, jax.errors.JaxRuntimeError) as error:
                lost = isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1
                if lost or isinstance(error, WorkdirError):
                    raise  # a process that died, or a full disk, stops all of them
                reason = str(error) if isinstance(error, UserError) else f"the device gave up: {first_line(error)}"
                failed |= {
                    name: reason for name in names if not (study.folder / "cells" / name / "metrics.json").is_file()
                }
            advance(sum(map(_cost, group)), len(names))
    for name, reason in failed.items() if distributed.first() else ():
        study.say(f"{name} failed: {reason}")
        files.write_text(study.folder / "cells" / name / merge.FAILED, f"{reason}\n")
    return failed


def _run_heads(study: Study, trainer: Trainer, group: Sequence[Run]) -> dict[str, str]:
    """Trains the heads of some runs and writes each cell when it is done; returns those that failed."""
    network, config = _network(study, group[0]), group[0][0].config
    material, start = study.materials[group[0][0].name], time.perf_counter()
    matrix = study.features.of(network, config.features.views)
    feature_seconds = time.perf_counter() - start
    failed: dict[str, str] = {}
    left = {cell.name for run in group for cell in run}
    for trained in trainer.train(group, matrix, material):
        if isinstance(trained, trials.Diverged):
            failed |= {cell.name: trained.reason for cell in trained.cells}
            continue
        _write(study, trained.cell, trained.runs, "heads", {
            "feature_seconds": round(feature_seconds, 3), "seconds": round(trained.seconds, 3),
            "features": matrix.shape[2],
        })  # fmt: skip
        left.discard(trained.cell.name)
    return {name: failed[name] for name in left}


def _run_network(study: Study, cell: Cell) -> None:
    """Fine-tunes the networks of a cell and writes it."""
    network, material, start = study.networks[cell.name], study.materials[cell.name], time.perf_counter()
    keys = [list(trials.keys(cell.config, split)) for split in material.splits]
    source = study.sources.of(network, again=True)
    runs = finetuned.train_cell(cell, network, source, material, keys, study.folder_of(cell), study.say)
    _write(study, cell, runs, "networks", {"feature_seconds": 0.0, "seconds": round(time.perf_counter() - start, 3)})
    if distributed.first():
        finetuned.clear(study.folder_of(cell))


def _write(study: Study, cell: Cell, runs: Sequence[HeadRuns], parameters: str, extra: dict[str, Any]) -> None:
    """Writes a cell's folder; metrics.json, which says that it is done, last."""
    if cell.config.study.checkpoints:
        checkpoints.save(study.folder_of(cell) / "checkpoint", {parameters: [run.params for run in runs]})
    if not distributed.first():
        return
    extra |= {"weights": study.networks[cell.name].describe(), "split": cell.split}
    results.write_cell(study.folder, cell.name, cell.config, study.materials[cell.name], runs, extra)
    (study.folder_of(cell) / merge.FAILED).unlink(missing_ok=True)


def _report(study: Study) -> None:
    """Writes the report, and before it the sheets of wrong cells of the best models."""
    done = finished.read_study(study.folder)
    for name in finished.ranked(done.metrics["cells"], comparison.leaky(done.metrics))[:SHEETS]:
        results.write_wrong_sheet(done, name, study.materials[name].dataset)
    report.write_report(study.folder)


def _set_aside_damaged(study: Study) -> None:
    for cell in study.cells:
        if problem := results.damage(study.folder_of(cell)):
            study.say(f"{problem}; {cell.name} is run again")
            (study.folder_of(cell) / "metrics.json").unlink()


def _network(study: Study, run: Run) -> Network:
    return study.networks[run[0].name]


def _cost(run: Run) -> int:
    """Returns the epochs of a run, over all its seeds."""
    return int(run[-1].config.train.epochs * run[-1].config.study.seeds)


def first_line(error: Exception) -> str:
    """Returns what a device says first of an error; pages may follow."""
    return str(error).strip().split("\n")[0][:200]


def _claim(config: ConfigDict, study: Study, force: bool) -> None:
    """Makes the folder this study's and writes what concerns all cells."""
    first = study.materials[study.cells[0].name]
    resolved = configs.flatten(configs.vary(config, {"data.classes": first.dataset.classes}))
    weights = {f"weights of {name}": network.weights.sha256 for name, network in study.networks.items()}
    of_split = {cell.split: cell for cell in study.cells}
    divided = {name: study.materials[cell.name] for name, cell in of_split.items()}
    several = len(divided) > 1
    inputs = {"images": first.digests["images"]} | {
        f"split {name}" if several else "split": material.digests["split"] for name, material in divided.items()
    }
    workdir.claim(study.folder, resolved, inputs | weights, force)
    described = {name: divided[name].describe_split(cell.config) for name, cell in of_split.items()}
    workdir.write_json(study.folder / "material.json", {"dataset": first.describe(config), "splits": described})
    for number, (name, material) in enumerate(divided.items()):
        table = rows(material.splits, material.dataset.records, material.people, material.dataset.classes)
        workdir.write_csv(study.folder / (f"split-{name}.csv" if number else "split.csv"), COLUMNS, table)
