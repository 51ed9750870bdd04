"""The plan of a study, with the time it takes as measured on a few steps."""

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from alljax import config as configs
from alljax import files
from alljax.data.splits import Fold
from alljax.errors import plural
from alljax.progress import duration
from alljax.study import sweep
from alljax.study.experiment import Experiment
from alljax.study.sweep import Job, Trial
from alljax.study.trials import make_heads
from alljax.training import classifiers
from alljax.training.feature_extraction import image_reader, sequence_of
from alljax.training.fine_tuning import FineTuner
from alljax.training.head_training import compile_key
from alljax.training.loop import FoldLoader
from alljax.training.sampling import make_fold_rows
from alljax.training.sharding import make_mesh

HEAD_STEPS = 24  # of each head, measured as one
PART = 500  # images on which selection and estimator are measured, with random features and few iterations


def print_plan(trials: Sequence[Trial], jobs: Sequence[Job], experiment: Experiment) -> None:
    """Prints what a study would do: trials, folds, features, and the time of each job that would be run now."""
    print(f"{plural(len(trials), 'trial')} in {plural(len(sweep.jobs(trials)), 'training')}")
    if (now := sum(len(job.trials) for job in jobs)) < len(trials):
        print(f"{now} of them would be trained now; the others are finished or belong to other shards")
    print("\nfolds (training / test images):")
    for name, division in experiment.divisions.items():
        first = division.splits[0]
        print(f"  {name}: {len(division.splits)} × {len(first.train):,} / {len(first.test):,}")
    total, batches = 0.0, len(experiment.dataset.labels) / experiment.config.features.batch_size
    for sources in experiment.extractor.missing().values() if jobs else ():
        times, cores = [time.perf_counter()], files.cpu_cores()
        times += [time.perf_counter() for _ in itertools.islice(experiment.extractor.blocks(sources), 3 * cores + 3)]
        without_first = times[cores + 1 :] if len(times) > cores + 2 else times  # those wait to be compiled
        seconds = batches * float(np.mean(np.diff(without_first)))
        counts = " and ".join(f"{source.feature_count:,}" for source in sources)
        print(f"\nfeatures of {sources[0].name} ({counts} per image): about {duration(seconds)}")
        total += seconds
    print("\njobs:")
    measured: dict[Any, tuple[float, float]] = {}
    for job in jobs:
        try:
            seconds = _job_seconds(job, experiment, measured)
        except jax.errors.JaxRuntimeError as error:
            print(f"  {job.name}: device error: " + str(error).partition("\n")[0][:200])
            continue
        epochs = ", ".join(str(trial.config.train.epochs) for trial in job.trials)
        kind = f"{epochs} epochs" if sweep.has_epochs(job.config) else job.config.classifier.name
        print(f"  {job.name}: {plural(len(job.trials), 'trial')}, {kind}, about {duration(seconds)}")
        total += seconds
    print(f"\nabout {duration(total)} in total, without evaluation and report")


def _job_seconds(job: Job, experiment: Experiment, measured: dict[Any, tuple[float, float]]) -> float:
    """Returns the time to train a job; adds what it measures to `measured`."""
    folds, size, fitting, width = experiment.folds(job.trials[0]), job.config.train.batch_size, 0.0, 0
    if job.frozen:
        with threadpool_limits(1):  # as in `trials`, where each core fits a fold
            fitting, width = _measure_pipeline(job, experiment)
    if not sweep.has_epochs(job.config):
        return fitting
    key = id(experiment.networks.get(job.trials[0].name)), width, compile_key(job.config)
    if key not in measured:
        measured[key] = _measure(_head_steps(job, experiment, width) if job.frozen else _network_steps(job, experiment))
    compilation, step = measured[key]
    if job.frozen:
        measured[key] = 0.0, step  # later jobs use the same compiled functions
        step /= HEAD_STEPS * job.config.study.seeds
    steps = sum(math.ceil(len(fold.train) / size) for fold in folds)
    evaluated = sum(math.ceil((len(fold.validation) or len(fold.test)) / size) for fold in folds)
    inner = itertools.chain(*experiment.inner_folds[job.trials[0].split]) if job.frozen else ()
    steps += sum(math.ceil(len(part.train) / size) for part in inner) / job.config.study.seeds  # of the first seed only
    # There is no backward pass in an evaluation.
    return float(fitting + compilation + job.cost * step * (steps + evaluated / 3))


