"""A study's cells: the product of what it varies, each with a name of its own."""

import pytest

from alljax.config import default_config
from alljax.errors import ConfigError
from alljax.study.grid import cells


def test_nothing_varied_is_one_cell() -> None:
    (cell,) = cells(default_config())
    assert cell.name == "efficientnet_lite0-adam"


def test_the_product_in_order_with_names() -> None:
    config = default_config()
    config.study.vary = (
        ("train.optimizer", ("adam", "rmsprop")),
        ("preprocessing.name", ("torch", "lite")),
        ("train.learning_rate", (1e-3,)),
    )
    grid = cells(config)
    assert [cell.name for cell in grid] == [
        f"efficientnet_lite0-{optimizer}-preprocessing={name}-learning_rate=0.001"
        for optimizer in ("adam", "rmsprop")
        for name in ("torch", "lite")
    ]
    assert grid[3].config.preprocessing.name == "lite"
    assert grid[3].config.train.optimizer == "rmsprop"
    assert not grid[3].config.study.vary


def test_a_name_is_a_folder_name() -> None:
    config = default_config()
    config.study.vary = (("weights.path", ("../some where/a.pth",)),)
    assert "/" not in cells(config)[0].name


def test_the_same_value_twice_is_refused() -> None:
    config = default_config()
    config.study.vary = (("train.epochs", (3, 3)),)
    with pytest.raises(ConfigError, match="two cells the name"):
        cells(config)
