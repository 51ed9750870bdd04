"""A checkpoint comes back bit for bit, or is called damaged."""

from pathlib import Path

import jax
import numpy as np
import pytest

from alljax.errors import WorkdirError
from alljax.training import checkpoint

TREE = {"heads": [{"dense": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}} for _ in range(2)]}


def test_bit_for_bit(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "checkpoint", TREE)
    again = checkpoint.load(tmp_path / "checkpoint")
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again, TREE)))


def test_a_second_save_replaces_the_first(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "checkpoint", {"a": np.zeros(3)})
    checkpoint.save(tmp_path / "checkpoint", TREE)
    assert "heads" in checkpoint.load(tmp_path / "checkpoint")


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "checkpoint", TREE)
    for file in [path for path in (tmp_path / "checkpoint").rglob("*") if path.is_file() and path.stat().st_size]:
        content = file.read_bytes()
        flipped = bytes([content[len(content) // 2] ^ 1])
        for damaged in (content[:-1], content[: len(content) // 2] + flipped + content[len(content) // 2 + 1 :]):
            file.write_bytes(damaged)
            with pytest.raises(WorkdirError, match="damaged checkpoint"):
                checkpoint.load(tmp_path / "checkpoint")
        file.write_bytes(content)
    checkpoint.load(tmp_path / "checkpoint")
    (tmp_path / "checkpoint.sha256").unlink()
    with pytest.raises(WorkdirError, match="damaged checkpoint"):
        checkpoint.load(tmp_path / "checkpoint")


def test_none_there_and_none_writable(tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match="no checkpoint"):
        checkpoint.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write"):
        checkpoint.save(tmp_path / "file" / "checkpoint", TREE)
