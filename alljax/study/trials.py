"""The frozen cells of a study: runs of heads, several cells out of one run, several runs in one compiled call."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax import interrupts, progress
from alljax.data.splits import Fold
from alljax.errors import ConfigError
from alljax.progress import Advance
from alljax.study import finetuned, sweep
from alljax.study.experiment import Experiment
from alljax.study.extraction import on_disk
from alljax.study.sweep import Job, Training, Trial
from alljax.training import head_training, streamed
from alljax.training.fold import make_folds
from alljax.training.head_training import Curves, HeadFunctions, HeadRuns

SIDE_BY_SIDE = 64
"""Heads that are trained at once on an accelerator."""


@dataclass(frozen=True)
class Outcome:
    """The trained heads or networks of a trial.

    Attributes:
        runs: one `HeadRuns` per fold, R seeds each, on the host.
        parameters: ``heads`` or ``networks``, what the parameters of `runs` are.
        seconds: from the start of the call that trained them, and perhaps other trials.
        feature_seconds: to compute or read the features.
        features: their number; 0 for networks.
    """

    runs: list[HeadRuns]
    parameters: str
    seconds: float
    feature_seconds: float = 0.0
    features: int = 0


def train_job(job: Job, experiment: Experiment, folder: Path) -> Iterator[tuple[Trial, Outcome | ConfigError]]:
    """Trains the trials of a job; yields each as soon as it is finished, fewer epochs first.

    Args:
        job: from `sweep.jobs`.
        experiment: the images, folds and networks.
        folder: the working directory of the study; unfinished networks are stored there.

    Yields:
        The trial with its outcome, or with an error where its loss became NaN.

    Raises:
        UserError: nothing of the job can be trained.
    """
    if job.config.train.mode == "finetune":
        trial, start = job.trials[0], time.perf_counter()
        runs = finetuned.train_trial(trial, experiment, folder / "trials" / trial.name)
        yield trial, Outcome(runs, "networks", time.perf_counter() - start)
        return
    start = time.perf_counter()
    matrix = experiment.features(job.trials[0])
    feature_seconds = time.perf_counter() - start
    trainer = experiment.shared.setdefault("trainer", Trainer())
    at_once = max(1, SIDE_BY_SIDE // job.config.study.seeds)
    for first in range(0, len(job.trainings), at_once):
        part = replace(job, trainings=job.trainings[first : first + at_once])
        for trial, found in trainer.train(part, matrix, experiment):
            if isinstance(found, ConfigError):
                yield trial, found
            else:
                runs, seconds = found
                yield trial, Outcome(runs, "heads", seconds, feature_seconds, matrix.shape[2])


class Trainer:
    """Trains runs of heads; keeps what was compiled, and the features on the device, for the next ones."""

    def __init__(self) -> None:
        """Compiles nothing yet."""
        self._compiled: dict[str, HeadFunctions] = {}
        self._features: tuple[np.ndarray | None, jax.Array | None] = None, None

    def train(
        self, job: Job, matrix: np.ndarray, experiment: Experiment
    ) -> Iterator[tuple[Trial, tuple[list[HeadRuns], float] | ConfigError]]:
        """Yields the trials of a job as soon as each is finished, fewer epochs first.

        Args:
            job: its runs are trained side by side; on a CPU one at a time is as fast.
            matrix: features (N, V, D), in memory or on disk.
            experiment: labels and folds.

        Yields:
            The trial with its heads and seconds, or with an error where its loss became NaN.
        """
        runs, splits = job.trainings, experiment.folds(job.trials[0])
        config, classes = runs[0][0].config, experiment.num_classes
        seeds, budgets = config.study.seeds, [trial.config.train.epochs for trial in runs[0]]
        heads, features = self._functions(config, classes, matrix)
        labels = jnp.asarray(experiment.labels)
        run_configs = [run[-1].config for run in runs for _ in range(seeds)]
        folds = make_folds(config, experiment.labels, classes, splits)
        start, lost, stride = time.perf_counter(), set[int](), job.epochs_per_call
        with progress.bar(f"heads {job.name}", budgets[-1] * len(folds), "epochs") as advance:
            trainings = [
                head_training.train_heads(
                    heads,
                    budgets,
                    _keys(runs, split),
                    head_training.stack(run_configs, fold),
                    features,
                    labels,
                    fold,
                    _watcher(advance),
                    stride,
                )
                for split, fold in zip(splits, folds, strict=True)
            ]
            # All folds reach a budget before any goes on: the cell is done then, and its parameters can leave memory.
            for place, of_splits in enumerate(zip(*trainings, strict=True)):
                on_host = jax.device_get(list(of_splits))
                seconds = time.perf_counter() - start
                for number, run in enumerate(runs):
                    own = [_part(each, slice(number * seeds, (number + 1) * seeds)) for each in on_host]
                    if number in lost:
                        continue
                    if problem := _diverged(run[place].config, own, splits):
                        lost.add(number)
                        for trial in run[place:]:
                            yield trial, ConfigError(problem)
                    else:
                        yield run[place], (own, seconds)
                if len(lost) == len(runs):
                    break

    def _functions(
        self, config: ConfigDict, classes: int, matrix: np.ndarray
    ) -> tuple[HeadFunctions, jax.Array | np.ndarray]:
        why = on_disk(config.features.memory, matrix.nbytes)
        flat = matrix.reshape(-1, matrix.shape[2])
        key = f"{bool(why)} {classes} {sweep.compile_key(config)}"
        if key not in self._compiled:
            make = streamed.make_heads if why else head_training.make_heads
            self._compiled[key] = make(config, classes)
        if why:
            logging.info(
                f"features {matrix.shape[0]:,} × {matrix.shape[2]:,} are read from disk while heads learn: {why}"
            )
            return self._compiled[key], flat
        if self._features[0] is not matrix:
            self._features = None, None  # the old ones leave the device first
            # jnp.asarray would copy twice, and eight views of ten thousand images take most of a gigabyte.
            self._features = matrix, jax.device_put(flat)
        assert self._features[1] is not None
        return self._compiled[key], self._features[1]


def keys(config: ConfigDict, split: Fold) -> jax.Array:
    """Returns the key of each seed's run on a split, (R,).

    Without ``study.share_training`` runs of different lengths have different keys.
    """

    def key(seed: int) -> jax.Array:
        own = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), split.repeat), split.fold)
        return jax.random.fold_in(own, config.train.epochs) if not config.study.share_training else own

    return jnp.stack([key(config.seed + number) for number in range(config.study.seeds)])


def _watcher(advance: Advance) -> Callable[[Curves], None]:
    """Returns what shows the curve of a fold."""
    curve: list[float] = []

    def watch(new: Curves) -> None:
        interrupts.check()
        curve.extend(new.val_accuracy.mean(1).tolist())
        advance(len(new.val_accuracy), f"{progress.sparkline(curve)} validation accuracy {curve[-1]:.3f}")

    return watch


def _keys(runs: Sequence[Training], split: Fold) -> jax.Array:
    return jnp.concatenate([keys(run[-1].config, split) for run in runs])


def _part(run: HeadRuns, own: slice) -> HeadRuns:
    """Returns some of the runs that were trained side by side."""
    return HeadRuns(
        jax.tree.map(lambda leaf: leaf[own], run.params),
        jax.tree.map(lambda leaf: leaf[:, own], run.curves),
        run.probabilities[own],
    )


def _diverged(config: ConfigDict, runs: Sequence[HeadRuns], splits: Sequence[Fold]) -> str:
    """Returns what to tell where a loss is no number: the first epoch and seed; else nothing."""
    for run, split in zip(runs, splits, strict=True):
        bad = np.argwhere(~np.isfinite(run.curves.train_loss + run.curves.val_loss))
        if len(bad):
            epoch, seed = bad[0]
            return (
                f"the loss is no number any more in epoch {epoch + 1} (seed {config.seed + seed}, fold {split.fold}); "
                f"lower train.learning_rate={config.train.learning_rate:g}"
            )
    return ""
