"""Layer groups: which parameters are trained, from which epoch on, with which learning rate and weight decay."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alljax.config import compile_pattern
from alljax.errors import ConfigError

FROZEN_BACKBONE = (("head/.*", 1.0), ("backbone/.*", 0.0))
"""The groups if ``train.groups`` is empty: only the head is trained."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained in the same way."""

    pattern: str  # regular expression that fully matches their "/"-joined paths, such as ``backbone/block5/.*``
    rate: float  # factor on the learning rate; 0 for frozen parameters
    decay: float = 1.0  # factor on the weight decay
    from_epoch: int = 0  # first epoch, counted from 0, in which they are trained


Groups = Mapping[str, ParameterGroup]
"""Path of a parameter → its layer group."""


def assign(paths: Iterable[str], entries: Sequence[Any]) -> dict[str, ParameterGroup]:
    """Returns the layer group of each parameter by its path, which matches exactly one of ``train.groups``."""
    groups = [ParameterGroup(*entry) for entry in entries or FROZEN_BACKBONE]
    patterns = [compile_pattern("train.groups", group.pattern, repeats=4) for group in groups]
    group_of: dict[str, ParameterGroup] = {}
    for path in paths:
        matched = [group for group, pattern in zip(groups, patterns, strict=True) if pattern.fullmatch(path)]
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


def trainable(group_of: Groups, epoch: int) -> frozenset[str]:
    """Returns the paths of the parameters that are trained in an epoch, counted from 0."""
    return frozenset(path for path, group in group_of.items() if group.rate > 0 and group.from_epoch <= epoch)


def normalization_layers(trainable: Iterable[str]) -> frozenset[str]:
    """Returns `BatchNormContext.layers` where these parameters are trained: the layers whose scale is one of them."""
    scales = (path for path in trainable if path.startswith("backbone/") and path.endswith("/scale"))
    return frozenset(path.removeprefix("backbone/").removesuffix("/scale") for path in scales)
