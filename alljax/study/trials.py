"""Trains the trials of one job: heads on features of a frozen backbone, or networks on images."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from alljax import progress
from alljax.data.loader import ImageReader
from alljax.errors import ConfigError
from alljax.study import inner_folds
from alljax.study.experiment import Experiment
from alljax.study.sweep import Job, Trial
from alljax.training import checkpoints, distributed
from alljax.training.fine_tuning import FineTuner
from alljax.training.head_training import FoldOutcome, HeadTrainer, make_runs
from alljax.training.loop import FoldLoader, train
from alljax.training.sampling import FoldRows, make_fold_rows
from alljax.training.sharding import make_mesh
from alljax.training.step import History, RunInputs

RESULT = "result.npz"
"""The result of a finished run of a trial that has unfinished ones."""


@dataclass(frozen=True)
class Outcome:
    """The trained heads or networks of a trial."""

    folds: Sequence[FoldOutcome]  # one per fold, S seeds each, on the host
    inner: Sequence[np.ndarray]  # one per inner fold of all folds: probabilities of its test rows, float32 (n, C)
    seconds: float  # of training, all trials of the job together, without inner folds


def train_job(job: Job, experiment: Experiment, folder: Path) -> Iterator[tuple[Trial, Outcome | ConfigError]]:
    """Yields the trials of a job, of the study in `folder`, with their outcome, or an error if a head's loss is NaN."""
    first, labels, num_classes = job.trials[0], experiment.labels, experiment.num_classes
    features: Any = experiment.features(first) if job.frozen else experiment.images(first)
    folds, started = make_fold_rows(job.config, labels, num_classes, experiment.folds(first)), time.perf_counter()
    divided = experiment.inner_folds[first.split] if job.frozen else ()
    parts = inner_folds.make_rows(divided, job.config, labels, num_classes)
    outcomes: list[Sequence[FoldOutcome]] = []
    inner: dict[str, list[np.ndarray]] = {trial.name: [] for trial in job.trials}
    errors: dict[str, ConfigError] = {}
    accuracies: list[float] = []
    subset = "validation" if len(experiment.folds(first)[0].validation) else "test"
    total = job.cost * len(folds) + job.config.train.epochs * len(parts)

    def show(epochs: int, accuracy: float) -> None:
        accuracies[len(outcomes) :] = [accuracy]  # in the last epoch of each fold before, and in this epoch
        of_folds = f" (mean of {len(accuracies)} folds)" if len(accuracies) > 1 else ""
        update(epochs, f"{subset} accuracy {np.mean(accuracies):.3f}{of_folds}")

    with progress.bar(f"heads {job.name}", total if job.frozen else 0, "epochs") as update:
        if not job.frozen:
            tuner = FineTuner(job.config, experiment.networks[first.name], num_classes, make_mesh(job.config))
        for fold in folds:
            if job.frozen:
                outcomes.append(_fit_heads(job, features, labels, fold, show))
            else:
                outcomes.append(_fit_networks(tuner, features, fold, folder / "trials" / first.name))
            for trial, outcome in zip(job.trials, outcomes[-1], strict=True):
                if job.frozen and trial.name not in errors and (error := _diverged(trial, fold, outcome.history)):
                    errors[trial.name] = error
            if len(errors) == len(job.trials):
                break
        seconds = round(time.perf_counter() - started, 3)
        for part in parts if len(errors) < len(job.trials) else ():
            fitted = _fit_heads(job, features, labels, part, lambda epochs, accuracy: update(epochs), inner=True)
            for trial, outcome in zip(job.trials, fitted, strict=True):
                inner[trial.name].append(outcome.probabilities[0, : part.test_count])
                if not np.isfinite(outcome.probabilities).all():
                    errors.setdefault(trial.name, _error(trial, f"an inner fold of fold {part.fold}"))
    for trial, of_trial in zip(job.trials, zip(*outcomes, strict=True), strict=True):
        yield trial, errors.get(trial.name) or Outcome(of_trial, inner[trial.name], seconds)


