"""Trains the trials of one job: heads on features of a frozen backbone, or networks on images."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from alljax import interrupts, progress
from alljax.errors import ConfigError
from alljax.study import finetuned
from alljax.study.experiment import Experiment
from alljax.study.sweep import Job, Trial
from alljax.training.head_streaming import StreamingHeadTrainer
from alljax.training.head_training import FoldData, HeadTrainer, make_runs
from alljax.training.sampling import FoldRows, make_fold_rows
from alljax.training.step import RUN, FoldOutcome


@dataclass(frozen=True)
class Outcome:
    """The trained heads or networks of a trial.

    Attributes:
        folds: one outcome per fold, S seeds each, on the host.
        parameters: ``heads`` or ``networks``, what the parameters in `folds` are.
        seconds: of training, all trials of the job together.
        feature_seconds: to compute or read the features.
        features: their number; 0 for networks.
    """

    folds: list[FoldOutcome]
    parameters: str
    seconds: float
    feature_seconds: float = 0.0
    features: int = 0


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
    """Yields the trials of a job with their outcome, or with an error where the loss became NaN.

    Args:
        job: trials on the same images, features and folds.
        experiment: gives images, folds, networks and features.
        folder: the working directory of the study; fine-tuning saves checkpoints in it.

    Raises:
        UserError: features, settings or weights that cannot be used.
        Stopped: the run was interrupted.
    """
    trial, start = job.trials[0], time.perf_counter()
    frozen, splits = job.config.train.mode == "frozen", experiment.folds(trial)
    features: Any = experiment.features(trial) if frozen else experiment.images(trial, again=True)
    feature_seconds, start = time.perf_counter() - start, time.perf_counter()
    outcomes: list[Sequence[FoldOutcome]] = []
    with contextlib.ExitStack() as stack:
        classifier: Classifier
        if frozen:
            update = stack.enter_context(progress.bar(f"heads {job.name}", job.cost * len(splits), "epochs"))
            classifier = HeadClassifier(job, experiment.num_classes, features, update)
        else:
            classifier = finetuned.NetworkClassifier(trial, experiment, folder / "trials" / trial.name)
        for fold in make_fold_rows(job.config, experiment.labels, experiment.num_classes, splits):
            interrupts.check()
            outcomes.append(classifier.fit(features, experiment.labels, fold, fold_keys(job.config, fold)))
            if all(_diverged(trial, folds) for trial, folds in _by_trial(job, outcomes)):
                break
    seconds = time.perf_counter() - start
    for trial, folds in _by_trial(job, outcomes):
        if problem := _diverged(trial, folds):
            yield trial, ConfigError(problem)
        elif frozen:
            yield trial, Outcome(folds, "heads", seconds, feature_seconds, features.shape[2])
        else:
            yield trial, Outcome(folds, "networks", seconds)


class HeadClassifier:
    """The heads of a job as a `Classifier`; all its trainings and seeds are one compiled call."""

    def __init__(self, job: Job, num_classes: int, features: Any, update: progress.Update) -> None:
        """Compiles nothing yet.

        Args:
            job: frozen trials.
            num_classes: C.
            features: float32 (N, V, D), a NumPy array if it is to be read from disk.
            update: of the progress bar.
        """
        trainer = StreamingHeadTrainer if isinstance(features, np.ndarray) else HeadTrainer
        self._trainer = trainer(job.trials[0].config, num_classes, features.shape[2])
        self._job, self._update = job, update

    def fit(self, features: Any, labels: np.ndarray, fold: FoldRows, keys: jax.Array) -> list[FoldOutcome]:
        """See `Classifier`."""
        trainings, seeds = self._job.trainings, len(keys)
        configs = [training[-1].config for training in trainings for _ in range(seeds)]
        epochs = [trial.config.train.epochs for trial in trainings[0]]
        if len(trainings) > 1:
            keys = keys[np.tile(np.arange(seeds), len(trainings))]
        runs, data = make_runs(keys, configs, fold), FoldData(features, labels, fold)
        found = self._trainer.train(epochs, runs, data, self._job.epochs_per_call, self._progress)
        slices = [slice(start, start + seeds) for start in range(0, len(configs), seeds)]
        return [outcome.select(own) for own in slices for outcome in found]

    def _progress(self, epochs: int, note: str) -> None:
        interrupts.check()
        self._update(epochs, note)


def fold_keys(config: ConfigDict, fold: FoldRows) -> jax.Array:
    """Returns the key of each seed on a fold, (S,).

    Without ``study.share_training`` trainings of different lengths have different keys.
    """
    seeds = np.arange(config.seed, config.seed + config.study.seeds)
    keys = _fold_keys(seeds, fold.repeat, fold.fold)
    return keys if config.study.share_training else _length_keys(keys, np.int32(config.train.epochs))


@jax.jit
def _fold_keys(seeds: jax.Array, repeat: jax.Array, fold: jax.Array) -> jax.Array:
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), repeat), fold))(seeds)


@jax.jit
def _length_keys(keys: jax.Array, epochs: jax.Array) -> jax.Array:
    # With the stream RUN, so that 1, 2 and 3 epochs are not the streams SHUFFLE, AUGMENT and DROPOUT of another run.
    return jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, RUN), epochs))(keys)


def _by_trial(job: Job, outcomes: Sequence[Sequence[FoldOutcome]]) -> list[tuple[Trial, list[FoldOutcome]]]:
    return list(zip(job.trials, map(list, zip(*outcomes, strict=True)), strict=True))


def _diverged(trial: Trial, folds: Sequence[FoldOutcome]) -> str:
    """Returns where the loss of heads became NaN, the first epoch and seed, and how to fix it; empty if it did not."""
    config = trial.config
    for number, outcome in enumerate(folds) if config.train.mode == "frozen" else ():
        bad = np.argwhere(~np.isfinite(outcome.history.train_loss + outcome.history.val_loss))
        if len(bad):
            epoch, seed = bad[0]
            return (
                f"the loss became NaN in epoch {epoch + 1} (seed {config.seed + seed}, fold {number}); "
                f"lower train.learning_rate={config.train.learning_rate:g}"
            )
    return ""
