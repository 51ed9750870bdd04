"""The fine-tuned cells of a study: one network a seed and split, each with its own folder and checkpoints."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from alljax import progress
from alljax.data.dataset import Dataset
from alljax.models.head import Head
from alljax.study import sources
from alljax.study.experiment import Experiment
from alljax.study.sweep import Trial
from alljax.training import checkpoints, distributed, fine_tuning, metric_writers, parameter_groups, sharding
from alljax.training.feeding import Feed
from alljax.training.fold import Fold, make_folds
from alljax.training.head_training import Curves, HeadRuns
from alljax.training.learner import Learner
from alljax.training.loop import train_network
from alljax.training.network import Network


def check(config: ConfigDict, network: Network) -> None:
    """Looks, before long work, whether a cell's settings fit; does nothing for the frozen mode.

    Raises:
        ConfigError: a logger that is not installed, devices that cannot be shared so, groups that do not fit.
    """
    if config.train.mode != "finetune":
        return
    metric_writers.check(config.train.loggers)
    sharding.make_mesh(config)
    fine_tuning.make_augmentation(config)
    head = Head(config.model.hidden, 2)
    paths = jax.eval_shape(lambda key: fine_tuning.first_parameters(network, head, key), jax.random.key(0))
    parameter_groups.assign(paths, parameter_groups.read(config.train.groups))


def train_trial(trial: Trial, experiment: Experiment, folder: Path) -> list[HeadRuns]:
    """Returns one `HeadRuns` a split, whose parameters are the whole networks' (R, ...).

    A run that was finished before is read back; one that was stopped goes on from its newest checkpoint.

    Args:
        trial: its name and config.
        experiment: images, folds and networks.
        folder: of the trial.

    Raises:
        ConfigError: settings that do not fit, or a loss that is no number any more.
        Stopped: the run was asked to stop.
    """
    from alljax.study import trials

    config, network, splits = trial.config, experiment.network(trial), experiment.folds(trial)
    source = experiment.images(trial, again=True)
    devices = sharding.make_mesh(config)
    folds = make_folds(config, experiment.labels, experiment.num_classes, splits)
    keys = [list(trials.keys(config, split)) for split in splits]
    runs = []
    for split, fold, of_split in zip(splits, folds, keys, strict=True):
        of_seeds = []
        for number, key in enumerate(of_split):
            name = f"{split.repeat}-{split.fold}-{config.seed + number}"
            here = folder / "runs" / name
            if distributed.broadcast(checkpoints.is_saved(here / "result")):
                tree = checkpoints.load(here / "result")
            else:
                feed = Feed(config, source, fold, key, devices)
                title = f"{trial.name} {name}"
                tree = _train(config, network, experiment.num_classes, feed, fold, key, devices, here, title)
                checkpoints.save(here / "result", tree)
                if distributed.is_primary():
                    shutil.rmtree(here / "checkpoints", ignore_errors=True)
            of_seeds.append(tree)
        runs.append(_joined(of_seeds, config.train.epochs))
    return runs


def clear(folder: Path) -> None:
    """Removes the checkpoints of a cell whose results are written; what was logged stays."""
    for run in (folder / "runs").glob("*"):
        for name in ("checkpoints", "result"):
            shutil.rmtree(run / name, ignore_errors=True)
        (run / checkpoints.CHECKSUMS).unlink(missing_ok=True)


def mean_probabilities(config: ConfigDict, network: Network, networks: Sequence[Any], dataset: Dataset) -> np.ndarray:
    """Returns float32 (N, C): softmax outputs averaged over the networks of all splits and seeds.

    Args:
        config: of the cell.
        network: the backbone with its weights, which fill what never learned.
        networks: `HeadRuns.params` of each split.
        dataset: the images.
    """
    classes, devices = len(dataset.classes), sharding.make_mesh(config)
    source = sources.keep(config, sources.images_of(network, dataset))
    rows = np.arange(len(dataset.records))
    fold = Fold(*(jnp.asarray(each) for each in (rows, len(rows), rows, len(rows), rows, len(rows), np.ones(classes))))
    key = jax.random.key(0)  # draws first parameters, which are replaced
    feed = Feed(config, source, fold, key, devices)
    learner = Learner(config, network, classes, key, np.ones(classes), 1, devices)
    total = np.zeros((len(rows), classes))
    count = 0
    with progress.bar("predict", len(networks) * config.study.seeds * len(rows), "images") as advance:
        for of_split in networks:
            for number in range(len(jax.tree.leaves(of_split)[0])):
                tree = jax.tree.map(lambda leaf, number=number: leaf[number], of_split)
                logits = feed.logits(learner, learner.loaded(tree["params"], tree["batch_stats"]), rows)
                total += np.asarray(jax.nn.softmax(logits))
                count += 1
                advance(len(rows))
    return (total / count).astype(np.float32)


def _train(
    config: ConfigDict, network: Network, classes: int, feed: Feed, fold: Fold, key: jax.Array,
    devices: sharding.Mesh, here: Path, title: str,
) -> dict[str, Any]:  # fmt: skip
    total_steps = config.train.epochs * feed.steps_per_epoch
    learner = Learner(config, network, classes, key, np.asarray(fold.class_weights), total_steps, devices)
    with progress.bar(title, config.train.epochs * feed.train_count, "images") as advance:
        trained = train_network(config, learner, feed, here, advance)
    return {
        "params": unflatten_dict(trained.params, sep="/"),
        "batch_stats": trained.batch_stats,
        "history": np.asarray(trained.history),
        "logits": trained.logits,
    }


def _joined(of_seeds: Sequence[Any], epochs: int) -> HeadRuns:
    """Puts the runs of a split side by side; epochs after an early end are NaN."""
    curves = np.full((epochs, len(of_seeds), 4), np.nan)
    for column, tree in enumerate(of_seeds):
        curves[: len(tree["history"]), column] = tree["history"]
    logits = jnp.stack([tree["logits"] for tree in of_seeds])
    params = [{"params": tree["params"], "batch_stats": tree.get("batch_stats", {})} for tree in of_seeds]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    return jax.device_get(HeadRuns(stacked, Curves(*np.moveaxis(curves, -1, 0)), jax.nn.softmax(logits)))
