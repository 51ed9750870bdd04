"""A damaged newest checkpoint is noticed, told and left for the one before it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import Toy


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_the_one_before_is_used(
    damage: Callable[[Path], None], stopped: tuple[Toy, str], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    toy = stopped[0].at(tmp_path / "damaged")
    shutil.copytree(stopped[0].folder, toy.folder)
    *_, before, newest = sorted(map(int, toy.saved()))
    largest = max((each for each in (toy.checkpoints / str(newest)).rglob("*") if each.is_file()), key=size)
    damage(largest)
    said = toy.finish()
    assert f"{toy.checkpoints / str(newest)}: damaged checkpoint" in said
    assert f"goes on after step {before}" in said
    assert toy.outcome() == undisturbed


def size(file: Path) -> int:
    return file.stat().st_size
