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
from alljax.training import feature_extraction, parameter_groups, sharding
from alljax.training.fine_tuning import FineTuner
from alljax.training.fold_loader import FoldLoader
from alljax.training.head_training import FoldData, HeadTrainer, compile_key, make_runs
from alljax.training.network import Network
from alljax.training.sampling import make_fold_rows, steps_per_epoch

STEPS, ROUNDS = 24, 3
"""Steps of heads per measurement, and number of measurements; the fastest counts."""


def plan(trials: Sequence[Trial], jobs: Sequence[Job], experiment: Experiment) -> Iterator[str]:
    """Yields what a study would do, in lines: trials, folds, features, and the time of each job.

    Args:
        trials: of the study.
        jobs: that would be run now.
        experiment: images, folds and networks.
    """
    trainings = sweep.trainings(trials)
    yield f"\n{plural(len(trials), 'trial')} in {plural(len(trainings), 'training')}:"
    for training in trainings:
        epochs = ", ".join(str(trial.config.train.epochs) for trial in training)
        yield f"  {Job((training,), 1).name}: {epochs} epochs" + (", prefixes of one training" * (len(training) > 1))
    now = sum(len(job.trials) for job in jobs)
    if now < len(trials):
        yield f"{now} of them would be trained now; the others are finished or belong to other shards"
    yield "\nfolds (training / test images):"
    for name, division in experiment.divisions.items():
        fold, more = division.folds[0], len(division.folds) - 1
        yield f"  {name}: {len(fold.train):,} / {len(fold.test):,}" + (
            f" and {plural(more, 'other fold')}" * bool(more)
        )
    seconds = 0.0
    frozen = [trial for job in jobs for trial in job.trials if trial.config.train.mode == "frozen"]
    used = {id(experiment.network(trial)) for trial in frozen}
    for networks, views in experiment.missing_features():
        if needed := [network for network in networks if id(network) in used]:
            line, of_pass = _feature_plan(needed, views, jobs[0].config, len(experiment.labels))
            yield line
            seconds += of_pass
    yield "\njobs:"
    measured: dict[str, Any] = {}
    for job in jobs:
        try:
            of_job = job_seconds(job, experiment, measured)
        except jax.errors.JaxRuntimeError as error:
            yield f"  {job.name}: {device_error(error)}"
            continue
        yield f"  {job.name}: {plural(len(job.trials), 'trial')}, about {duration(of_job)}"
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
    size, seeds = config.train.batch_size, config.study.seeds
    steps = [steps_per_epoch(len(fold.train), size) for fold in folds]
    key = f"{id(network)} {config.train.groups} {config.augment} {config.mesh} {compile_key(config)} {job.epochs}"
    if config.train.mode == "frozen":
        key += f" {len(job.trainings)}"
        measured[key] = measured.get(key) or head_step_seconds(job, network.feature_count)
        return float(job.cost * sum(steps) * measured[key])
    measured[key] = measured.get(key) or network_seconds(config, network)
    compilation, phases, evaluation = measured[key]
    ends = [*list(phases)[1:], job.epochs]
    per_step = sum((end - first) * step for (first, step), end in zip(phases.items(), ends, strict=True))
    batches = sum(
        job.epochs * steps_per_epoch(len(fold.validation) or len(fold.test), size)
        + steps_per_epoch(len(fold.test), size)
        for fold in folds
    )
    return float(compilation + seeds * (per_step * sum(steps) + evaluation * batches))


def head_step_seconds(job: Job, num_features: int) -> float:
    """Returns the time of an optimizer step of one head, where all heads of a job are trained side by side.

    Args:
        job: frozen trials.
        num_features: D.
    """
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


def network_seconds(config: ConfigDict, network: Network) -> tuple[float, dict[int, float], float]:
    """Measures fine-tuning on one batch of random images.

    Args:
        config: of the trial.
        network: the backbone with its weights.

    Returns:
        The time of compilation; that of a step, by the epoch in which a phase begins (`parameter_groups.phases`); and
        that of evaluating a batch.
    """
    rows, key, mesh = np.arange(config.train.batch_size), jax.random.key(0), sharding.make_mesh(config)
    labels = (rows % 2).astype(np.int32)
    fold = make_fold_rows(config, labels, 2, [Fold(0, 0, rows, rows)])[0]
    source = _RandomImages(labels, network.preprocessing.image_size)
    with contextlib.closing(FoldLoader(config, source, fold, key, mesh).train(0)) as batches:
        batch = next(batches)
    begun = time.perf_counter()
    tuner = FineTuner(config, network, 2, mesh)
    run = tuner.inputs(key, np.ones(2, np.float32), config.train.epochs)
    state = [tuner.init(run)]  # a step reuses the memory of its state
    compilation = time.perf_counter() - begun
    first, evaluation = _timed(lambda: tuner.logits(state[0], batch))
    compilation += first - evaluation
    steps: dict[int, float] = {}
    for epoch in parameter_groups.phases(tuner.groups, config.train.epochs):

        def step(epoch: int = epoch) -> None:
            state[0] = jax.block_until_ready(tuner.step(state[0], batch, run, epoch))

        first, steps[epoch] = _timed(step)
        compilation += first - steps[epoch]
    return compilation, steps, evaluation


def _feature_plan(networks: Sequence[Network], views: str, config: ConfigDict, count: int) -> tuple[str, float]:
    """Returns a line on the features that networks extract in one pass, and its time."""
    extract = feature_extraction.make_extractor(networks)
    variables, size = jax.device_put(networks[0].variables), networks[0].preprocessing.image_size
    images = jnp.asarray(_RandomImages(np.zeros(1), size).take(np.arange(config.features.batch_size)))
    of_batch = _timed(lambda: jax.block_until_ready(extract(variables, images)))[1]
    rows = count * feature_extraction.VIEWS[views]
    seconds, shapes = rows * of_batch / config.features.batch_size, []
    for network in networks:
        reason = feature_extraction.reason_to_stream(config.features.memory, 4 * rows * network.feature_count)
        read = f", read from disk: {reason}" if reason else ""
        shapes.append(f"{network.stage} {network.pool}: {count:,} × {network.feature_count:,}{read}")
    return f"\nfeatures of {networks[0].backbone.name} ({'; '.join(shapes)}): about {duration(seconds)}", seconds


@dataclass(frozen=True)
class _RandomImages:
    """An `ImageSource` of random images."""

    labels: np.ndarray
    image_size: int

    def take(self, rows: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (len(rows), self.image_size, self.image_size, 3), np.uint8)


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds of the first call, which compiles, and of the fastest later one."""
    times = []
    for _ in range(1 + ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times[0], min(times[1:])
