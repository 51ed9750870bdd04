"""Which parameters learn, how fast, with how much decay, and from which epoch on."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alljax.errors import ConfigError

FROZEN_BACKBONE = (("head/.*", 1.0), ("backbone/.*", 0.0))
"""What ``train.groups`` means when it is empty: the frozen mode."""

EXAMPLE = "(('head/.*', 1.0), ('backbone/block5/.*', 0.1), ('backbone/block[1-4]/.*', 0.0))"


@dataclass(frozen=True)
class Group:
    """Parameters that learn alike.

    Attributes:
        pattern: regular expression that matches their "/"-joined paths in full, such as ``backbone/block5/.*``.
        rate: factor on the learning rate; 0 for parameters that never change.
        decay: factor on the weight decay.
        from_epoch: the first epoch, from 0, in which they learn.
    """

    pattern: str
    rate: float
    decay: float = 1.0
    from_epoch: int = 0


def read(entries: Sequence[Any]) -> tuple[Group, ...]:
    """Returns the layer groups of ``train.groups``.

    Args:
        entries: each (pattern, rate), (pattern, rate, decay) or (pattern, rate, decay, from_epoch).

    Raises:
        ConfigError: an entry of another form, or a pattern that is no regular expression.
    """
    groups = []
    for entry in entries or FROZEN_BACKBONE:
        if not _well_formed(entry):
            raise ConfigError(
                f"train.groups holds {entry!r}; each entry is (pattern, rate[, decay[, from_epoch]]), for example "
                f"{EXAMPLE}"
            )
        try:
            re.compile(entry[0])
        except re.error as error:
            raise ConfigError(f"train.groups: {entry[0]!r} is no regular expression: {error}") from error
        groups.append(Group(*entry))
    if len({group.pattern for group in groups}) < len(groups):
        raise ConfigError("train.groups names a pattern twice; each parameter belongs to exactly one group")
    return tuple(groups)


def _well_formed(entry: Any) -> bool:
    if not isinstance(entry, tuple | list) or not 2 <= len(entry) <= 4 or not isinstance(entry[0], str):
        return False
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) and n >= 0 for n in entry[1:])
    return numbers and all(isinstance(epoch, int) for epoch in entry[3:])


def assign(paths: Iterable[str], groups: Sequence[Group]) -> dict[str, str]:
    """Returns the pattern of each parameter's group.

    Raises:
        ConfigError: a parameter that no pattern matches, or more than one, or a pattern that matches none.
    """
    patterns = {group.pattern: re.compile(group.pattern) for group in groups}
    group_of: dict[str, str] = {}
    for path in paths:
        matched = [name for name, pattern in patterns.items() if pattern.fullmatch(path)]
        if not matched:
            raise ConfigError(f"train.groups: no pattern matches {path}; add one, with rate 0 where it is to stay")
        if len(matched) > 1:
            raise ConfigError(f"train.groups: {path} is matched by {' and by '.join(matched)}; let one match it")
        group_of[path] = matched[0]
    if idle := sorted(patterns.keys() - group_of.values()):
        stages = sorted({"/".join(path.split("/")[:2]) for path in group_of})
        raise ConfigError(f"train.groups: {idle[0]!r} matches no parameter; they begin with {', '.join(stages)}")
    return group_of


def learning(group_of: Mapping[str, str], groups: Sequence[Group], epoch: int) -> frozenset[str]:
    """Returns the paths of the parameters that learn in an epoch, counted from 0."""
    awake = {group.pattern for group in groups if group.rate > 0 and group.from_epoch <= epoch}
    return frozenset(path for path, pattern in group_of.items() if pattern in awake)


def phases(groups: Sequence[Group], epochs: int) -> list[int]:
    """Returns the epochs, in order, in which another set of parameters begins to learn; the first is 0."""
    return sorted({0, *(group.from_epoch for group in groups if group.rate > 0 and group.from_epoch < epochs)})


def normalization_layers(learning: Iterable[str]) -> frozenset[str]:
    """Returns the backbone's normalization layers that follow the batch: those whose scale learns.

    Args:
        learning: from `learning`.

    Returns:
        Their paths from the backbone's root, as `alljax.models.normalization.Batch` takes them.
    """
    scales = (path for path in learning if path.startswith("backbone/") and path.endswith("/scale"))
    return frozenset(path.removeprefix("backbone/").removesuffix("/scale") for path in scales)