def make_heads(job: Job, fold: FoldRows, num_features: int, seeds: int) -> tuple[HeadTrainer, RunInputs]:
    """Returns what trains the heads of a job on a fold, and their runs, one per seed of the first `seeds`."""
    trainer = HeadTrainer(job.config, len(fold.class_weights), num_features)  # compiled once for equal settings
    return trainer, make_runs(fold_keys(job.config, fold)[:seeds], [job.config] * seeds, fold)


def _fit_heads(
    job: Job, features: Any, labels: np.ndarray, fold: FoldRows, show: Callable[[int, float], None], inner: bool = False
) -> list[FoldOutcome]:
    """Trains the heads of a job on a fold, on an `inner` fold one of the first seed; returns an outcome per trial."""
    seeds = 1 if inner else job.config.study.seeds
    trainer, runs = make_heads(job, fold, features.shape[1], seeds)
    epochs = [trial.config.train.epochs for trial in job.trials]
    outcomes = trainer.train(epochs, runs, features, labels, fold, show)
    if inner or not job.config.study.checkpoints:  # large heads of many folds would fill the memory
        outcomes = [outcome._replace(params={}) for outcome in outcomes]
    return outcomes


def _fit_networks(tuner: FineTuner, images: ImageReader, fold: FoldRows, folder: Path) -> list[FoldOutcome]:
    """Fine-tunes a network per seed on a fold; a finished run in `folder` is loaded, an interrupted one resumes."""
    config, epochs, results = tuner.config, tuner.config.train.epochs, []
    for number, key in enumerate(fold_keys(config, fold)):
        run = folder / "runs" / f"{fold.repeat}-{fold.fold}-{config.seed + number}"
        if not distributed.any_process((run / RESULT).is_file()):
            loader = FoldLoader(config, images, fold, key, tuner.mesh)
            inputs = tuner.inputs(key, fold.class_weights, epochs * loader.steps_per_epoch)
            total = epochs * loader.train_count
            with progress.bar(f"{folder.name} {run.name}", total, "images", stops=False) as update:
                trained = train(tuner, loader, inputs, run, update)
            if distributed.is_primary():
                checkpoints.save_arrays(run / RESULT, trained)
                shutil.rmtree(run / "checkpoints", ignore_errors=True)
            multihost_utils.sync_global_devices(f"{run / RESULT} is written")
        results.append(checkpoints.load_arrays(run / RESULT))
    history = np.full((len(results), epochs, len(History._fields)), np.nan)  # NaN after early stopping
    for of_run, result in zip(history, results, strict=True):
        of_run[: len(result["history"])] = result["history"]
    params = [{"params": result["params"], "batch_stats": result.get("batch_stats", {})} for result in results]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    probabilities = np.asarray(jax.nn.softmax(np.stack([result["logits"] for result in results])))
    return [FoldOutcome(stacked, History(*np.moveaxis(history, -1, 0)), probabilities)]


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of the runs of a finished trial; their metrics stay."""
    for run in (folder / "runs").glob("*"):
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        (run / RESULT).unlink(missing_ok=True)


def fold_keys(config: ConfigDict, fold: FoldRows) -> jax.Array:
    """Returns the key of each seed on a fold, (S,)."""
    return _fold_in(np.arange(config.seed, config.seed + config.study.seeds), np.array([fold.repeat, fold.fold]))


@jax.jit
def _fold_in(seeds: jax.Array, numbers: jax.Array) -> jax.Array:
    keys = jax.vmap(jax.random.key)(seeds)
    for number in numbers:
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    return keys


def _diverged(trial: Trial, fold: FoldRows, history: History) -> ConfigError | None:
    """Returns an error with the first epoch and seed in which the loss of a head became NaN; None if it did not."""
    bad = np.argwhere(~np.isfinite(history.train_loss + history.val_loss).T)
    if not len(bad):
        return None
    epoch, seed = bad[0]
    return _error(trial, f"epoch {epoch + 1} (seed {trial.config.seed + seed}, fold {fold.fold})")


def _error(trial: Trial, where: str) -> ConfigError:
    return ConfigError(
        f"the loss became NaN in {where}; lower train.learning_rate={trial.config.train.learning_rate:g}"
    )
