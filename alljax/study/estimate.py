"""The plan of a study, with the time it takes as measured on random images and features."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alljax.data.splits import Fold
from alljax.errors import plural
from alljax.progress import duration
from alljax.study import sweep
from alljax.study.experiment import Experiment
from alljax.study.sweep import Job, Trial
from alljax.training import feature_extraction, sharding
from alljax.training.fine_tuning import FineTuner
from alljax.training.fold_loader import FoldLoader
from alljax.training.head_training import FoldData, HeadTrainer, compile_key, make_runs
from alljax.training.network import Network
from alljax.training.sampling import make_fold_rows, steps_per_epoch

STEPS = 24
"""Steps of heads per measurement."""


def plan(trials: Sequence[Trial], jobs: Sequence[Job], experiment: Experiment) -> Iterator[str]:
    """Yields what a study would do, in lines: trials, folds, features, and the time of each job.

    Args:
        trials: of the study.
        jobs: that would be run now.
        experiment: images, folds and networks.
    """
    yield f"\n{plural(len(trials), 'trial')} in {plural(len(sweep.trainings(trials)), 'training')}"
    if (now := sum(len(job.trials) for job in jobs)) < len(trials):
        yield f"{now} of them would be trained now; the others are finished or belong to other shards"
    yield "\nfolds (training / test images):"
    for name, division in experiment.divisions.items():
        yield f"  {name}: {len(division.folds)} × {len(division.folds[0].train):,} / {len(division.folds[0].test):,}"
    seconds = 0.0
    used = {id(experiment.network(job.trials[0])) for job in jobs if job.frozen}
    for networks, views in experiment.extractor.missing():
        if needed := [network for network in networks if id(network) in used]:
            rows = len(experiment.labels) * feature_extraction.VIEWS[views]
            of_pass = rows * image_seconds(needed, jobs[0].config)
            shapes = (f"{network.stage} {network.pool}, {network.feature_count:,} per image" for network in needed)
            yield f"\nfeatures of {needed[0].backbone.name} ({'; '.join(shapes)}): about {duration(of_pass)}"
            seconds += of_pass
    yield "\njobs:"
    measured: dict[str, Any] = {}
    for job in jobs:
        epochs = ", ".join(str(trial.config.train.epochs) for trial in job.trainings[0])
        try:
            of_job = job_seconds(job, experiment, measured)
        except jax.errors.JaxRuntimeError as error:
            yield f"  {job.name}: {device_error(error)}"
            continue
        yield f"  {job.name}: {plural(len(job.trials), 'trial')}, {epochs} epochs, about {duration(of_job)}"
        seconds += of_job
    yield f"\nabout {duration(seconds)} in total, without evaluation and report"


def device_error(error: Exception) -> str:
    """Returns the first line of a device's error, which can be pages long."""
    return "device error: " + str(error).strip().split("\n")[0][:200]


def job_seconds(job: Job, experiment: Experiment, measured: dict[str, Any]) -> float:
    """Returns the time to train a job, from the time of one step.

    Args:
        job: of the study.
        experiment: images, folds and networks.
        measured: results of earlier jobs, by what they have in common.
    """
    config, network, folds = job.config, experiment.network(job.trials[0]), experiment.folds(job.trials[0])
    size = config.train.batch_size
    steps = sum(steps_per_epoch(len(fold.train), size) for fold in folds)
    kind = f"{id(network)} {compile_key(config)} {config.mesh} {config.augment} {len(job.trainings)}"
    if job.frozen:
        measured[kind] = measured.get(kind) or head_step_seconds(job, network.feature_count)
        return float(job.cost * steps * measured[kind])
    measured[kind] = measured.get(kind) or network_seconds(config, network)
    compilation, step = measured[kind]
    evaluated = sum(steps_per_epoch(len(fold.validation) or len(fold.test), size) for fold in folds)
    return float(compilation + job.cost * step * (steps + evaluated / 3))  # no backward pass in an evaluation


def head_step_seconds(job: Job, num_features: int) -> float:
    """Returns the time of an optimizer step of one head, where all heads of a job are trained side by side."""
    config, seeds = job.config, job.config.study.seeds
    rows = np.arange(STEPS * config.train.batch_size)
    features = np.random.default_rng(0).normal(size=(len(rows), 1, num_features)).astype(np.float32)
    labels = (rows % 2).astype(np.int32)
    fold = make_fold_rows(config, labels, 2, [Fold(0, 0, rows, rows[:2])])[0]
    trainer = HeadTrainer(config, 2, num_features)
    keys = jax.vmap(jax.random.key)(jnp.arange(len(job.trainings) * seeds))
    runs = make_runs(keys, [training[-1].config for training in job.trainings for _ in range(seeds)], fold)
    data, state = jax.device_put(FoldData(features, labels, fold)), [trainer.init(keys)]

    def train() -> None:
        state[0], history = trainer.train_epochs(state[0], runs, data, np.arange(1))
        jax.block_until_ready(history)

    return _timed(train)[1] / (STEPS * len(keys))


def network_seconds(config: ConfigDict, network: Network) -> tuple[float, float]:
    """Returns the times of compilation and of a step of the last epoch, in which most layers are trained."""
    rows, key, mesh = np.arange(config.train.batch_size), jax.random.key(0), sharding.make_mesh(config)
    labels = (rows % 2).astype(np.int32)
    fold = make_fold_rows(config, labels, 2, [Fold(0, 0, rows, rows)])[0]
    source = _RandomImages(labels, network.preprocessing.image_size)
    with contextlib.closing(FoldLoader(config, source, fold, key, mesh).train(0)) as batches:
        batch = next(batches)
    tuner = FineTuner(config, network, 2, mesh)
    run = tuner.inputs(key, np.ones(2, np.float32), config.train.epochs)
    state = [tuner.init(run)]  # a step reuses the memory of its state

    def step() -> None:
        state[0] = jax.block_until_ready(tuner.step(state[0], batch, run, config.train.epochs - 1))

    return _timed(step)


def image_seconds(networks: Sequence[Network], config: ConfigDict) -> float:
    """Returns the time per image of extracting the features of several networks in one pass."""
    extract = feature_extraction.make_extractor(networks)
    variables, size = jax.device_put(networks[0].variables), networks[0].preprocessing.image_size
    images = jnp.asarray(_RandomImages(np.zeros(1), size).take(np.arange(config.features.batch_size)))
    of_batch = _timed(lambda: jax.block_until_ready(extract(variables, images)))[1]
    return of_batch / config.features.batch_size


@dataclass(frozen=True)
class _RandomImages:
    """An `ImageSource` of random images."""

    labels: np.ndarray
    image_size: int

    def take(self, rows: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (len(rows), self.image_size, self.image_size, 3), np.uint8)


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds of the first call, which compiles, and of the fastest of three later ones."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times[0], min(times[1:])
