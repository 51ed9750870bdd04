"""The trials of a study, one resolved config each, and the jobs in which they are trained."""

import fnmatch
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.errors import ConfigError, first_few
from alljax.settings import HEADS

MAX_VALUE_LENGTH = 48  # characters of a value in a trial's name; longer ones are a beginning and a hash
UNSET = {"study.sweep": (), "study.design": "", "study.combine": ()}  # settings of a study that its trials do not have

PRIMES = {"L4": (2, 2), "L8": (2, 3), "L9": (3, 2), "L27": (3, 3)}
"""Levels p and exponent k of the orthogonal arrays with p^k rows: any two columns have all pairs equally often."""

L18 = """
11111111 11222222 11333333 12112233 12223311 12331122 13121323 13232131 13313212
21133221 21211332 21322113 22123132 22231213 22312321 23132312 23213123 23321231
"""


@dataclass(frozen=True)
class Trial:
    """One configuration of a study."""

    name: str  # see `_trial_name`; also that of its folder
    config: ConfigDict  # all settings, without a sweep
    split: str  # identifies the split settings; trials of one split are tested on the same images
    members: tuple[str, ...] = ()  # names of the trials that a combined one combines, which is not trained itself


@dataclass(frozen=True)
class Job:
    """Trials that are trained in one call, fewer epochs first."""

    trials: tuple[Trial, ...]

    @property
    def config(self) -> ConfigDict:
        """The config of the trial with the most epochs."""
        return self.trials[-1].config

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
        """Epochs over all seeds."""
        return int(self.config.train.epochs * self.config.study.seeds)


def selects_on_test(config: ConfigDict) -> bool:
    """Returns whether a selection is fitted to tested images, too: a leak, like that of a leaky split."""
    return bool(config.features.select) and config.features.select_scope == "all"


def has_epochs(config: ConfigDict) -> bool:
    """Returns whether a trial trains heads or networks, in epochs, not estimators of scikit-learn."""
    return config.train.mode != "frozen" or config.classifier.name in HEADS


def has_backbone(config: ConfigDict) -> bool:
    """Returns whether a trial uses a backbone, and its weights."""
    return config.train.mode != "frozen" or "backbone" in config.features.extractor


def expand(config: ConfigDict) -> list[Trial]:
    """Returns the trials that ``study.sweep`` and ``study.design`` give, in their order, then the combined ones."""
    trials: list[Trial] = []
    axes = configs.sweep_axes(config)
    rows = [{"model.label": config.model.label} | changes for changes in combinations(config.study.design, axes)]
    for changes in rows:
        resolved = configs.check(configs.vary(config, changes | UNSET))
        name = _trial_name(resolved, changes, rows)
        if resolved.weights.name == "random" and has_backbone(resolved) and "weights=random" not in name:
            name += "-weights=random"  # in every table
        of_split = {key: value for key, value in changes.items() if key.startswith("split.")}
        if selects_on_test(resolved):
            of_split["features.select_scope"] = "all"
        trials.append(Trial(name, resolved, _name({"split.protocol": resolved.split.protocol}, of_split)))
    trials += _combined(config, trials)
    for name, count in Counter(trial.name for trial in trials).items():
        if count > 1:
            raise ConfigError(f"study.sweep or study.combine gives two trials the name {name!r}; list each value once")
        if problem := trial_name_problem(name):
            raise ConfigError(f"the name of a trial {problem}; change model.label or study.combine")
    return trials


def orthogonal_array(name: str) -> list[tuple[int, ...]]:
    """Returns the level, from 0, of each factor (column) in each trial (row) of Taguchi's L4, L8, L9, L18 or L27."""
    if name == "L18":
        return [tuple(int(level) - 1 for level in row) for row in L18.split()]
    levels, exponent = PRIMES[name]
    digits = list(itertools.product(range(levels), repeat=exponent))
    # Columns are linear functions of the digits modulo p, those with the fewest interactions first.
    functions = [of[::-1] for of in digits if next(filter(None, of), 0) == 1]  # a multiple is the same column
    functions.sort(key=lambda of: (of.count(0) < exponent - 1, of.count(0)))
    return [tuple(int(np.dot(row, of)) % levels for of in functions) for row in digits]


