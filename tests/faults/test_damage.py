"""A damaged newest checkpoint is noticed, told and left for the one before it."""

import shutil
from pathlib import Path
from typing import Any

from faults.conftest import Toy


def test_the_one_before_is_used(stopped: tuple[Toy, str], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """One bit differs; every file cut, changed and removed: tests/training/test_checkpoint.py."""
    toy = stopped[0].at(tmp_path / "damaged")
    shutil.copytree(stopped[0].folder, toy.folder)
    *_, before, newest = sorted(map(int, toy.saved()))
    files = [path for path in (toy.checkpoints / str(newest)).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    said = toy.finish()
    assert f"{toy.checkpoints / str(newest)}: damaged checkpoint, removed" in said
    assert f"resuming after step {before}" in said
    assert toy.outcome() == undisturbed
