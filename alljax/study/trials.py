"""Trains the trials of one job: heads on features of a frozen backbone, or networks on images."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from alljax import interrupts, progress
from alljax.data.loader import ImageSource
from alljax.errors import ConfigError
from alljax.study.experiment import Experiment
from alljax.study.sweep import Job, Trial
from alljax.training import checkpoints, distributed, metric_writers
from alljax.training.fine_tuning import FineTuner, group_parameters, make_augmentation
from alljax.training.fold_loader import FoldLoader
from alljax.training.head_training import FoldOutcome, HeadTrainer, make_runs
from alljax.training.loop import train
from alljax.training.network import Network
from alljax.training.sampling import FoldRows, make_fold_rows
from alljax.training.sharding import make_mesh
from alljax.training.step import RUN, History

RESULT = "result.npz"
"""The result of a finished run of a trial that has unfinished ones."""


@dataclass(frozen=True)
class Outcome:
    """The trained heads or networks of a trial.

    Attributes:
        folds: one outcome per fold, S seeds each, on the host.
        costs: seconds of training, all trials of the job together, seconds to get the features, and their number.
    """

    folds: Sequence[FoldOutcome]
    costs: dict[str, float]


class Classifier(Protocol):
    """Trains the trials of a job on one fold after the other."""

    def fit(self, features: Any, labels: np.ndarray, fold: FoldRows, keys: jax.Array) -> Sequence[FoldOutcome]:
        """Returns one outcome per trial of the job: parameters to be stored, history and test probabilities.

        Args:
            features: what the classifier learns from, one entry per image.
            labels: int32 (N,).
            fold: training, validation and test rows.
            keys: one per seed, (S,).
        """


def train_job(job: Job, experiment: Experiment, folder: Path) -> Iterator[tuple[Trial, Outcome | ConfigError]]:
    """Yields the trials of a job with their outcome, or with an error where the loss of a head became NaN.

    Fine-tuning saves checkpoints below `folder`, the working directory of the study.
    """
    first, folds, times = job.trials[0], experiment.folds(job.trials[0]), [time.perf_counter()]
    features: Any = experiment.features(first) if job.frozen else experiment.images(first)
    times.append(time.perf_counter())
    outcomes: list[Sequence[FoldOutcome]] = []
    errors: dict[str, ConfigError] = {}
    with progress.bar(f"heads {job.name}", job.cost * len(folds) if job.frozen else 0, "epochs") as update:
        classifier: Classifier
        if job.frozen:
            classifier = HeadClassifier(job, experiment.num_classes, features, update)
        else:
            classifier = NetworkClassifier(first, experiment, folder / "trials" / first.name)
        for fold in make_fold_rows(job.config, experiment.labels, experiment.num_classes, folds):
            outcomes.append(classifier.fit(features, experiment.labels, fold, fold_keys(job.config, fold)))
            for trial, outcome in zip(job.trials, outcomes[-1], strict=True):
                if job.frozen and trial.name not in errors and (error := _diverged(trial, fold, outcome.history)):
                    errors[trial.name] = error
            if len(errors) == len(job.trials):
                break
    times.append(time.perf_counter())
    costs = {"seconds": round(times[2] - times[1], 3), "feature_seconds": round(times[1] - times[0], 3)}
    if job.frozen:
        costs["features"] = features.shape[2]
    for trial, of_trial in zip(job.trials, zip(*outcomes, strict=True), strict=True):
        yield trial, errors.get(trial.name) or Outcome(of_trial, costs)


class HeadClassifier:
    """The heads of a job as a `Classifier`; all its trainings and seeds are one compiled call."""

    def __init__(self, job: Job, num_classes: int, features: Any, update: progress.Update) -> None:
        """Compiles nothing yet."""
        self._trainer = HeadTrainer(job.trials[0].config, num_classes, features.shape[2])
        self._job, self._update = job, update

    def fit(self, features: Any, labels: np.ndarray, fold: FoldRows, keys: jax.Array) -> list[FoldOutcome]:
        """See `Classifier`."""
        trainings, seeds = self._job.trainings, len(keys)
        configs = [training[-1].config for training in trainings for _ in range(seeds)]
        epochs = [trial.config.train.epochs for trial in trainings[0]]
        keys = keys[np.tile(np.arange(seeds), len(trainings))]
        outcomes = self._trainer.train(epochs, make_runs(keys, configs, fold), features, labels, fold, self._progress)
        if not self._job.config.study.checkpoints:  # large heads of many folds would fill the memory
            outcomes = [outcome._replace(params={}) for outcome in outcomes]
        slices = [slice(start, start + seeds) for start in range(0, len(configs), seeds)]
        return [jax.tree.map(lambda leaf, runs=runs: leaf[runs], outcome) for runs in slices for outcome in outcomes]

    def _progress(self, epochs: int, note: str) -> None:
        interrupts.check()
        self._update(epochs, note)


class NetworkClassifier:
    """The fine-tuned networks of a trial as a `Classifier`: one run per fold and seed, compiled once."""

    def __init__(self, trial: Trial, experiment: Experiment, folder: Path) -> None:
        """Compiles nothing yet; each run has a folder in ``runs/`` of the trial's `folder`."""
        self._trial, self._folder, self._mesh = trial, folder, make_mesh(trial.config)
        self._tuner = FineTuner(trial.config, experiment.networks[trial.name], experiment.num_classes, self._mesh)

    def fit(self, features: ImageSource, labels: np.ndarray, fold: FoldRows, keys: jax.Array) -> list[FoldOutcome]:
        """See `Classifier`; a finished run is loaded, an interrupted one resumes."""
        config, results = self._trial.config, []
        for number, key in enumerate(keys):
            folder = self._folder / "runs" / f"{fold.repeat}-{fold.fold}-{config.seed + number}"
            if not distributed.any_process((folder / RESULT).is_file()):
                self._train(FoldLoader(config, features, fold, key, self._mesh), fold, key, folder)
            results.append(checkpoints.load_arrays(folder / RESULT))
        history = np.full((len(results), config.train.epochs, 4), np.nan)  # NaN after early stopping
        for run, result in enumerate(results):
            history[run, : len(result["history"])] = result["history"]
        params = [{"params": result["params"], "batch_stats": result.get("batch_stats", {})} for result in results]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
        probabilities = np.asarray(jax.nn.softmax(np.stack([result["logits"] for result in results])))
        return [FoldOutcome(stacked, History(*np.moveaxis(history, -1, 0)), probabilities)]

    def _train(self, loader: FoldLoader, fold: FoldRows, key: jax.Array, folder: Path) -> None:
        epochs = self._trial.config.train.epochs
        inputs = self._tuner.inputs(key, fold.class_weights, epochs * loader.steps_per_epoch)
        title = f"{self._trial.name} {folder.name}"
        with progress.bar(title, epochs * loader.train_count, "images") as update:
            trained = train(self._tuner, loader, inputs, folder, update)
        if distributed.is_primary():
            checkpoints.save_arrays(folder / RESULT, vars(trained))
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        multihost_utils.sync_global_devices(f"{folder / RESULT} is written")


