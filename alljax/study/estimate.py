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
"""Steps of heads in a measurement, and how often one is made; the fastest counts."""


@dataclass(frozen=True)
class NetworkPace:
    """What fine-tuning a network takes, in seconds.

    Attributes:
        start: until everything is compiled; once a run.
        steps: a step, from each epoch on in which more begins to learn (see `groups.phases`).
        evaluation: a batch of validation or tested cells.
    """

    start: float
    steps: dict[int, float]
    evaluation: float

    def of_run(self, epochs: int, steps: int, validation_batches: int, test_batches: int) -> float:
        """Returns the seconds of one run.

        Args:
            epochs: of the run.
            steps: an epoch.
            validation_batches: an epoch.
            test_batches: after the last.
        """
        ends = [*list(self.steps)[1:], epochs]
        of_steps = sum(
            (end - first) * steps * each for (first, each), end in zip(self.steps.items(), ends, strict=True)
        )
        return self.start + of_steps + (epochs * validation_batches + test_batches) * self.evaluation


@dataclass(frozen=True)
class _MadeUp:
    """Noise, as a `pipeline.Source`."""

    labels: np.ndarray
    side: int

    def take(self, rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return _noise(len(rows), self.side)


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
    for networks, views in _passes(jobs, experiment):
        lines, of_pass = _feature_plan(networks, views, jobs[0].config, len(experiment.labels))
        yield from lines
        seconds += of_pass
    yield "\njobs:"
    rates: dict[str, Any] = {}
    for job in jobs:
        try:
            of_job = (_fine_tuning_seconds if job.config.train.mode == "finetune" else _head_seconds)(
                job, experiment, rates
            )
        except jax.errors.JaxRuntimeError as error:
            yield f"  {job.name}: {device_error(error)}"
            continue
        yield f"  {job.name}: {plural(len(job.trials), 'trial')}, about {duration(of_job)}"
        seconds += of_job
    yield f"\nabout {duration(seconds)} in total, without evaluation and report"


def device_error(error: Exception) -> str:
    """Returns the first line of a device's error, which can be pages long."""
    return "device error: " + str(error).strip().split("\n")[0][:200]


def _passes(jobs: Sequence[Job], experiment: Experiment) -> Iterator[tuple[list[Network], str]]:
    """Yields the passes through a backbone that the jobs need: networks that share one, and the views."""
    frozen = [trial for job in jobs for trial in job.trials if trial.config.train.mode == "frozen"]
    used = {id(experiment.network(trial)) for trial in frozen}
    for networks, views in experiment.missing_features():
        if needed := [network for network in networks if id(network) in used]:
            yield needed, views


def _feature_plan(networks: Sequence[Network], views: str, config: ConfigDict, count: int) -> tuple[list[str], float]:
    views_per_image = feature_extraction.VIEWS[views]
    rate = images_per_second(networks, config.features.batch_size) / views_per_image
    lines = [f"\nfeatures of {networks[0].backbone.name}: {rate:,.1f} images/s, about {duration(count / rate)}"]
    for network in networks:
        size = 4 * count * views_per_image * network.feature_count
        reason = feature_extraction.reason_to_stream(config.features.memory, size)
        read = f"; heads read them from disk: {reason}" if reason else ""
        lines.append(
            f"  {network.stage} {network.pool}: {count:,} × {network.feature_count:,}, {size / 1e6:,.0f} MB{read}"
        )
    return lines, count / rate


def _head_seconds(job: Job, experiment: Experiment, rates: dict[str, Any]) -> float:
    config, features = job.config, experiment.network(job.trials[0]).feature_count
    key = f"{compile_key(config)} {features} {len(job.trainings)}"
    rates[key] = rates.get(key) or head_steps_per_second(job, features)
    folds = experiment.folds(job.trials[0])
    steps = job.epochs * sum(steps_per_epoch(len(fold.train), config.train.batch_size) for fold in folds)
    return float(steps / rates[key] * len(job.trainings) * config.study.seeds)


def _fine_tuning_seconds(job: Job, experiment: Experiment, rates: dict[str, Any]) -> float:
    config, network, size = job.config, experiment.network(job.trials[0]), job.config.train.batch_size
    key = f"{id(network)} {config.train.groups} {config.augment} {config.mesh} {compile_key(config)} {job.epochs}"
    pace: NetworkPace = rates.get(key) or network_pace(config, network)
    rates[key], seconds = pace, 0.0
    for fold in experiment.folds(job.trials[0]):
        validation = fold.validation if len(fold.validation) else fold.test
        batches = [-(-len(rows) // size) for rows in (validation, fold.test)]
        seconds += pace.of_run(job.epochs, steps_per_epoch(len(fold.train), size), *batches)
    return seconds * int(config.study.seeds)


def images_per_second(networks: Sequence[Network], batch_size: int) -> float:
    """Returns the rate of one pass through the backbone that these networks share."""
    extract = feature_extraction.make_extractor(networks)
    variables, side = jax.device_put(networks[0].variables), networks[0].preprocessing.image_size
    images = jnp.asarray(_noise(batch_size, side))
    return batch_size / _timed(lambda: jax.block_until_ready(extract(variables, images)))[1]


def head_steps_per_second(job: Job, num_features: int) -> float:
    """Returns optimizer steps per second, over all heads of a job.

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

    return STEPS * len(keys) / _timed(train)[1]


def network_pace(config: ConfigDict, network: Network) -> NetworkPace:
    """Measures fine-tuning on one batch; what a step needs is compiled for it, as for every run.

    Args:
        config: of the cell.
        network: the backbone with its weights.
    """
    rows, key, devices = np.arange(config.train.batch_size), jax.random.key(0), sharding.make_mesh(config)
    labels = (rows % 2).astype(np.int32)
    fold = make_fold_rows(config, labels, 2, [Fold(0, 0, rows, rows)])[0]
    loader = FoldLoader(config, _MadeUp(labels, network.preprocessing.image_size), fold, key, devices)
    with contextlib.closing(loader.train(0)) as batches:
        trials = next(batches)
    steps: dict[int, float] = {}
    begun = time.perf_counter()
    tuner = FineTuner(config, network, 2, devices)
    run = tuner.inputs(key, np.ones(2, np.float32), config.train.epochs)
    held = [tuner.init(run)]  # a step reuses the memory of its state

    start = time.perf_counter() - begun
    first, evaluation = _timed(lambda: tuner.logits(held[0], trials))
    start += first - evaluation
    for epoch in parameter_groups.phases(tuner.groups, config.train.epochs):

        def step(epoch: int = epoch) -> None:
            held[0] = jax.block_until_ready(tuner.step(held[0], trials, run, epoch))

        first, steps[epoch] = _timed(step)
        start += first - steps[epoch]
    return NetworkPace(start, steps, evaluation)


def _noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds of the first call, which compiles, and of the fastest of those after it."""
    times = []
    for _ in range(1 + ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times[0], min(times[1:])
