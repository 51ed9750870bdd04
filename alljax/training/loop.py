"""Fine-tuning: one run from its first step, or from its newest checkpoint, to its last."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.errors import ConfigError, Stopped
from alljax.progress import Advance, Say
from alljax.training.checkpoint import Checkpoints
from alljax.training.feeding import Feed
from alljax.training.groups import phases
from alljax.training.learner import Learner, memory
from alljax.training.logs import Logs, profiler
from alljax.training.step import Sums
from alljax.training.stopping import stop_requested


@dataclass(frozen=True)
class Trained:
    """What a run leaves.

    Attributes:
        params: what learned, flat: path → float32; averaged where ``train.average`` asks for it.
        batch_stats: the backbone's statistics.
        history: one row an epoch: train loss and accuracy, validation loss and accuracy.
        logits: float32 (U, C), of the test rows in their order.
    """

    params: dict[str, np.ndarray]
    batch_stats: Any
    history: list[list[float]]
    logits: np.ndarray


def train_network(
    config: ConfigDict, learner: Learner, feed: Feed, folder: Path, say: Say, advance: Advance
) -> Trained:
    """Trains one network; goes on from the newest whole checkpoint in `folder`.

    At any step, however it was stopped, the same call ends in the same bits as one that never was.

    Args:
        config: its ``train`` and ``profile`` are read.
        learner: parameters and compiled steps.
        feed: the batches.
        folder: of this run: ``checkpoints/``, ``metrics.jsonl``, ``tensorboard/``.
        say: prints a line.
        advance: told of each step's images.

    Raises:
        ConfigError: the loss is no number any more.
        WorkdirError: a checkpoint cannot be written.
        Stopped: somebody asked the run to stop; it is saved.
    """
    train, steps = config.train, feed.steps_per_epoch
    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(folder / "checkpoints", train.keep_latest, train.keep_best)
        stack.callback(checkpoints.close)
        history: list[list[float]] = []
        state, epoch_sums, start = learner.start(), learner.zero(), 0
        if saved := checkpoints.newest(say):
            (state, epoch_sums), start, history = learner.restore(saved.leaves), saved.step, saved.record["history"]
            say(f"goes on after step {start:,}")
            advance(start * train.batch_size)
        say(learner.describe(state))
        logs = Logs(folder, train.loggers if jax.process_index() == 0 else (), start, configs.flatten(config))
        stack.callback(logs.close)
        asked = stack.enter_context(stop_requested())
        trace = stack.enter_context(profiler(config.profile, start, folder))
        stack.enter_context(jax.transfer_guard("disallow"))
        step, last_logged, clock = start, start, time.perf_counter()
        batches = feed.training(start)
        while step < train.epochs * steps and not _waited(history, train.patience):
            epoch, place = divmod(step, steps)
            if step == start or (place == 0 and epoch in phases(learner.groups, train.epochs)):
                learn = learner.compile(epoch)
            trace(step)
            state, sums = learn(state, next(batches))
            epoch_sums = learner.add(epoch_sums, sums)
            step += 1
            loss = None
            if step % train.log_steps == 0 or place == steps - 1:
                numbers = _finite(learner.devices.fetch(sums), last_logged, step, checkpoints, train.learning_rate)
                rate = (step - last_logged) * train.batch_size / (time.perf_counter() - clock)
                last_logged, clock = step, time.perf_counter()
                logs.write(step, numbers | {"images_per_second": rate})
                advance(0, f"loss {numbers['loss']:.3f}{memory()}")
            if place == steps - 1:
                history.append([*_means(learner.devices.fetch(epoch_sums)), *feed.validate(learner, state)])
                names = ("epoch_loss", "epoch_accuracy", "val_loss", "val_accuracy")
                logs.write(step, dict(zip(names, history[-1], strict=True)))
                loss, epoch_sums = history[-1][2] if feed.set_aside else None, learner.zero()
            best = loss is not None and loss <= min(row[2] for row in history)
            stop = asked(step)
            if step % train.checkpoint_steps == 0 or (best and train.keep_best) or stop:
                leaves = learner.leaves((state, epoch_sums))
                if not all(np.isfinite(leaf).all() for leaf in leaves):
                    raise _diverged(last_logged, step, checkpoints, train.learning_rate)
                checkpoints.save(step, leaves, {"history": history}, loss)
            checkpoints.check()
            advance(min(train.batch_size, feed.train_count - place * train.batch_size))
            if stop:
                checkpoints.wait()
                raise Stopped(f"stopped after step {step:,} of {train.epochs * steps:,}, saved in {checkpoints.folder}")
        if train.patience:
            checkpoints.wait()
            state, _ = learner.restore(checkpoints.load(_best_step(history, steps)).leaves)
        return Trained(*learner.result(state), history, feed.logits(learner, state, feed.test))


def _waited(history: Sequence[Sequence[float]], patience: int) -> bool:
    """Says whether the validation loss has not fallen for `patience` epochs."""
    losses = [row[2] for row in history]
    return patience > 0 and len(losses) > patience and min(losses[-patience:]) > min(losses[:-patience])


def _best_step(history: Sequence[Sequence[float]], steps: int) -> int:
    return (int(np.argmin([row[2] for row in history])) + 1) * steps


def _means(sums: Sums) -> tuple[float, float]:
    return float(sums.loss / sums.count), float(sums.correct / sums.count)


def _finite(sums: Sums, before: int, step: int, checkpoints: Checkpoints, rate: float) -> dict[str, float]:
    loss, accuracy = _means(sums)
    if not np.isfinite(loss):
        raise _diverged(before, step, checkpoints, rate)
    return {"loss": loss, "accuracy": accuracy}


def _diverged(before: int, step: int, checkpoints: Checkpoints, rate: float) -> ConfigError:
    checkpoints.wait()
    good = checkpoints.latest
    place = f"the last good checkpoint is step {good:,} in {checkpoints.folder}" if good else "none was saved before"
    return ConfigError(
        f"the loss or a parameter is no number any more between steps {before + 1:,} and {step:,}; {place}; lower "
        f"train.learning_rate={rate:g} or set train.clip_norm"
    )
