"""The frozen cells of a study: runs of heads, several cells out of one run, several runs in one compiled call."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax import interrupts, progress
from alljax.data.splits import Split
from alljax.progress import Advance
from alljax.study import sweep
from alljax.study.experiment import Material
from alljax.study.extraction import on_disk
from alljax.study.sweep import Trial
from alljax.training import head_training, streamed
from alljax.training.fold import make_folds
from alljax.training.head_training import Curves, HeadFunctions, HeadRuns

Run = tuple[Trial, ...]
"""Cells that come out of one training, see `grid.runs`."""

SIDE_BY_SIDE = 64
"""Heads that are trained at once on an accelerator."""


@dataclass(frozen=True)
class Trained:
    """What a cell's heads have become.

    Attributes:
        trial: whose they are.
        runs: one `HeadRuns` a split, R seeds each, on the host.
        seconds: from the start of the call that trained them, and perhaps other cells.
    """

    trial: Trial
    runs: list[HeadRuns]
    seconds: float


@dataclass(frozen=True)
class Diverged:
    """Cells of a run whose loss is no number any more.

    Attributes:
        trials: that are not done because of it.
        reason: where it happened, and what to do.
    """

    trials: Run
    reason: str


class Trainer:
    """Trains runs of heads; keeps what was compiled, and the features on the device, for the next ones."""

    def __init__(self) -> None:
        """Compiles nothing yet."""
        self._compiled: dict[str, HeadFunctions] = {}
        self._features: tuple[np.ndarray | None, jax.Array | None] = None, None

    def train(self, runs: Sequence[Run], matrix: np.ndarray, material: Material) -> Iterator[Trained | Diverged]:
        """Yields the cells of runs that are compiled alike, as soon as each is done: short budgets first.

        Args:
            runs: on the same features and splits, with the same budgets; on a CPU one at a time is as fast.
            matrix: features (N, V, D), in memory or on disk.
            material: labels and splits.

        Yields:
            What was trained; of a run whose loss is no number any more, once, the cells that are lost.
        """
        config, classes = runs[0][0].config, len(material.dataset.classes)
        seeds, budgets = config.study.seeds, [trial.config.train.epochs for trial in runs[0]]
        heads, features = self._functions(config, classes, matrix)
        labels = jnp.asarray(material.labels)
        run_configs = [run[-1].config for run in runs for _ in range(seeds)]
        folds = make_folds(config, material.labels, classes, material.splits)
        start, lost, stride = time.perf_counter(), set[int](), runs[0][0].stride
        with progress.bar(_title(runs), budgets[-1] * len(folds), "epochs") as advance:
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
                for split, fold in zip(material.splits, folds, strict=True)
            ]
            # All folds reach a budget before any goes on: the cell is done then, and its parameters can leave memory.
            for place, of_splits in enumerate(zip(*trainings, strict=True)):
                on_host = jax.device_get(list(of_splits))
                seconds = time.perf_counter() - start
                for number, run in enumerate(runs):
                    own = [_part(each, slice(number * seeds, (number + 1) * seeds)) for each in on_host]
                    if number in lost:
                        continue
                    if problem := _diverged(run[place].config, own, material.splits):
                        lost.add(number)
                        yield Diverged(run[place:], problem)
                    else:
                        yield Trained(run[place], own, seconds)
                if len(lost) == len(runs):
                    break

    def _functions(
        self, config: ConfigDict, classes: int, matrix: np.ndarray
    ) -> tuple[HeadFunctions, jax.Array | np.ndarray]:
        why = on_disk(config.features.memory, matrix.nbytes)
        flat = matrix.reshape(-1, matrix.shape[2])
        key = f"{bool(why)} {classes} {sweep.compiled_alike(config)}"
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


def together(runs: Sequence[Run], alike: Callable[[Run], str]) -> list[list[Run]]:
    """Returns the runs that one compiled call may train: one at a time on a CPU, else all that are alike.

    Args:
        runs: of frozen cells.
        alike: what must be the same besides what is compiled: features and splits.
    """
    if jax.default_backend() == "cpu":
        return [[run] for run in runs]
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        budgets = [trial.config.train.epochs for trial in run]
        key = f"{sweep.compiled_alike(run[0].config)} {budgets} {run[0].stride} {alike(run)}"
        grouped.setdefault(key, []).append(run)
    at_once = max(1, SIDE_BY_SIDE // runs[0][0].config.study.seeds) if runs else 1
    return [group[start : start + at_once] for group in grouped.values() for start in range(0, len(group), at_once)]


def keys(config: ConfigDict, split: Split) -> jax.Array:
    """Returns the key of each seed's run on a split, (R,).

    With ``study.budgets=separate`` runs of different lengths have keys of their own.
    """

    def key(seed: int) -> jax.Array:
        own = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), split.repeat), split.fold)
        return jax.random.fold_in(own, config.train.epochs) if config.study.budgets == "separate" else own

    return jnp.stack([key(config.seed + number) for number in range(config.study.seeds)])


def _watcher(advance: Advance) -> Callable[[Curves], None]:
    """Returns what shows the curve of a fold."""
    curve: list[float] = []

    def watch(new: Curves) -> None:
        interrupts.check()
        curve.extend(new.val_accuracy.mean(1).tolist())
        advance(len(new.val_accuracy), f"{progress.sparkline(curve)} validation accuracy {curve[-1]:.3f}")

    return watch


def _keys(runs: Sequence[Run], split: Split) -> jax.Array:
    return jnp.concatenate([keys(run[-1].config, split) for run in runs])


def _part(run: HeadRuns, own: slice) -> HeadRuns:
    """Returns some of the runs that were trained side by side."""
    return HeadRuns(
        jax.tree.map(lambda leaf: leaf[own], run.params),
        jax.tree.map(lambda leaf: leaf[:, own], run.curves),
        run.probabilities[own],
    )


def _diverged(config: ConfigDict, runs: Sequence[HeadRuns], splits: Sequence[Split]) -> str:
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


def run_name(run: Run) -> str:
    """Returns the name that the cells of a run share: without their epochs, where there are several."""
    first = run[0]
    return first.name if len(run) == 1 else first.name.replace(f"-epochs={first.config.train.epochs}", "")


def _title(runs: Sequence[Run]) -> str:
    return f"heads {run_name(runs[0])}" + (f" and {len(runs) - 1} more" if len(runs) > 1 else "")
