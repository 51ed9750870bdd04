"""Trains the trials of one job: classifiers on features of images, or networks on images."""

import contextlib
import functools
import itertools
import math
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from alljax import files, progress
from alljax.data.loader import ImageReader
from alljax.errors import ConfigError, plural
from alljax.study import sweep
from alljax.study.experiment import Experiment
from alljax.study.sweep import Job, Trial
from alljax.training import checkpoints, classifiers, distributed
from alljax.training.feature_extraction import sequence_of
from alljax.training.fine_tuning import FineTuner
from alljax.training.head_training import FoldOutcome, HeadTrainer, make_runs, select_runs
from alljax.training.loop import FoldLoader, train
from alljax.training.sampling import FoldRows, fold_keys, make_fold_rows
from alljax.training.sharding import make_mesh
from alljax.training.step import History, RunInputs

RESULT = "result.npz"  # of a finished run of a trial that has unfinished ones


@dataclass(frozen=True)
class Outcome:
    """The trained classifiers or networks of a trial."""

    folds: Sequence[FoldOutcome]  # one per fold, S seeds each, on the host
    inner: Sequence[np.ndarray]  # one per inner fold of all folds: probabilities of its test rows, float32 (n, C)
    seconds: float  # of training, all trials of the job together, without inner folds
    about: dict[str, Any] = field(default_factory=dict)  # what metrics.json holds of a combined trial


def train_job(job: Job, experiment: Experiment, folder: Path) -> Iterator[tuple[Trial, Outcome | ConfigError]]:
    """Yields the trials of a job, of the study in `folder`, with their outcome, or an error if a head's loss is NaN."""
    first, labels, num_classes = job.trials[0], experiment.dataset.labels, experiment.num_classes
    has_epochs = sweep.has_epochs(job.config)
    features: Any = experiment.features(first) if job.frozen else experiment.images(first)
    subjects = np.unique(experiment.subjects, return_inverse=True)[1]
    sequence = sequence_of(job.config, experiment.sources[first.name]) if job.frozen else None
    splits, started = experiment.folds(first), time.perf_counter()
    divided = experiment.inner_folds[first.split] if job.frozen else ()
    rows = make_fold_rows(job.config, labels, num_classes, [*splits, *itertools.chain(*divided)])  # of the same shapes
    folds, parts = rows[: len(splits)], [replace(part, validation_count=np.int32(0)) for part in rows[len(splits) :]]
    outcomes: list[Sequence[FoldOutcome]] = []
    inner: dict[str, list[np.ndarray]] = {trial.name: [] for trial in job.trials}
    errors: dict[str, ConfigError] = {}
    accuracies: dict[int, float] = {}  # of each fold, in its last epoch so far
    subset = "validation" if len(splits[0].validation) else "test"
    total = job.cost * len(folds) + job.config.train.epochs * len(parts)

    def fit(number: int) -> list[FoldOutcome]:
        if not job.frozen:
            return _fit_networks(tuner, features, folds[number], folder / "trials" / first.name)
        fold, show_fold = [*folds, *parts][number], functools.partial(show, number)
        selection, selected = None, features
        if job.config.features.select:
            note = functools.partial(update, 0)
            selection, selected = classifiers.select(job.config, features, labels, subjects, fold, note)
        if has_epochs:
            found = _fit_heads(job, selected, sequence, labels, fold, show_fold)
        else:  # of an inner fold an estimator of the first seed
            seeds = job.config.study.seeds if fold.validation_count else 1
            found = [classifiers.fit_estimators(job.config, selected, labels, fold, seeds)]
            right = found[0].probabilities.argmax(2) == labels[fold.test[: fold.test_count]]
            show(number, job.config.train.epochs * seeds, float(right.mean()))
        return [outcome._replace(selection=selection) for outcome in found]

    def show(number: int, epochs: int, accuracy: float) -> None:
        if number >= len(folds):
            return update(epochs)
        accuracies[number] = accuracy
        mean = np.mean([*accuracies.values()])
        return update(epochs, f"{subset} accuracy {mean:.3f} (mean of {plural(len(accuracies), 'fold')})")

    kind = "heads" if has_epochs else "classifiers"
    with progress.bar(f"{kind} {job.name}", total if job.frozen else 0, "epochs") as update:
        if not job.frozen:
            tuner = FineTuner(job.config, experiment.networks[first.name], num_classes, make_mesh(job.config))
        threads = _threads(job, num_classes, features.shape, sequence) if job.frozen else 1
        with contextlib.closing(_in_threads(fit, len(folds) + len(parts), threads)) as fitted:
            for of_trials, fold in zip(fitted, [*folds, *parts], strict=True):
                if len(outcomes) < len(folds):
                    outcomes.append(of_trials)
                    seconds = round(time.perf_counter() - started, 3)
                for trial, outcome in zip(job.trials, of_trials, strict=True):
                    if not fold.validation_count:
                        inner[trial.name].append(outcome.probabilities[0, : fold.test_count])
                    if has_epochs and not np.isfinite(outcome.probabilities).all():  # neither was the loss
                        lower = f"lower train.learning_rate={trial.config.train.learning_rate:g}"
                        error = ConfigError(f"the loss became NaN in fold {fold.fold}; {lower}")
                        errors.setdefault(trial.name, error)
                if len(errors) == len(job.trials):
                    break
    if not has_epochs:
        scored = [outcome for (outcome,) in outcomes]
        calibrated, inner[first.name] = classifiers.calibrate(scored, inner[first.name], divided, labels)
        outcomes = [[outcome] for outcome in calibrated]
    for trial, of_trial in zip(job.trials, zip(*outcomes, strict=True), strict=True):
        yield trial, errors.get(trial.name) or Outcome(of_trial, inner[trial.name], seconds)


