"""A study is a list of cells: one resolved config each, with a name that says what sets it apart."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ml_collections import ConfigDict

from alljax import config as configs
from alljax.errors import ConfigError
from alljax.training import optimizers

LONGEST = 48
"""Letters of a value in a name; of longer ones the beginning and a hash stand there."""


@dataclass(frozen=True)
class Trial:
    """One set-up of a study.

    Attributes:
        name: backbone and optimizer, then what else the study varies; also the cell's folder.
        config: all settings, with nothing left to vary.
        split: names the way of dividing the images; cells of one name are tested on the same images.
        stride: the epochs that divide all budgets of the run it comes out of (see `runs`), those of cells that are
            done too: a curve's last bit depends on how many epochs are compiled into one call.
    """

    name: str
    config: ConfigDict
    split: str
    stride: int = 1


def expand(config: ConfigDict) -> list[Trial]:
    """Returns the cells of ``study.sweep``'s product, the last entry varying fastest.

    Raises:
        ConfigError: two cells would have the same name, or settings that do not fit each other.
    """
    grid: dict[str, Trial] = {}
    for changes in configs.sweep_rows(config):
        resolved = configs.check(configs.vary(config, changes | {"study.sweep": ()}))
        named = {"model.backbone": resolved.model.backbone, "train.optimizer": resolved.train.optimizer}
        name = _name(named | changes, plain=named)
        protocol = {"split.protocol": resolved.split.protocol}
        divided = protocol | {key: value for key, value in changes.items() if key.startswith("split.")}
        if name in grid:
            raise ConfigError(f"study.sweep gives two cells the name {name!r}; list each value once")
        grid[name] = Trial(name, resolved, _name(divided, plain=protocol))
    return list(grid.values())


def runs(grid: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    """Returns the cells by the training they come out of, in the order of their first cells, short budgets first.

    With ``study.budgets=prefix`` frozen cells that differ in ``train.epochs`` alone are one run; not so under a
    schedule that depends on how long it will be.
    """
    grouped: dict[str, list[Trial]] = {}
    for trial in grid:
        train, budgets = trial.config.train, trial.config.study.budgets
        shared = budgets == "prefix" and train.mode == "frozen" and train.schedule != "cosine"
        grouped.setdefault(_key(trial.config, ("train.epochs",)) if shared else trial.name, []).append(trial)
    return [
        tuple(replace(trial, stride=math.gcd(*map(_epochs, run))) for trial in sorted(run, key=_epochs))
        for run in grouped.values()
    ]


def _epochs(trial: Trial) -> int:
    return int(trial.config.train.epochs)


def compiled_alike(config: ConfigDict) -> str:
    """Returns the same text for cells whose heads are trained by the same compiled function.

    They may differ in what is an argument of it: in numbers of the optimizer, in features and splits, and in how
    many epochs there are, unless the schedule needs to know.
    """
    arguments = {f"train.{name}" for name in optimizers.NUMBERS}
    if config.train.schedule != "cosine":
        arguments.add("train.epochs")
    fixed = [key for key in configs.flatten(config) if not key.startswith(("train.", "model.hidden", "model.dropout"))]
    return _key(config, (*arguments, *fixed)) + optimizers.compile_key(config)


def _key(config: ConfigDict, without: Sequence[str]) -> str:
    return repr({key: value for key, value in configs.flatten(config).items() if key not in without})


def _name(settings: dict[str, Any], plain: dict[str, Any]) -> str:
    """Returns the values of `plain` settings and ``key=value`` of the others, as one name of a folder."""
    parts = [_text(value) if key in plain else f"{_short(key)}={_text(value)}" for key, value in settings.items()]
    return "-".join(parts)


def _text(value: Any) -> str:
    """Returns a value with the letters that folders may have."""
    if value in ("", ()):
        return "default"
    text = re.sub(r"[^\w.=+-]+", "_", str(value)).strip("_")
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 9]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _short(key: str) -> str:
    """Returns the word of a key that a person needs: epochs of train.epochs, weights of weights.name."""
    group, _, name = key.rpartition(".")
    return group if name in ("name", "path") else name
