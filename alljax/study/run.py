"""A study from its config to its folder: images, splits, features, heads, metrics, report."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import interrupts, progress
from alljax.data.splits import COLUMNS, rows
from alljax.errors import ConfigError, UserError, WorkdirError, first_few, plural
from alljax.study import finetuned, merge, results, sweep, trials, workdir
from alljax.study.experiment import Material, open_materials
from alljax.study.extraction import Features
from alljax.study.results import Study
from alljax.study.sources import Sources
from alljax.study.sweep import Trial
from alljax.study.trials import Run, Trainer
from alljax.training import checkpoints, distributed
from alljax.training.head_training import HeadRuns
from alljax.training.network import Network, open_networks


@dataclass(frozen=True)
class Plan:
    """What the cells of a study are made of, and where they go.

    Attributes:
        trials: all of them.
        folder: the working directory.
        networks: of each cell, by its name.
        materials: likewise.
        sources: the images for each network.
        features: the features of each network.
    """

    trials: list[Trial]
    folder: Path
    networks: dict[str, Network]
    materials: dict[str, Material]
    sources: Sources
    features: Features

    def folder_of(self, trial: Trial) -> Path:
        """Returns a cell's folder."""
        return self.folder / "trials" / trial.name

    def alike(self, run: Run) -> str:
        """Returns the same text for runs on the same features and splits."""
        first = run[0]
        return f"{id(self.networks[first.name])} {first.config.features.augment} {first.split}"

    def done(self, trial: Trial) -> bool:
        """Returns whether the result of a trial is on disk."""
        result = merge.read_result(self.folder, trial.name)
        return bool(result) and "failed" not in result

    def failed(self, trial: Trial) -> bool:
        """Returns whether a cell was given up, here or in another shard of the same folder."""
        return "failed" in merge.read_result(self.folder, trial.name)


def run_study(config: ConfigDict, folder: Path, shard: tuple[int, int] = (0, 1), force: bool = False) -> Study | None:
    """Trains and evaluates every cell of the study and leaves its folder complete.

    A cell whose result is on disk already is not run again.  One that fails is reported and does not stop
    the others.

    Args:
        config: from `alljax.config.load`.
        folder: the working directory.
        shard: i and n: only runs i, i + n, … (`grid.runs`); the shard that finds all cells done joins them.
        force: runs under way go on even if they began with another config.

    Returns:
        The finished study; None where trials of other shards are missing, and in all processes but the first.

    Raises:
        UserError: the source, the weights or the folder cannot be used.  All of it is looked at
            before the first file is written.  Or a cell failed: after all others, and after the report.
    """
    study = open_study(config, folder, force)
    with workdir.exclusive(folder, shard) if distributed.is_primary() else contextlib.nullcontext():
        if distributed.is_primary():
            _claim(config, study, force)
        failed = _train(study, sweep.runs(study.trials)[shard[0] :: shard[1]])
        if not distributed.is_primary():
            return None
        # A cell that failed in another shard is not waited for: it has said why, and only a new start tries it again.
        others = [trial.name for trial in study.trials if not (study.done(trial) or study.failed(trial))]
        summary = None
        if others:
            logging.info(f"{plural(len(others), 'model')} of other shards missing: {first_few(others)}")
        elif any(map(study.done, study.trials)):
            summary = merge.merge_shards(folder, ())
    if len(failed) == len(study.trials):
        raise ConfigError(next(iter(failed.values())))
    if failed:
        raise ConfigError(
            f"{plural(len(failed), 'model')} of {len(study.trials)} failed, the others are kept: "
            + "; ".join(f"{name}: {reason}" for name, reason in list(failed.items())[:3])
        )
    return results.read_study(folder) if summary else None