def _threads(job: Job, num_classes: int, shape: tuple[int, int], sequence: tuple[int, int] | None) -> int:
    """Returns how many folds are trained at a time: on the CPU one per core, if they fit into memory."""
    if not sweep.has_epochs(job.config):  # each has a copy of its rows, and one in float64
        return min(files.cpu_cores(), max(1, files.host_memory() // (16 * math.prod(shape))))
    if jax.default_backend() != "cpu":
        return 1
    return min(files.cpu_cores(), HeadTrainer(job.config, num_classes, shape[1], sequence).side_by_side)


def _in_threads(function: Callable[[int], Any], count: int, threads: int) -> Generator[Any]:
    """Yields the results for 0, …, `count` − 1 in order, computed in threads that end with it."""
    if threads == 1:
        yield from map(function, range(count))
        return
    import scipy.linalg  # noqa: F401, here, since only the libraries that are loaded are limited
    from threadpoolctl import threadpool_limits

    # Threads of BLAS that wait for each other made a fold up to fifty times slower.
    with ThreadPoolExecutor(threads) as pool, threadpool_limits(1):
        yield from pool.map(function, range(count))


def make_heads(
    job: Job, fold: FoldRows, num_features: int, sequence: tuple[int, int] | None
) -> tuple[HeadTrainer, RunInputs]:
    """Returns what trains the heads of a job on a fold, and their runs, one per seed."""
    trainer = HeadTrainer(job.config, len(fold.class_weights), num_features, sequence)  # equal ones compile once
    return trainer, make_runs(fold_keys(job.config, fold), job.config, fold)


def _fit_heads(
    job: Job, features: Any, sequence: tuple[int, int] | None, labels: np.ndarray, fold: FoldRows,
    show: Callable[[int, float], None],
) -> list[FoldOutcome]:  # fmt: skip
    """Trains the heads of a job on a fold, on an inner fold one of the first seed; returns an outcome per trial."""
    inner = not fold.validation_count
    trainer, runs = make_heads(job, fold, features.shape[1], sequence)
    if inner:
        runs = select_runs(runs, np.arange(1))
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
