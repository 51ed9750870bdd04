"""A study is a list of cells: one resolved config each, with a name that says what sets it apart."""

import re
from dataclasses import dataclass

from ml_collections import ConfigDict

from alljax import config as configs
from alljax.errors import ConfigError


@dataclass(frozen=True)
class Cell:
    """One set-up of a study.

    Attributes:
        name: backbone and optimizer, then what else the study varies; also the cell's folder.
        config: all knobs, with nothing left to vary.
    """

    name: str
    config: ConfigDict


def cells(config: ConfigDict) -> list[Cell]:
    """Returns the cells of ``study.vary``'s product, the last key varying fastest.

    Raises:
        ConfigError: two cells would have the same name.
    """
    grid: dict[str, Cell] = {}
    for changes in configs.variations(config):
        resolved = configs.vary(config, changes | {"study.vary": ()})
        parts = [resolved.model.backbone, resolved.train.optimizer]
        named = ("model.backbone", "train.optimizer")
        parts += [f"{_short(key)}={value}" for key, value in changes.items() if key not in named]
        name = re.sub(r"[^\w.=+-]+", "_", "-".join(parts))
        if name in grid:
            raise ConfigError(f"study.vary gives two cells the name {name!r}; list each value once")
        grid[name] = Cell(name, resolved)
    return list(grid.values())


def _short(key: str) -> str:
    """Returns the word of a key that a person needs: epochs of train.epochs, weights of weights.name."""
    group, _, name = key.rpartition(".")
    return group if name in ("name", "path") else name