def open_study(config: ConfigDict, folder: Path, force: bool = False) -> Plan:
    """Opens all that the cells of a study need, and finds what does not fit before anything is written.

    Raises:
        UserError: the source, the weights or the folder cannot be used.
    """
    trials = sweep.expand(config)
    workdir.check(folder, configs.flatten(config), trials, force)
    networks = open_networks(trial.config for trial in trials)
    check_compared(config, networks)
    for trial, network in zip(trials, networks, strict=True):
        finetuned.check(trial.config, network)
    materials = open_materials([trial.config for trial in trials])
    sources = Sources(config, materials[0].dataset, networks)
    frozen = [trial.config.train.mode == "frozen" for trial in trials]
    wanted = [
        (network, trial.config.features.augment)
        for trial, network, is_frozen in zip(trials, networks, frozen, strict=True)
        if is_frozen
    ]
    return Plan(
        trials,
        folder,
        {trial.name: network for trial, network in zip(trials, networks, strict=True)},
        {trial.name: material for trial, material in zip(trials, materials, strict=True)},
        sources,
        Features(config, wanted, materials[0].inspection.digests, sources),
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


def _train(study: Plan, runs: Sequence[Run]) -> dict[str, str]:
    """Trains the runs that are not done; returns the names of cells that failed, with the reason."""
    left: list[Run] = []
    failed: dict[str, str] = {}
    for run in runs:
        missing = tuple(trial for trial in run if not distributed.broadcast(study.done(trial)))
        for trial in run:
            if trial not in missing and distributed.is_primary():
                logging.info(f"{trial.name}: done before (remove {study.folder_of(trial)} to run it again)")
                finetuned.clear(study.folder_of(trial))
        if missing:
            left.append(missing)
    with progress.study(sum(map(_cost, left)), sum(map(len, left))) as advance:
        trainer = Trainer()
        frozen = [run for run in left if run[0].config.train.mode == "frozen"]
        groups = trials.together(frozen, study.alike)
        groups += [[run] for run in left if run[0].config.train.mode == "finetune"]
        for group in groups:
            interrupts.check()
            names = [trial.name for run in group for trial in run]
            try:
                if group[0][0].config.train.mode == "finetune":
                    _run_network(study, group[0][0])
                else:
                    failed |= _run_heads(study, trainer, group)
            except (UserError, jax.errors.JaxRuntimeError) as error:
                lost = isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1
                if lost or isinstance(error, WorkdirError):
                    raise  # a process that died, or a full disk, stops all of them
                reason = str(error) if isinstance(error, UserError) else f"the device gave up: {first_line(error)}"
                failed |= {trial.name: reason for run in group for trial in run if not study.done(trial)}
            advance(sum(map(_cost, group)), len(names))
    for name, reason in failed.items() if distributed.is_primary() else ():
        logging.info(f"{name} failed: {reason}")
        workdir.write_json(workdir.trial_folder(study.folder, name) / "metrics.json", {"failed": reason})
    return failed


def _run_heads(study: Plan, trainer: Trainer, group: Sequence[Run]) -> dict[str, str]:
    """Trains the heads of some runs and writes each cell when it is done; returns those that failed."""
    network, config = _network(study, group[0]), group[0][0].config
    material, start = study.materials[group[0][0].name], time.perf_counter()
    matrix = study.features.of(network, config.features.augment)
    feature_seconds = time.perf_counter() - start
    failed: dict[str, str] = {}
    left = {trial.name for run in group for trial in run}
    for trained in trainer.train(group, matrix, material):
        if isinstance(trained, trials.Diverged):
            failed |= {trial.name: trained.reason for trial in trained.trials}
            continue
        _write(study, trained.trial, trained.runs, "heads", {
            "feature_seconds": round(feature_seconds, 3), "seconds": round(trained.seconds, 3),
            "features": matrix.shape[2],
        })  # fmt: skip
        left.discard(trained.trial.name)
    return {name: failed[name] for name in left}


def _run_network(study: Plan, trial: Trial) -> None:
    """Fine-tunes the networks of a cell and writes it."""
    network, material, start = study.networks[trial.name], study.materials[trial.name], time.perf_counter()
    keys = [list(trials.keys(trial.config, split)) for split in material.splits]
    source = study.sources.of(network, again=True)
    runs = finetuned.train_cell(trial, network, source, material, keys, study.folder_of(trial))
    _write(study, trial, runs, "networks", {"feature_seconds": 0.0, "seconds": round(time.perf_counter() - start, 3)})
    if distributed.is_primary():
        finetuned.clear(study.folder_of(trial))


def _write(study: Plan, trial: Trial, runs: Sequence[HeadRuns], parameters: str, extra: dict[str, Any]) -> None:
    """Writes a cell's folder; metrics.json, which says that it is done, last."""
    if trial.config.study.checkpoints:
        checkpoints.save(study.folder_of(trial) / "checkpoint", {parameters: [run.params for run in runs]})
    if not distributed.is_primary():
        return
    extra |= {"weights": study.networks[trial.name].describe(), "split": trial.split}
    results.write_trial(study.folder, trial, study.materials[trial.name], runs, extra)


def _network(study: Plan, run: Run) -> Network:
    return study.networks[run[0].name]


def _cost(run: Run) -> int:
    """Returns the epochs of a run, over all its seeds."""
    return int(run[-1].config.train.epochs * run[-1].config.study.seeds)


def first_line(error: Exception) -> str:
    """Returns what a device says first of an error; pages may follow."""
    return str(error).strip().split("\n")[0][:200]


def _claim(config: ConfigDict, study: Plan, force: bool) -> None:
    """Makes the folder this study's and writes what concerns all cells."""
    import pandas

    first = study.materials[study.trials[0].name]
    resolved = configs.flatten(configs.vary(config, {"data.classes": first.dataset.classes}))
    weights = {f"weights of {name}": network.weights.sha256 for name, network in study.networks.items()}
    of_split = {trial.split: trial for trial in study.trials}
    divided = {name: study.materials[trial.name] for name, trial in of_split.items()}
    several = len(divided) > 1
    inputs = {"images": first.digests["images"]} | {
        f"split {name}" if several else "split": material.digests["split"] for name, material in divided.items()
    }
    workdir.claim(study.folder, resolved, study.trials, inputs | weights, force)
    described = {name: divided[name].describe_split(trial.config) for name, trial in of_split.items()}
    summary = {"dataset": first.describe(config), "splits": described} | next(iter(described.values()))
    stored = study.folder / "metrics.json"
    if not stored.is_file():
        workdir.write_json(stored, summary | {"trials": {}, "missing": [trial.name for trial in study.trials]})
    tables = []
    for name, material in divided.items():
        listed = rows(material.splits, material.dataset.records, material.people, material.dataset.classes)
        tables.append(pandas.DataFrame(listed, columns=list(COLUMNS)))
        if several:
            tables[-1].insert(0, "split", name)
    workdir.write_csv(study.folder / "split.csv", pandas.concat(tables))
