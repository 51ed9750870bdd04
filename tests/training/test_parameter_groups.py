import pytest

from alljax.errors import ConfigError
from alljax.models.backbones import get_backbone
from alljax.training import parameter_groups

PATHS = [
    *(
        f"backbone/{path.removeprefix('params/')}"
        for path in get_backbone("resnet50").shapes
        if path.startswith("params/")
    ),
    "head/dense/kernel",
    "head/dense/bias",
]
PATHS = [path for path in PATHS if "classifier" not in path]
LAST_STAGE = (("head/.*", 1.0), ("backbone/stage4/.*", 0.1, 0.0, 3), ("backbone/(stem|stage[1-3])/.*", 0.0))


def test_each_parameter_belongs_to_one_group_and_wakes_with_it() -> None:
    read = parameter_groups.read(LAST_STAGE)
    group_of = parameter_groups.assign(PATHS, read)
    assert group_of.keys() == set(PATHS)
    assert parameter_groups.learning(group_of, read, 2) == {"head/dense/kernel", "head/dense/bias"}
    awake = parameter_groups.learning(group_of, read, 3)
    assert awake == {path for path in PATHS if path.startswith(("head/", "backbone/stage4/"))}
    assert parameter_groups.phases(read, 10) == [0, 3]
    assert parameter_groups.phases(read, 3) == [0]


def test_normalization_follows_the_batch_where_its_scale_learns() -> None:
    read = parameter_groups.read(LAST_STAGE)
    layers = parameter_groups.normalization_layers(
        parameter_groups.learning(parameter_groups.assign(PATHS, read), read, 3)
    )
    assert "stage4/block1/norm1" in layers
    assert "stage4/block1/shortcut/norm" in layers
    assert all(layer.startswith("stage4/") for layer in layers)
    assert len(layers) == 10
    convolutions = parameter_groups.read((("head/.*", 1), (".*/conv[^/]*/kernel", 1), ("(?!head).*/(bias|scale)", 0)))
    assert not parameter_groups.normalization_layers(
        parameter_groups.learning(parameter_groups.assign(PATHS, convolutions), convolutions, 0)
    )


def test_without_groups_the_backbone_is_frozen() -> None:
    read = parameter_groups.read(())
    assert parameter_groups.learning(parameter_groups.assign(PATHS, read), read, 99) == {
        "head/dense/kernel",
        "head/dense/bias",
    }


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((("head/.*", 1.0),), "no pattern matches backbone/stage1/block1/conv1/kernel"),
        ((("head/.*", 1.0), (".*", 1.0)), r"head/dense/kernel is matched by head/\.\* and by \.\*"),
        ((*LAST_STAGE[:2], ("backbone/.*", 0.0)), "matched by"),
        ((("head/.*", 1.0), ("backbone/.*", 0.0), ("tail/.*", 1.0)), r"'tail/\.\*' matches no parameter; .*stage4"),
        ((("head/(", 1.0),), "no regular expression"),
        (("head/.*",), "each entry is"),
        ((("head/.*", -1.0),), "each entry is"),
        ((("head/.*", 1.0, 1.0, 0.5),), "each entry is"),
        ((("head/.*", True),), "each entry is"),
        ((("head/.*", 1.0), ("head/.*", 0.1), ("backbone/.*", 0)), "twice"),
    ],
)
def test_mistakes_are_named(entries: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parameter_groups.assign(PATHS, parameter_groups.read(entries))