def combinations(design: str, axes: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Returns the changes of each trial: the product of the axes, or of the rows of a design and the axes of splits."""
    splits = [axis for axis in axes if not design or all(key.startswith("split.") for key in axis[0])]
    factors, rows = [axis for axis in axes if axis not in splits], orthogonal_array(design) if design else [()]
    free, columns = [len({*column}) for column in zip(*rows, strict=True)], list[int]()
    for factor in factors:
        if len(factor) not in free:
            what, left = f"the {len(factor)} values of {', '.join(factor[0])}", [*filter(None, free)]
            raise ConfigError(f"study.design={design} has no column left for {what}, only of {left} levels")
        columns.append(free.index(len(factor)))
        free[columns[-1]] = 0
    levels = dict.fromkeys(tuple(row[column] for column in columns) for row in rows)
    designed = [[axis[level] for axis, level in zip(factors, row, strict=True)] for row in levels]
    every = itertools.product(designed, *([[part] for part in axis] for axis in splits))
    return [{key: value for part in itertools.chain(*parts) for key, value in part.items()} for parts in every]


def _combined(config: ConfigDict, trials: Sequence[Trial]) -> list[Trial]:
    """Returns a trial per entry of ``study.combine`` and split with matching trials, with the config of the first."""
    found, splits = [], dict.fromkeys(trial.split for trial in trials)
    for name, rule, pattern in ((*entry, "*")[:3] for entry in config.study.combine):
        matching = [trial for trial in trials if fnmatch.fnmatchcase(trial.name, pattern)]
        parts = {split: [trial for trial in matching if trial.split == split] for split in splits}
        where = f"study.combine: {name!r} of {pattern!r}"
        if not matching or any(len(members) == 1 for members in parts.values()):
            matched = first_few(trial.name for trial in matching) or "none"
            raise ConfigError(f"{where} needs two or more trials of each split that it matches; it matches {matched}")
        frozen = all(trial.config.train.mode == "frozen" for trial in matching)
        if rule == "weighted" and not (frozen and config.evaluation.inner_folds > 1):
            needs = "train.mode=frozen and evaluation.inner_folds above 1"
            raise ConfigError(f"{where} has weights from inner folds, which need {needs}; use the rule mean")
        for split, members in parts.items():
            if members:
                unique = _text(name) if len(splits) == 1 else f"{_text(name)}-{split}"
                resolved = configs.vary(members[0].config, {"study.combine": ((name, rule, pattern),)})
                found.append(Trial(unique, resolved, split, tuple(member.name for member in members)))
    return found


def jobs(trials: Sequence[Trial], shard: tuple[int, int] = (0, 1), finished: Collection[str] = ()) -> list[Job]:
    """Returns the jobs of a study without `finished` trials; of shard (i, n) only the jobs i, i + n, …."""
    grouped: dict[str, list[Trial]] = {}
    # Heads that differ in train.epochs only are prefixes of one training, unless the schedule depends on it.
    for trial in sorted((one for one in trials if not one.members), key=lambda trial: trial.config.train.epochs):
        train = trial.config.train
        shared = train.mode == "frozen" and has_epochs(trial.config) and train.schedule != "cosine"
        settings = configs.flatten(trial.config) | {"train.epochs": 0, "model.label": ""}
        grouped.setdefault(repr(settings) if shared else trial.name, []).append(trial)
    trainings = [*grouped.values()][shard[0] :: shard[1]]
    missing = ([trial for trial in training if trial.name not in finished] for training in trainings)
    return [Job(tuple(training)) for training in missing if training]


def subsets(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Returns the subsets of the source that the trials use."""
    found: list[str] = []
    for trial in trials:
        split = trial.config.split
        found += ["train", split.test_subset] if split.protocol == "prelim" else [trial.config.data.subset]
    return tuple(dict.fromkeys(found))


def _trial_name(config: ConfigDict, changes: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Returns the label, or backbone and optimizer (or classifier without epochs), and the other settings that vary."""
    label, flat = config.model.label, configs.flatten(config)
    if not label:
        second = "train.optimizer" if has_epochs(config) else "classifier.name"
        extractors = config.features.extractor if config.train.mode == "frozen" else ("backbone",)
        first = "+".join(flat["model.backbone"] if name == "backbone" else name for name in extractors)
        shown = "model.label", "model.backbone", "features.extractor"
        varied = {key: value for key, value in changes.items() if key not in shown}
        return _name({"": first, second: flat[second]}, varied)
    same = [row for row in rows if row["model.label"] == label]
    return _name({"": label}, {key: changes[key] for key in changes if any(row[key] != changes[key] for row in same)})


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


def trial_name_problem(name: str) -> str:
    """Returns what is wrong with the name of a trial, which is also that of its folder; empty if it is valid."""
    valid = re.fullmatch(r"[\w+=-][\w.+=-]*", name)
    return "" if valid else f"is {name!r:.80}, which cannot be the name of a trial and its folder"