def check_fine_tuning(config: ConfigDict, network: Network) -> None:
    """Raises `ConfigError` if the settings of a fine-tuning trial do not fit devices, loggers or parameters."""
    if config.train.mode == "finetune":
        metric_writers.check(config.train.loggers)
        make_mesh(config)
        make_augmentation(config)
        group_parameters(config, network, num_classes=2)


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of the runs of a finished trial; their metrics stay."""
    for run in (folder / "runs").glob("*"):
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        (run / RESULT).unlink(missing_ok=True)


def fold_keys(config: ConfigDict, fold: FoldRows) -> jax.Array:
    """Returns the key of each seed on a fold, (S,).

    Without ``study.share_training`` trainings of different lengths have different keys.
    """
    numbers = [fold.repeat, fold.fold]
    if not config.study.share_training:
        # With the stream RUN, so that 1, 2 and 3 epochs are not SHUFFLE, AUGMENT and DROPOUT of another run.
        numbers += [RUN, config.train.epochs]
    keys = jax.vmap(jax.random.key)(np.arange(config.seed, config.seed + config.study.seeds))
    for number in numbers:
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    return keys


def _diverged(trial: Trial, fold: FoldRows, history: History) -> ConfigError | None:
    """Returns an error with the first epoch and seed in which the loss of a head became NaN; None if it did not."""
    bad = np.argwhere(~np.isfinite(history.train_loss + history.val_loss).T)
    if not len(bad):
        return None
    epoch, seed = bad[0]
    return ConfigError(
        f"the loss became NaN in epoch {epoch + 1} (seed {trial.config.seed + seed}, fold {fold.fold}); "
        f"lower train.learning_rate={trial.config.train.learning_rate:g}"
    )
