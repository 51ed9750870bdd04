"""The batches of a fine-tuning run, its loop (restore, train, log, validate, save, stop), and short runs for a rate."""

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas
from absl import logging
from ml_collections import ConfigDict
from scipy.special import log_softmax

from alljax import config as configs
from alljax import interrupts
from alljax.data.loader import ImageBatch, ImageReader, Sampler, load_batches
from alljax.errors import ConfigError, Stopped
from alljax.progress import Update
from alljax.training.checkpoints import CheckpointManager
from alljax.training.distributed import any_process
from alljax.training.fine_tuning import FineTuner
from alljax.training.metric_writers import Write, open_loggers
from alljax.training.network import Network
from alljax.training.optimizers import hyperparameters_of, learning_rate
from alljax.training.sampling import FoldRows, batch_size, epoch_order, steps_per_epoch
from alljax.training.sharding import Mesh, make_mesh
from alljax.training.step import SHUFFLE, Batch, History, RunInputs, TrainState

RATES, STEPS = np.logspace(-6, 0, 13), 50  # of `find_learning_rate`; steps at each rate


class FoldLoader:
    """Batches of the images of one fold, padded to a multiple of the devices; the order depends on key and epoch."""

    def __init__(self, config: ConfigDict, images: ImageReader, fold: FoldRows, key: jax.Array, mesh: Mesh) -> None:
        self._images, self._mesh = images, mesh
        self._batch_size = batch_size(config, fold)
        shard = jax.process_index(), jax.process_count()
        multiple = mesh.device_count * config.train.accumulation_steps
        self._sampler = partial(Sampler, batch_size=self._batch_size, shard=shard, multiple=multiple)
        self.train_count = int(fold.train_count)
        self.steps_per_epoch = steps_per_epoch(config, fold)
        self.test = np.asarray(fold.test)[: int(fold.test_count)]
        self._validation = np.asarray(fold.validation)[: int(fold.validation_count)]
        self.has_validation = not np.array_equal(self._validation, self.test)  # else the test rows give the curves
        shuffle, epochs = jax.random.fold_in(key, SHUFFLE), jnp.arange(config.train.epochs)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(shuffle, epochs)
        orders = _orders(keys, fold, jnp.asarray(images.labels), config.train.sampling == "balanced")
        self._orders = np.asarray(orders)[:, : self.train_count]

    def train(self, step: int) -> Generator[Batch, None, None]:
        """Yields the training batches from a step, counted from 0, to the end of the last epoch."""
        with contextlib.closing(load_batches(self._images, self._sampler(self._orders), start=step)) as batches:
            # One batch ahead: a step is dispatched after its successor's images are on their way to the devices.
            ahead = itertools.chain(map(self._place, batches), [None])
            yield from (batch for batch, _ in itertools.pairwise(ahead) if batch is not None)

    def validate(self, logits: Callable[[Batch], np.ndarray]) -> tuple[float, float]:
        """Returns mean cross-entropy and accuracy of the validation rows."""
        labels, log_p = self._images.labels[self._validation], log_softmax(self.predict(logits, self._validation), 1)
        losses = -log_p[np.arange(len(labels)), labels]
        return float(losses.mean(dtype=np.float64)), float((log_p.argmax(1) == labels).mean())

    def predict(self, logits: Callable[[Batch], np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Returns the logits float32 (U, C) of some images; `logits` gives those of a placed batch."""
        batches = map(self._place, load_batches(self._images, self._sampler(rows)))
        return np.concatenate([logits(batch)[: self._batch_size] for batch in batches])[: len(rows)]

    def _place(self, batch: ImageBatch) -> Batch:
        positions = np.arange(len(batch.mask), dtype=np.int32) + jax.process_index() * len(batch.mask)
        arrays: Any = batch.images, batch.labels, batch.mask, positions
        return self._mesh.shard(Batch(*arrays))


_orders = jax.jit(jax.vmap(epoch_order, (0, None, None, None)), static_argnums=3)


def train(tuner: FineTuner, loader: FoldLoader, run: RunInputs, folder: Path, update: Update) -> dict[str, Any]:
    """Trains one network, from the newest checkpoint in `folder` on; a resumed run ends with the bits of any other.

    Returns `FineTuner.result`, ``history``, one `History` per epoch, and ``logits`` float32 (U, C) of the test rows.
    """
    train, steps = tuner.config.train, loader.steps_per_epoch
    total = train.epochs * steps
    with contextlib.ExitStack() as stack:
        checkpoints = CheckpointManager(folder / "checkpoints", train, tuner.abstract, f"{steps} steps per epoch")
        stack.callback(checkpoints.close)
        start, history = checkpoints.latest, []
        if start:
            logging.info(f"resuming after step {start:,}")
            update(start // steps * loader.train_count + start % steps * train.batch_size)
            state, record = checkpoints.load(start)
            history = [History(*row) for row in record["history"]]
        else:
            state = tuner.init(run)
        logging.info(tuner.describe(state))
        write = stack.enter_context(open_loggers(folder, train.loggers, start, configs.flatten(tuner.config)))
        monitor = _Monitor(tuner, checkpoints, write, start)
        trace, profiled = stack.enter_context(contextlib.ExitStack()), tuner.config.profile
        numbers = hyperparameters_of(tuner.config, total)
        rates = [float(learning_rate(tuner.config, numbers, step)) for step in range(steps - 1, total, steps)]
        batches = stack.enter_context(contextlib.closing(loader.train(start)))
        stack.enter_context(jax.transfer_guard("disallow"))
        interrupts.check(collective=True)  # compiling the first step takes seconds
        for step in range(start, total):
            epoch, index = divmod(step, steps)
            losses = [row.val_loss for row in history]
            if history and 0 < train.patience < len(history) - np.argmin(losses):
                break
            if index == 0:
                state = tuner.reset_metrics(state)
            if profiled and step - start in (2, 2 + profiled):  # the first step is compiled
                jax.block_until_ready(state)  # steps are dispatched asynchronously
                trace.close()
                if step - start == 2:
                    trace.enter_context(jax.profiler.trace(str(folder / "profile")))
            with jax.profiler.StepTraceAnnotation("step", step_num=step):
                state = tuner.step(state, next(batches), run, epoch)

            done, loss, is_best, ends_epoch = step + 1, None, False, index == steps - 1
            logs = done % train.log_steps == 0 or ends_epoch
            if logs:
                means, note = monitor.log(done, state)
                update(0, note)
            if ends_epoch:
                row = History(rates[epoch], *means, *loader.validate(partial(tuner.logits, state)))
                monitor.end_epoch(done, row)
                history.append(row)
                if loader.has_validation:
                    loss = history[-1].val_loss
                    is_best = sum(row.val_loss < loss for row in history) < train.keep_best
            stop = (logs or not interrupts.several_processes) and any_process(bool(interrupts.requested))
            if done % train.checkpoint_steps == 0 or is_best or stop:
                monitor.save(done, state, history, loss)
            update(min(train.batch_size, loader.train_count - index * train.batch_size))
            if stop:
                checkpoints.wait()
                raise Stopped(f"stopped after step {done:,} of {total:,}, saved in {checkpoints.folder}")

        if train.patience:
            checkpoints.wait()
            best = int(np.argmin([row.val_loss for row in history]))
            state, _ = checkpoints.load((best + 1) * steps)
        logits = loader.predict(partial(tuner.logits, state), loader.test)
        return tuner.result(state) | {"history": history, "logits": logits}


class _Monitor:
    """Logs metrics, saves checkpoints, and raises where a value became NaN."""

    def __init__(self, tuner: FineTuner, checkpoints: CheckpointManager, write: Write, step: int) -> None:
        self._tuner, self._checkpoints, self._write = tuner, checkpoints, write
        self._step, self._time = step, time.perf_counter()  # of the last log line

    def log(self, step: int, state: TrainState) -> tuple[tuple[float, float], str]:
        """Writes and returns the means over the images of the epoch so far, as Keras shows, with a note for the bar."""
        loss, accuracy = map(float, self._tuner.mesh.gather(state.metrics).means)
        self._check_finite((loss, accuracy), step)
        rate = (step - self._step) * self._tuner.config.train.batch_size / (time.perf_counter() - self._time)
        self._write(step, {"loss": loss, "accuracy": accuracy, "images_per_second": rate})
        self._step, self._time = step, time.perf_counter()
        peak = max((device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices())
        return (loss, accuracy), f"loss {loss:.3f}" + (f" {peak / 2**30:.1f} GiB" if peak else "")

    def end_epoch(self, step: int, row: History) -> None:
        self._check_finite(row, step)
        names = ("epoch_loss", "epoch_accuracy", "val_loss", "val_accuracy")
        self._write(step, dict(zip(names, row[1:], strict=True)))
        self._time = time.perf_counter()

    def save(self, step: int, state: TrainState, history: Sequence[History], loss: float | None) -> None:
        if not self._tuner.is_finite(state):
            self._check_finite((np.nan,), step)
        self._checkpoints.save(step, self._tuner.mesh.stored(state), {"history": [*history]}, loss)

    def _check_finite(self, values: Sequence[float], step: int) -> None:
        if np.isfinite(values).all():
            return
        self._checkpoints.wait()
        latest, folder = self._checkpoints.latest, self._checkpoints.folder
        saved = f"the last good checkpoint is step {latest:,} in {folder}" if latest else "no checkpoint was saved"
        steps = f"between steps {max(self._step, 1):,} and {step:,}"
        fix = "lower train.learning_rate or set train.clip_norm, and resume with --resume=force or use a new workdir"
        raise ConfigError(f"the loss or a parameter became NaN or infinite {steps}; {saved}; {fix}")


def find_learning_rate(config: ConfigDict, network: Network, images: ImageReader, fold: FoldRows) -> pandas.DataFrame:
    """Returns ``learning_rate`` (`RATES`), ``step`` (from 1) and ``loss`` (the batch's before the step, in nats).

    All runs have the same start and batches (Smith 2015, arXiv 1506.01186, raises the rate during one run).
    """
    changes = {"schedule": "constant", "learning_rate": 1.0, "warmup_steps": 0, "ema_decay": 0.0, "epochs": STEPS}
    config = configs.vary(config, {f"train.{name}": value for name, value in changes.items()})
    mesh, key = make_mesh(config), jax.random.key(config.seed)
    tuner = FineTuner(config, network, len(fold.class_weights), mesh)
    loader = FoldLoader(config, images, fold, key, mesh)
    run, rows = tuner.inputs(key, fold.class_weights, STEPS), []
    for rate in RATES:
        numbers = {**run.hyperparameters, "learning_rate": mesh.replicate(np.float32(rate))}
        inputs, state = run.replace(hyperparameters=numbers), tuner.init(run)  # type: ignore[attr-defined]
        for step, batch in enumerate(itertools.islice(loader.train(0), STEPS), start=1):
            interrupts.check()
            state = tuner.step(tuner.reset_metrics(state), batch, inputs, epoch=0)
            rows.append((rate, step, float(mesh.gather(state.metrics).means[0])))
        logging.info(f"{rate:9.2e}   loss {rows[-STEPS][2]:.3f} → {rows[-1][2]:.3f}")
    return pandas.DataFrame(rows, columns=["learning_rate", "step", "loss"])


def best_rate(table: pandas.DataFrame) -> float:
    """Returns the rate with the lowest mean loss of the last steps; raises `ConfigError` if all diverged."""
    last = table[table["step"] > STEPS - STEPS // 5].set_index("learning_rate")["loss"]
    final = last.groupby(level=0).agg(lambda losses: losses.mean(skipna=False))
    if not np.isfinite(final).any():
        raise ConfigError("the loss became NaN or infinite at every learning rate; set train.clip_norm")
    return float(final[np.isfinite(final)].idxmin())
