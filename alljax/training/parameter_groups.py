"""Layer groups: which parameters are trained, from which epoch on, with which learning rate and weight decay."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alljax.errors import ConfigError

FROZEN_BACKBONE = (("head/.*", 1.0), ("backbone/.*", 0.0))
"""The groups if ``train.groups`` is empty: only the head is trained."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained in the same way.

    Attributes:
        pattern: regular expression that fully matches their "/"-joined paths, such as ``backbone/block5/.*``.
        rate: factor on the learning rate; 0 for frozen parameters.
        decay: factor on the weight decay.
        from_epoch: first epoch, counted from 0, in which they are trained.
    """

    pattern: str
    rate: float
    decay: float = 1.0
    from_epoch: int = 0


def read_groups(entries: Sequence[Any]) -> tuple[ParameterGroup, ...]:
    """Returns the layer groups of ``train.groups``.

    Args:
        entries: each (pattern, rate), (pattern, rate, decay) or (pattern, rate, decay, from_epoch).

    Raises:
        ConfigError: an entry of another form, an invalid regular expression, or a repeated pattern.
    """
    groups = []
    for entry in entries or FROZEN_BACKBONE:
        if not _is_valid(entry):
            raise ConfigError(
                f"train.groups contains {entry!r}; each entry is (pattern, rate[, decay[, from_epoch]]), for example "
                "('backbone/block5/.*', 0.1)"
            )
        try:
            re.compile(entry[0])
        except re.error as error:
            raise ConfigError(f"train.groups: {entry[0]!r} is not a regular expression: {error}") from error
        groups.append(ParameterGroup(*entry))
    if len({group.pattern for group in groups}) < len(groups):
        raise ConfigError("train.groups repeats a pattern; each parameter belongs to exactly one group")
    return tuple(groups)


def _is_valid(entry: Any) -> bool:
    if not isinstance(entry, tuple | list) or not 2 <= len(entry) <= 4 or not isinstance(entry[0], str):
        return False
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) and n >= 0 for n in entry[1:])
    return numbers and all(isinstance(epoch, int) for epoch in entry[3:])


def assign(paths: Iterable[str], groups: Sequence[ParameterGroup]) -> dict[str, ParameterGroup]:
    """Returns the group of each parameter, by path.

    Raises:
        ConfigError: a parameter that matches no pattern or several, or a pattern that matches no parameter.
    """
    patterns = {group: re.compile(group.pattern) for group in groups}
    group_of: dict[str, ParameterGroup] = {}
    for path in paths:
        matched = [group for group, pattern in patterns.items() if pattern.fullmatch(path)]
        if not matched:
            raise ConfigError(f"train.groups: no pattern matches {path}; add a group, with rate 0 to freeze it")
        if len(matched) > 1:
            names = " and ".join(group.pattern for group in matched)
            raise ConfigError(f"train.groups: {path} is matched by {names}; change the patterns so that one matches")
        group_of[path] = matched[0]
    if unused := sorted(group.pattern for group in groups if group not in group_of.values()):
        stages = sorted({"/".join(path.split("/")[:2]) for path in group_of})
        raise ConfigError(f"train.groups: {unused[0]!r} matches no parameter; they start with {', '.join(stages)}")
    return group_of


def trainable(group_of: Mapping[str, ParameterGroup], epoch: int) -> frozenset[str]:
    """Returns the paths of the parameters that are trained in an epoch, counted from 0."""
    return frozenset(path for path, group in group_of.items() if group.rate > 0 and group.from_epoch <= epoch)


def phases(groups: Sequence[ParameterGroup], epochs: int) -> list[int]:
    """Returns the epochs, ascending from 0, in which the set of trained parameters changes."""
    return sorted({0, *(group.from_epoch for group in groups if group.rate > 0 and group.from_epoch < epochs)})


def normalization_layers(trainable: Iterable[str]) -> frozenset[str]:
    """Returns the backbone's normalization layers that normalize by the batch: those whose scale is trained.

    Args:
        trainable: paths of parameters, from `trainable`.

    Returns:
        Their paths from the backbone's root, as `alljax.models.normalization.Batch` expects them.
    """
    scales = (path for path in trainable if path.startswith("backbone/") and path.endswith("/scale"))
    return frozenset(path.removeprefix("backbone/").removesuffix("/scale") for path in scales)
