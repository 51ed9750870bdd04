"""Layer groups cover each parameter once."""

from typing import Any

import pytest

from alljax.errors import ConfigError
from alljax.models.backbones import get_backbone
from alljax.training import parameter_groups
from alljax.training.parameter_groups import ParameterGroup

PATHS = [
    *(path.replace("params", "backbone") for path in get_backbone("resnet50").shapes if path.startswith("params/s")),
    "head/dense/kernel",
    "head/dense/bias",
]
HEAD = set(PATHS[-2:])
LAST_STAGE = (("head/.*", 1.0), ("backbone/stage4/.*", 0.1, 0.0, 3), ("backbone/(stem|stage[1-3])/.*", 0.0))


def assign(entries: Any) -> dict[str, ParameterGroup]:
    return parameter_groups.assign(PATHS, entries)


def test_each_parameter_has_one_group_and_is_trained_from_its_epoch_on() -> None:
    group_of = assign(LAST_STAGE)
    assert group_of.keys() == set(PATHS)
    assert parameter_groups.trainable(group_of, 2) == HEAD
    expected = {path for path in PATHS if path.startswith(("head/", "backbone/stage4/"))}
    assert parameter_groups.trainable(group_of, 3) == expected


def test_layers_with_a_trained_scale_normalize_by_the_batch() -> None:
    layers = parameter_groups.normalization_layers(parameter_groups.trainable(assign(LAST_STAGE), 3))
    assert {"stage4/block1/norm1", "stage4/block1/shortcut/norm"} < layers
    assert all(layer.startswith("stage4/") for layer in layers)
    assert len(layers) == 10
    convolutions = assign((("head/.*", 1), (".*/conv[^/]*/kernel", 1), ("(?!head).*/(bias|scale)", 0)))
    assert not parameter_groups.normalization_layers(parameter_groups.trainable(convolutions, 0))


def test_without_groups_the_backbone_is_frozen() -> None:
    assert parameter_groups.trainable(assign(()), 99) == HEAD


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((("head/.*", 1.0),), "no pattern matches backbone/stage1/block1/conv1/kernel"),
        ((("head/.*", 1.0), (".*", 1.0)), r"head/dense/kernel is matched by head/\.\* and \.\*"),
        ((("head/.*", 1.0), ("backbone/.*", 0.0), ("tail/.*", 1.0)), r"'tail/\.\*' matches no parameter; .*stage4"),
        ((("head/(", 1.0),), "not a regular expression"),
        ((("(head/.*)+", 1.0),), "could take too long; .* repeat no group"),
        ((("(a?)" * 30, 1.0),), "could take too long; use at most 200 characters, 4 of"),
        ((("head/.*", 1.0), ("head/.*", 0.1), ("backbone/.*", 0)), r"matched by head/\.\* and head/\.\*"),
    ],
)
def test_invalid_groups_are_errors(entries: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assign(entries)