def _measure_pipeline(job: Job, experiment: Experiment) -> tuple[float, int]:
    """Returns the time to select features and fit estimators in all folds and inner folds, and the features left."""
    config, trial, generator = job.config, job.trials[0], np.random.default_rng(0)
    splits = [*experiment.folds(trial), *itertools.chain(*experiment.inner_folds[trial.split])]
    salps = "salp_swarm" in config.features.select
    # A salp swarm takes as long with as many images as features that it gets after `anova` as with all images.
    rows = generator.permutation(splits[0].train)[: max(PART, salps * config.features.keep)]
    width = sum(source.feature_count for source in experiment.sources[trial.name])
    if sweep.has_epochs(job.config) and not config.features.select:
        return 0.0, width
    features, labels = generator.standard_normal((len(rows), width), np.float32), experiment.dataset.labels[rows]
    subjects = np.unique(np.array(experiment.subjects)[rows], return_inverse=True)[1]
    part = [Fold(0, 0, np.arange(len(rows)), np.arange(2))]
    (fold,) = make_fold_rows(config, labels, experiment.num_classes, part)
    repeated, selected = np.mean([len(split.train) for split in splits]) / len(rows), features
    times = [time.perf_counter()]
    for iterations in (1, 1, 5):  # the first imports scikit-learn
        if config.features.select:
            changed = configs.vary(config, {"features.iterations": iterations})
            _, selected = classifiers.select(changed, features, labels, subjects, fold)
        if not sweep.has_epochs(config):
            classifiers.fit_estimators(config, selected, labels, fold, 1)
        times.append(time.perf_counter())
    _, once, several = np.diff(times)
    seconds = once * repeated
    if salps:
        seconds += (config.features.iterations - 1) * max(several - once, 0) / 4
    return float(seconds * len(splits) / files.cpu_cores()), selected.shape[1]


def _head_steps(job: Job, experiment: Experiment, width: int) -> Iterator[None]:
    """Trains all heads of a job on equal features (n, width), `HEAD_STEPS` steps at a time."""
    config, sequence = job.config, sequence_of(job.config, experiment.sources[job.trials[0].name])
    rows = np.arange(HEAD_STEPS * config.train.batch_size)
    labels = (rows % experiment.num_classes).astype(np.int32)
    fold = make_fold_rows(config, labels, experiment.num_classes, [Fold(0, 0, rows, rows[:2])])[0]
    trainer, runs = make_heads(job, fold, width, sequence)
    features, state = jnp.ones((len(rows), width)), trainer.init(runs.key)
    while True:
        state = jax.block_until_ready(trainer.train_epoch(state, runs, features, labels, fold, 0))
        yield


def _network_steps(job: Job, experiment: Experiment) -> Iterator[None]:
    """Trains a network with one batch; in the last epoch most layers are trained."""
    config, network, key = job.config, experiment.networks[job.trials[0].name], jax.random.key(0)
    mesh, folds = make_mesh(config), experiment.folds(job.trials[0])
    fold = make_fold_rows(config, experiment.dataset.labels, experiment.num_classes, folds)[0]
    batch = next(FoldLoader(config, image_reader(experiment.dataset, network), fold, key, mesh).train(0))
    tuner = FineTuner(config, network, experiment.num_classes, mesh)
    run = tuner.inputs(key, fold.class_weights, config.train.epochs)
    state = tuner.init(run)
    while True:
        state = jax.block_until_ready(tuner.step(state, batch, run, config.train.epochs - 1))
        yield


def _measure(steps: Iterable[Any]) -> tuple[float, float]:
    """Returns the seconds of the first step, which compiles, and of the fastest of four."""
    times = [time.perf_counter()]
    times += [time.perf_counter() for _ in itertools.islice(steps, 4)]
    seconds = np.diff(times)
    return float(seconds[0]), float(seconds.min())
