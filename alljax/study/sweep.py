"""The trials of a study, one resolved config each, and the jobs in which they are trained."""

import fnmatch
import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from alljax import config as configs
from alljax.errors import ConfigError, first_few
from alljax.settings import HEADS
from alljax.study import designs

UNSET = {"study.sweep": (), "study.design": "", "study.combine": ()}
"""Settings of a study that its trials do not have."""

MAX_VALUE_LENGTH = 48
"""Characters of a value in a trial's name; longer values are shortened to their beginning and a hash."""


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
    def has_epochs(self) -> bool:
        """See the function of this name."""
        return has_epochs(self.config)

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
    trials: dict[str, Trial] = {}
    designed = designs.combinations(config.study.design, configs.sweep_axes(config))
    rows = [{"model.label": config.model.label} | changes for changes in designed]
    for changes in rows:
        resolved = configs.check(configs.vary(config, changes | UNSET))
        name = _trial_name(resolved, changes, rows)
        if resolved.weights.name == "random" and "weights=random" not in name:
            name += "-weights=random"  # in every table
        of_split = {key: value for key, value in changes.items() if key.startswith("split.")}
        if selects_on_test(resolved):
            of_split["features.select_scope"] = "all"
        if name in trials:
            raise ConfigError(f"study.sweep gives two trials the name {name!r}; list each value once")
        trials[name] = Trial(name, resolved, _name({"split.protocol": resolved.split.protocol}, of_split))
    for trial in _combined(config, list(trials.values())):
        if trial.name in trials:
            raise ConfigError(f"study.combine: there are two trials {trial.name!r}; choose another name")
        trials[trial.name] = trial
    return list(trials.values())


def _combined(config: ConfigDict, trials: Sequence[Trial]) -> Iterator[Trial]:
    """Yields a trial per entry of ``study.combine`` and split with matching trials, with the config of the first."""
    for entry in config.study.combine:
        name, rule, pattern = entry if len(entry) == 3 else (*entry, "*")
        matching = [trial for trial in trials if fnmatch.fnmatchcase(trial.name, pattern)]
        splits = {trial.split: [other for other in matching if other.split == trial.split] for trial in matching}
        where = f"study.combine: {name!r}"
        alone = [members[0].name for members in splits.values() if len(members) < 2]
        if alone or not matching:
            found = f"only {alone[0]} of its split" if alone else f"none of {first_few(one.name for one in trials)}"
            raise ConfigError(f"{where} needs at least two trials of the same split, but {pattern!r} matches {found}")
        untested = [one.name for one in matching if one.config.train.mode != "frozen"]
        if rule == "weighted" and (untested or config.evaluation.inner_folds < 2):
            why = f"{untested[0]} (train.mode=finetune) has none" if untested else "evaluation.inner_folds is below 2"
            raise ConfigError(f"{where}: the weights are from inner folds, and {why}; use the rule mean")
        for split, members in splits.items():
            named = _text(name) if len({trial.split for trial in trials}) == 1 else f"{_text(name)}-{split}"
            if problem := trial_name_problem(named):
                raise ConfigError(f"{where}: the name {problem}")
            of_entry = configs.vary(members[0].config, {"study.combine": ((name, rule, pattern),)})
            yield Trial(named, of_entry, split, tuple(member.name for member in members))


def jobs(trials: Sequence[Trial], shard: tuple[int, int] = (0, 1), finished: Collection[str] = ()) -> list[Job]:
    """Returns the jobs of a study without `finished` trials; of shard (i, n) only the jobs i, i + n, ….

    Frozen trials that differ in ``train.epochs`` only are prefixes of one training, unless the schedule depends on it.
    """
    grouped: dict[str, list[Trial]] = {}
    for trial in sorted((one for one in trials if not one.members), key=lambda trial: trial.config.train.epochs):
        train = trial.config.train
        shared = train.mode == "frozen" and train.schedule != "cosine"
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
    name = _name({"": label}, {key: changes[key] for key in changes if any(row[key] != changes[key] for row in same)})
    if problem := trial_name_problem(name):
        raise ConfigError(f"model.label={label!r} {problem}")
    return name


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
