"""The trials of a study, one resolved config each, and the jobs in which they are trained."""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
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
    """One configuration of a study.

    Attributes:
        name: backbone and optimizer, then the other settings that the study varies; also the name of its folder.
        config: all settings, without a sweep.
        split: identifies the split settings; trials of one split are tested on the same images.
    """

    name: str
    config: ConfigDict
    split: str


Training = tuple[Trial, ...]
"""Trials that come out of one training, fewer epochs first."""


@dataclass(frozen=True)
class Job:
    """Trials that are trained in one call.

    Attributes:
        trainings: one; several where they are trained side by side. These have the same features, folds and epochs and
            differ only in arguments of the compiled function.
        epochs_per_call: divides the epochs of all trials of a training, finished ones too: the last bits of a curve
            depend on how many epochs are compiled into one call.
    """

    trainings: tuple[Training, ...]
    epochs_per_call: int

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
        """What the names of the trials have in common: without their epochs, where these differ."""
        first, more = self.trainings[0][0], len(self.trainings) - 1
        name = first.name if len(self.trainings[0]) == 1 else first.name.replace(f"-epochs={_epochs(first)}", "")
        return f"{name} and {more} more" if more else name

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
        named = {"model.backbone": resolved.model.backbone, "train.optimizer": resolved.train.optimizer}
        name = _name(named | changes, plain=named)
        protocol = {"split.protocol": resolved.split.protocol}
        of_split = protocol | {key: value for key, value in changes.items() if key.startswith("split.")}
        if name in trials:
            raise ConfigError(f"study.sweep gives two trials the name {name!r}; list each value once")
        trials[name] = Trial(name, resolved, _name(of_split, plain=protocol))
    return list(trials.values())


def jobs(
    trials: Sequence[Trial],
    shard: tuple[int, int] = (0, 1),
    done: Callable[[Trial], bool] = lambda trial: False,
    side_by_side: bool = False,
) -> list[Job]:
    """Returns the jobs of a study, frozen trials first, without the trials that are done.

    Args:
        trials: of the study.
        shard: i and n: only the trainings i, i + n, ….
        done: whether the results of a trial exist.
        side_by_side: train jointly what differs only in arguments of the compiled function.
    """
    grouped: dict[Any, list[Training]] = {}
    for training in trainings(trials)[shard[0] :: shard[1]]:
        epochs_per_call = math.gcd(*map(_epochs, training))
        if missing := tuple(trial for trial in training if not done(trial)):
            config = missing[0].config
            joint = side_by_side and config.train.mode == "frozen"
            same = _key(config, _arguments(config)) if joint else training[0].name
            grouped.setdefault((same, tuple(map(_epochs, missing)), epochs_per_call), []).append(missing)
    found = []
    for (_, _, epochs_per_call), group in grouped.items():
        size = max(1, MAX_RUNS // group[0][0].config.study.seeds)
        found += [Job(tuple(group[at : at + size]), epochs_per_call) for at in range(0, len(group), size)]
    return sorted(found, key=lambda job: not job.frozen)


def trainings(trials: Sequence[Trial]) -> list[Training]:
    """Returns the trials grouped by the training they come out of, in the order of their first trials.

    With ``study.share_training`` frozen trials that differ in ``train.epochs`` only are prefixes of one training,
    unless the schedule depends on its length.
    """
    grouped: dict[str, list[Trial]] = {}
    for trial in trials:
        train = trial.config.train
        shared = trial.config.study.share_training and train.mode == "frozen" and train.schedule != "cosine"
        grouped.setdefault(_key(trial.config, ("train.epochs",)) if shared else trial.name, []).append(trial)
    return [tuple(sorted(group, key=_epochs)) for group in grouped.values()]


def _arguments(config: ConfigDict) -> tuple[str, ...]:
    """Returns the settings that are arguments of the compiled training."""
    from alljax.training import optimizers

    epochs = () if config.train.schedule == "cosine" else ("train.epochs",)
    return (*(f"train.{name}" for name in optimizers.NUMBERS if config.train[name]), *epochs)


def _epochs(trial: Trial) -> int:
    return int(trial.config.train.epochs)


def _key(config: ConfigDict, without: Sequence[str]) -> str:
    return repr({key: value for key, value in configs.flatten(config).items() if key not in without})


def _name(settings: dict[str, Any], plain: dict[str, Any]) -> str:
    """Returns the values of `plain` settings and ``key=value`` of the others, as the name of a folder."""
    return "-".join(
        _text(value) if key in plain else f"{_short(key)}={_text(value)}" for key, value in settings.items()
    )


def _text(value: Any) -> str:
    """Returns a value in the characters that the name of a folder may have."""
    if value in ("", ()):
        return "default"
    text = re.sub(r"[^\w.=+-]+", "_", str(value)).strip("_")
    if len(text) <= MAX_VALUE_LENGTH:
        return text
    return f"{text[: MAX_VALUE_LENGTH - 9]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _short(key: str) -> str:
    """Returns the telling word of a key: ``epochs`` of train.epochs, ``weights`` of weights.name."""
    group, _, name = key.rpartition(".")
    return group if name in ("name", "path") else name
