"""Fine-tuning: one run from its first step, or from its newest checkpoint, to its last."""

import contextlib
import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.errors import ConfigError, Stopped
from alljax.interrupts import stop_requested
from alljax.progress import Update
from alljax.training.checkpoints import CheckpointManager
from alljax.training.feeding import Feed
from alljax.training.learner import Learner, memory
from alljax.training.metric_writers import MetricWriter, profiler
from alljax.training.parameter_groups import phases
from alljax.training.step import Metrics


@dataclass(frozen=True)
class Trained:
    """What a run leaves.

    Attributes:
        params: what learned, flat: path → float32; averaged where ``train.ema_decay`` asks for it.
        batch_stats: the backbone's statistics.
        history: one row an epoch: train loss and accuracy, validation loss and accuracy.
        logits: float32 (U, C), of the test rows in their order.
    """

    params: dict[str, np.ndarray]
    batch_stats: Any
    history: list[list[float]]
    logits: np.ndarray


def train_network(config: ConfigDict, learner: Learner, feed: Feed, folder: Path, advance: Update) -> Trained:
    """Trains one network; goes on from the newest whole checkpoint in `folder`.

    At any step, however it was stopped, the same call ends in the same bits as one that never was.

    Args:
        config: its ``train`` and ``profile`` are read.
        learner: parameters and compiled steps.
        feed: the batches.
        folder: of this run: ``checkpoints/``, ``metrics.jsonl``, ``tensorboard/``.
        advance: told of each step's images.

    Raises:
        ConfigError: the loss is no number any more.
        WorkdirError: a checkpoint cannot be written.
        Stopped: somebody asked the run to stop; it is saved.
    """
    train, steps = config.train, feed.steps_per_epoch
    with contextlib.ExitStack() as stack:
        checkpoints = CheckpointManager(
            folder / "checkpoints", train.keep_latest, train.keep_best, learner.abstract, f"{steps} steps per epoch"
        )
        stack.callback(checkpoints.close)
        finite = functools.partial(_finite, checkpoints, train.learning_rate)
        if start := checkpoints.latest:
            tree, record = checkpoints.load(start)
            (state, epoch_sums), history = learner.devices.loaded(tree), record["history"]
            logging.info(f"goes on after step {start:,}")
            advance(start // steps * feed.train_count + start % steps * train.batch_size)
        else:
            state, epoch_sums, history = learner.start(), learner.zero(), []
        logging.info(learner.describe(state))
        logs = MetricWriter(folder, train.loggers, start, configs.flatten(config))
        stack.callback(logs.close)
        trace = stack.enter_context(profiler(config.profile, start, folder))
        stack.enter_context(jax.transfer_guard("disallow"))
        step, last_logged, clock = start, start, time.perf_counter()
        batches = stack.enter_context(contextlib.closing(feed.training(start)))
        while step < train.epochs * steps and not _waited(history, train.patience):
            epoch, place = divmod(step, steps)
            if step == start or (place == 0 and epoch in phases(learner.groups, train.epochs)):
                learn = learner.compile(epoch)
            trace(step, state)
            with jax.profiler.StepTraceAnnotation("step", step_num=step):
                state, sums = learn(state, next(batches))
            epoch_sums = learner.add(epoch_sums, sums)
            step += 1
            loss = None
            if step % train.log_steps == 0 or place == steps - 1:
                numbers = dict(zip(("loss", "accuracy"), _means(learner.devices.gather(sums)), strict=True))
                finite(numbers.values(), last_logged, step)
                rate = (step - last_logged) * train.batch_size / (time.perf_counter() - clock)
                last_logged, clock = step, time.perf_counter()
                logs.write(step, numbers | {"images_per_second": rate})
                advance(0, f"loss {numbers['loss']:.3f} {memory()}")
            if place == steps - 1:
                history.append([*_means(learner.devices.gather(epoch_sums)), *feed.validate(learner, state)])
                finite(history[-1], last_logged, step)
                names = ("epoch_loss", "epoch_accuracy", "val_loss", "val_accuracy")
                logs.write(step, dict(zip(names, history[-1], strict=True)))
                loss, epoch_sums = history[-1][2] if feed.set_aside else None, learner.zero()
                clock = time.perf_counter()
            best = loss in sorted(row[2] for row in history)[: train.keep_best]
            stop = stop_requested(step)
            if step % train.checkpoint_steps == 0 or best or stop:
                finite([learner.finite((state, epoch_sums)) or np.nan], last_logged, step)
                record = {"history": history, "config": configs.flatten(config)}
                checkpoints.save(step, learner.devices.stored((state, epoch_sums)), record, loss)
            checkpoints.check()
            advance(min(train.batch_size, feed.train_count - place * train.batch_size))
            if stop:
                checkpoints.wait()
                raise Stopped(f"stopped after step {step:,} of {train.epochs * steps:,}, saved in {checkpoints.folder}")
        if train.patience:
            checkpoints.wait()
            state, _ = learner.devices.loaded(checkpoints.load(_best_step(history, steps))[0])
        return Trained(*learner.result(state), history, feed.logits(learner, state, feed.test))


def _waited(history: Sequence[Sequence[float]], patience: int) -> bool:
    """Says whether the validation loss has not fallen for `patience` epochs."""
    losses = [row[2] for row in history]
    return patience > 0 and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _best_step(history: Sequence[Sequence[float]], steps: int) -> int:
    return (int(np.argmin([row[2] for row in history])) + 1) * steps


def _means(sums: Metrics) -> tuple[float, float]:
    return float(sums.loss / sums.count), float(sums.correct / sums.count)


def _finite(checkpoints: CheckpointManager, rate: float, values: Iterable[Any], before: int, step: int) -> None:
    """Raises unless all values at a step are numbers; those logged at the step `before` were."""
    if all(np.isfinite(value).all() for value in values):
        return
    checkpoints.wait()
    good = checkpoints.latest
    place = f"the last good checkpoint is step {good:,} in {checkpoints.folder}" if good else "none was saved before"
    raise ConfigError(
        f"the loss or a parameter is no number any more between steps {max(before, 1):,} and {step:,}; {place}; lower "
        f"train.learning_rate={rate:g} or set train.clip_norm, and go on with --resume=force or begin anew"
    )
