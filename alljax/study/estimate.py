"""How fast this machine is at what a study does, measured on made-up images and features."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alljax.data.splits import Split
from alljax.study.trials import Run
from alljax.training import feature_extraction, head_training, parameter_groups, sharding
from alljax.training.feeding import Feed
from alljax.training.fold import make_folds
from alljax.training.learner import Learner
from alljax.training.network import Network

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


def images_per_second(networks: Sequence[Network], batch_size: int) -> float:
    """Returns the rate of one pass through the backbone that these networks share."""
    extract = feature_extraction.make_extractor(networks)
    variables, side = jax.device_put(networks[0].variables), networks[0].preprocessing.image_size
    images = jnp.asarray(_noise(batch_size, side))
    return batch_size / _timed(lambda: jax.block_until_ready(extract(variables, images)))[1]


def head_steps_per_second(group: Sequence[Run], width: int) -> float:
    """Returns optimizer steps a second, over all heads of runs that are trained at once.

    Args:
        group: from `heads.together`.
        width: of the features.
    """
    config, seeds = group[0][-1].config, group[0][-1].config.study.seeds
    rows = np.arange(STEPS * config.train.batch_size)
    drawn = np.random.default_rng(0)
    matrix = jnp.asarray(drawn.normal(size=(len(rows), width)).astype(np.float32))
    labels = (rows % 2).astype(np.int32)
    fold = make_folds(config, labels, 2, [Split(0, 0, rows, rows[:2])])[0]
    trainer = head_training.make_heads(config, 2)
    keys = jax.vmap(jax.random.key)(jnp.arange(len(group) * seeds))
    numbers = head_training.stack([each[0].config for each in group for _ in range(seeds)], fold)
    states = trainer.start(keys, numbers, matrix[:1])
    arguments = states, keys, numbers, matrix, jnp.asarray(labels), fold, jnp.arange(1)
    return STEPS * len(keys) / _timed(lambda: jax.block_until_ready(trainer.epochs(*arguments)))[1]


def network_pace(config: ConfigDict, network: Network) -> NetworkPace:
    """Measures fine-tuning on one batch; what a step needs is compiled for it, as for every run.

    Args:
        config: of the cell.
        network: the backbone with its weights.
    """
    rows, key, devices = np.arange(config.train.batch_size), jax.random.key(0), sharding.make_mesh(config)
    labels = (rows % 2).astype(np.int32)
    fold = make_folds(config, labels, 2, [Split(0, 0, rows, rows)])[0]
    feed = Feed(config, _MadeUp(labels, network.preprocessing.image_size), fold, key, devices)
    with contextlib.closing(feed.training(0)) as batches:
        trials = next(batches)
    steps: dict[int, float] = {}
    begun = time.perf_counter()
    learner = Learner(config, network, 2, key, np.ones(2), config.train.epochs, devices)
    held = [learner.start()]  # a step takes the memory of the state it is given

    start = time.perf_counter() - begun
    first, evaluation = _timed(lambda: learner.logits(held[0], trials))
    start += first - evaluation
    for epoch in parameter_groups.phases(learner.groups, config.train.epochs):
        learn = learner.compile(epoch)

        def step(learn: Callable[..., Any] = learn) -> None:
            held[0], sums = learn(held[0], trials)
            jax.block_until_ready(sums)

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
