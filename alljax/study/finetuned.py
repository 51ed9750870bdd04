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
from alljax.data.loader import ImageSource
from alljax.study.experiment import Experiment
from alljax.study.sweep import Trial
from alljax.training import checkpoints, distributed, metric_writers, sharding
from alljax.training.feature_extraction import ImageSources
from alljax.training.feeding import Feed
from alljax.training.fine_tuning import FineTuner, group_parameters, make_augmentation
from alljax.training.loop import train
from alljax.training.network import Network
from alljax.training.sampling import FoldRows
from alljax.training.step import FoldOutcome, History


def check(config: ConfigDict, network: Network) -> None:
    """Looks, before long work, whether a cell's settings fit; does nothing for the frozen mode.

    Raises:
        ConfigError: a logger that is not installed, devices that cannot be shared so, groups that do not fit.
    """
    if config.train.mode != "finetune":
        return
    metric_writers.check(config.train.loggers)
    sharding.make_mesh(config)
    make_augmentation(config)
    group_parameters(config, network, num_classes=2)


class NetworkClassifier:
    """The fine-tuned networks of a trial as a `trials.Classifier`: one run per fold and seed, compiled once."""

    def __init__(self, trial: Trial, experiment: Experiment, folder: Path) -> None:
        """Compiles nothing yet.

        Args:
            trial: its name and config.
            experiment: gives the classes and the network.
            folder: of the trial; each run has a folder in ``runs/``.
        """
        self._trial, self._folder, self._mesh = trial, folder, sharding.make_mesh(trial.config)
        self._tuner = FineTuner(trial.config, experiment.network(trial), experiment.num_classes, self._mesh)

    def fit(self, features: ImageSource, labels: np.ndarray, fold: FoldRows, keys: jax.Array) -> list[FoldOutcome]:
        """See `trials.Classifier`; a finished run is loaded, an interrupted one resumes."""
        config, results = self._trial.config, []
        for number, key in enumerate(keys):
            name = f"{fold.repeat}-{fold.fold}-{config.seed + number}"
            folder = self._folder / "runs" / name
            if distributed.broadcast(checkpoints.is_saved(folder / "result")):
                results.append(checkpoints.load(folder / "result"))
                continue
            results.append(self._train(Feed(config, features, fold, key, self._mesh), fold, key, folder))
            checkpoints.save(folder / "result", results[-1])
            if distributed.is_primary():
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return [_stack(results, config.train.epochs)]

    def _train(self, feed: Feed, fold: FoldRows, key: jax.Array, folder: Path) -> dict[str, Any]:
        epochs = self._trial.config.train.epochs
        inputs = self._tuner.inputs(key, fold.class_weights, epochs * feed.steps_per_epoch)
        with progress.bar(f"{self._trial.name} {folder.name}", epochs * feed.train_count, "images") as update:
            trained = train(self._tuner, feed, inputs, folder, update)
        return {
            "params": unflatten_dict(trained.params, sep="/"),
            "batch_stats": trained.batch_stats,
            "history": np.asarray(trained.history),
            "logits": trained.logits,
        }


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
        networks: `FoldOutcome.params` of each split.
        dataset: the images.
    """
    classes, devices = len(dataset.classes), sharding.make_mesh(config)
    source = ImageSources(config, dataset).open(network, several_times=True)
    rows = np.arange(len(dataset.records))
    fold = FoldRows(rows, len(rows), rows, len(rows), rows, len(rows), np.ones(classes), 0, 0)
    key = jax.random.key(0)  # draws first parameters, which are replaced
    feed = Feed(config, source, fold, key, devices)
    tuner = FineTuner(config, network, classes, devices)
    total = np.zeros((len(rows), classes))
    count = 0
    with progress.bar("predict", len(networks) * config.study.seeds * len(rows), "images") as advance:
        for of_split in networks:
            for number in range(len(jax.tree.leaves(of_split)[0])):
                tree = jax.tree.map(lambda leaf, number=number: leaf[number], of_split)
                logits = feed.logits(tuner, tuner.evaluation_state(tree["params"], tree["batch_stats"]), rows)
                total += np.asarray(jax.nn.softmax(logits))
                count += 1
                advance(len(rows))
    return (total / count).astype(np.float32)


def _stack(of_seeds: Sequence[Any], epochs: int) -> FoldOutcome:
    """Puts the runs of a split side by side; epochs after an early end are NaN."""
    curves = np.full((epochs, len(of_seeds), 4), np.nan)
    for column, tree in enumerate(of_seeds):
        curves[: len(tree["history"]), column] = tree["history"]
    logits = jnp.stack([tree["logits"] for tree in of_seeds])
    params = [{"params": tree["params"], "batch_stats": tree.get("batch_stats", {})} for tree in of_seeds]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    return jax.device_get(FoldOutcome(stacked, History(*np.moveaxis(curves, -1, 0)), jax.nn.softmax(logits)))
