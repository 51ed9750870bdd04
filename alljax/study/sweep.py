"""The trials of a study, one resolved config each, and the jobs in which they are trained."""

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from alljax import config as configs
from alljax.errors import ConfigError

MAX_RUNS = 64
"""Runs per job at most; an interrupted job starts again.  How many are trained side by side depends on the memory."""

MAX_VALUE_LENGTH = 48
"""Characters of a value in a trial's name; longer values are shortened to their beginning and a hash."""


@dataclass(frozen=True)
class Trial:
    """One configuration of a study."""

    name: str  # backbone and optimizer, then the other settings that the study varies; also that of its folder
    config: ConfigDict  # all settings, without a sweep
    split: str  # identifies the split settings; trials of one split are tested on the same images


@dataclass(frozen=True)
class Job:
    """Trials that are trained in one call.

    Several `trainings` (see the function) are trained side by side.  They have the same features, folds and epochs and
    differ only in arguments of the compiled function.
    """

    trainings: tuple[tuple[Trial, ...], ...]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials of all trainings."""
        return tuple(trial for training in self.trainings for trial in training)

    @property
    def config(self) -> ConfigDict:
        """The config of the trial with the most epochs."""
        return self.trainings[0][-1].config

    @property
    def frozen(self) -> bool:
        """Whether heads are trained on the features of a frozen backbone, not networks."""
        return bool(self.config.train.mode == "frozen")

    @property
    def name(self) -> str:
        """The name of the first trial and the number of the others."""
        first, *more = self.trials
        return f"{first.name} and {len(more)} more" if more else first.name

    @property
    def cost(self) -> int:
        """Epochs over all trainings and seeds."""
        return int(self.config.train.epochs * self.config.study.seeds * len(self.trainings))


def expand(config: ConfigDict) -> list[Trial]:
    """Returns the trials: the product of the entries of ``study.sweep``, the last entry varying fastest.

    Raises:
        ConfigError: two trials would have the same name, or settings that contradict each other.
    """
    trials: dict[str, Trial] = {}
    for changes in configs.sweep_rows(config):
        resolved = configs.check(configs.vary(config, changes | {"study.sweep": ()}))
        name = _name({"model.backbone": resolved.model.backbone, "train.optimizer": resolved.train.optimizer}, changes)
        of_split = {key: value for key, value in changes.items() if key.startswith("split.")}
        if name in trials:
            raise ConfigError(f"study.sweep gives two trials the name {name!r}; list each value once")
        trials[name] = Trial(name, resolved, _name({"split.protocol": resolved.split.protocol}, of_split))
    return list(trials.values())


def jobs(trials: Sequence[Trial], shard: tuple[int, int] = (0, 1), finished: Collection[str] = ()) -> list[Job]:
    """Returns the jobs of a study; of shard (i, n) only the trainings i, i + n, ….

    On an accelerator, heads are trained side by side if they differ only in arguments of the compiled function. Trials
    whose names are in `finished` are skipped.
    """
    import jax  # here, because a finished study is recognized without JAX

    from alljax.training.optimizers import NUMBERS

    grouped: dict[tuple[str, tuple[int, ...]], list[tuple[Trial, ...]]] = {}
    for training in trainings(trials)[shard[0] :: shard[1]]:
        if missing := tuple(trial for trial in training if trial.name not in finished):
            config = missing[0].config
            numbers = [f"train.{name}" for name in NUMBERS if config.train[name]]  # arguments of the compiled function
            joint = config.train.mode == "frozen" and jax.default_backend() != "cpu"
            program = _key(config, numbers) if joint else training[0].name
            epochs = tuple(trial.config.train.epochs for trial in missing)
            grouped.setdefault((program, epochs), []).append(missing)
    found = []
    for group in grouped.values():
        size = max(1, MAX_RUNS // group[0][0].config.study.seeds)
        found += [Job(tuple(group[at : at + size])) for at in range(0, len(group), size)]
    return found


def trainings(trials: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    """Returns the trials grouped by the training they come out of, fewer epochs first.

    With ``study.share_training`` frozen trials that differ in ``train.epochs`` only are prefixes of one training,
    unless the schedule depends on its length.
    """
    grouped: dict[str, list[Trial]] = {}
    for trial in trials:
        train = trial.config.train
        shared = trial.config.study.share_training and train.mode == "frozen" and train.schedule != "cosine"
        grouped.setdefault(_key(trial.config, ("train.epochs",)) if shared else trial.name, []).append(trial)
    return [tuple(sorted(group, key=lambda trial: trial.config.train.epochs)) for group in grouped.values()]


def subsets(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Returns the subsets of the source that the trials use."""
    found: list[str] = []
    for trial in trials:
        split = trial.config.split
        found += ["train", split.test_subset] if split.protocol == "prelim" else [trial.config.data.subset]
    return tuple(dict.fromkeys(found))


def _key(config: ConfigDict, without: Sequence[str]) -> str:
    return repr({key: value for key, value in configs.flatten(config).items() if key not in without})


def _name(values: dict[str, Any], changes: dict[str, Any]) -> str:
    """Returns the `values` and ``key=value`` of the other `changes`, as the name of a folder."""
    parts = [_text(value) for value in values.values()]
    for key, value in changes.items():
        if key not in values:
            group, _, name = key.rpartition(".")  # the group is clearer for weights.name and weights.path
            parts.append(f"{group if name in ('name', 'path') else name}={_text(value)}")
    return "-".join(parts)


def _text(value: Any) -> str:
    """Returns a value in the characters that the name of a folder may have."""
    if value in ("", ()):
        return "default"
    text = re.sub(r"[^\w.=+-]+", "_", str(value)).strip("_")
    if len(text) <= MAX_VALUE_LENGTH:
        return text
    return f"{text[: MAX_VALUE_LENGTH - 9]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
