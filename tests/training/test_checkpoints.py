"""Checkpoints are loaded bit for bit, or reported as damaged."""

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from alljax.errors import WorkdirError
from alljax.training import checkpoints
from alljax.training.checkpoints import CheckpointManager
from alljax.training.sharding import Mesh, PmapMesh

ABSTRACT = {"steps": np.empty((), np.int32), "weights": np.empty((3, 4), np.float32)}


def test_arrays_are_loaded_bit_for_bit(tmp_path: Path) -> None:
    tree = {"0": {"dense": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}}, "1": {"bias": np.ones(2)}}
    checkpoints.save_arrays(tmp_path / "new" / "parameters.npz", tree)
    loaded = checkpoints.load_arrays(tmp_path / "new" / "parameters.npz")
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), loaded, tree))


@contextlib.contextmanager
def manager(folder: Path, latest: int = 2, best: int = 0, abstract: Any = ABSTRACT, note: str = "") -> Iterator[Any]:
    train = ConfigDict({"keep_latest": latest, "keep_best": best})
    with contextlib.closing(CheckpointManager(folder, train, abstract, note)) as opened:
        yield opened


def state(step: int) -> dict[str, np.ndarray]:
    return {"steps": np.array(step, np.int32), "weights": step + np.arange(12, dtype=np.float32).reshape(3, 4)}


def write(folder: Path, losses: dict[int, float | None], **options: Any) -> None:
    with manager(folder, **options) as opened:
        for step, loss in losses.items():
            opened.save(step, state(step), {"history": [[0.1 * step, 1 / 3]]}, loss)


def steps(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.iterdir() if path.is_dir()}


@pytest.mark.parametrize("save", [Mesh, lambda: Mesh(4), PmapMesh], ids=["jit", "fsdp", "pmap"])
def test_donated_state_is_saved_and_loaded_on_other_devices(save: Any, tmp_path: Path) -> None:
    """The step that follows reuses the state's memory while the checkpoint is written; fsdp stays sharded."""
    mesh: Mesh = save()
    values = {"large": np.arange(2**18, dtype=np.float32).reshape(512, 512), "small": np.ones(3, np.float32)}
    shapes = jax.eval_shape(lambda tree: tree, values)
    tree, step = mesh.replicate(values), mesh.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 - 1, tree), donate=0)
    with manager(tmp_path, abstract=mesh.abstract(shapes)) as opened:
        opened.save(1, mesh.stored(tree), {})
        for _ in range(3):
            tree = step(tree)
        jax.block_until_ready(tree)
    for other in (Mesh(), Mesh(4), PmapMesh()):
        with manager(tmp_path, abstract=other.abstract(shapes)) as opened:
            loaded = opened.load(1)[0]
        assert jax.tree.all(jax.tree.map(np.array_equal, other.gather(loaded), values))
        again = other.replicate(values)
        assert jax.tree.all(jax.tree.map(lambda a, b: a.sharding.is_equivalent_to(b.sharding, a.ndim), loaded, again))


@pytest.mark.parametrize(
    ("latest", "best", "kept"),
    [(1, 0, {6}), (2, 0, {5, 6}), (1, 1, {2, 6}), (1, 2, {2, 3, 6}), (3, 2, {2, 3, 4, 5, 6})],
)
def test_newest_and_best_checkpoints_are_kept(latest: int, best: int, kept: set[int], tmp_path: Path) -> None:
    """Of equal losses the earlier; a checkpoint without a loss is never among the best; also after a restart."""
    write(tmp_path, {1: 0.9, 2: 0.1, 3: 0.1}, latest=latest, best=best)
    write(tmp_path, {4: None, 5: 0.3, 6: 0.2}, latest=latest, best=best)
    assert steps(tmp_path) == kept


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of threads of TensorStore
def test_damage_is_one_line_that_says_what_to_remove(tmp_path: Path) -> None:
    """Each file truncated, missing or with one other bit: an error, or the same values; removing it resumes the run."""
    write(tmp_path / "complete", {1: None, 2: 0.5})
    names = [path.relative_to(tmp_path / "complete") for path in (tmp_path / "complete/2").rglob("*") if path.is_file()]
    found = []
    for number, (name, damage) in enumerate(itertools.product(names, ("cut", "missing", "bit"))):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "complete", folder)
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 4
        (folder / name).write_bytes(data[: len(data) // 2] if damage == "cut" else data)
        if damage == "missing":
            (folder / name).unlink()
        try:
            with manager(folder) as opened:
                np.testing.assert_equal(opened.load(2)[0], state(2))
        except WorkdirError as error:
            damaged, _, fix = str(error).partition(" is damaged; ")
            assert fix == "remove it and run the same command again"
            found.append(damaged)
            shutil.rmtree(damaged)
            with manager(folder) as opened:
                assert opened.latest == (1 if damaged.endswith("/2") else 0)
                opened.save(2, state(2), {})
    assert len(found) > 5


def test_other_config_does_not_fit(tmp_path: Path) -> None:
    write(tmp_path, {1: None})
    for other in ({"abstract": {"momentum": ABSTRACT["weights"]}}, {"note": "3 steps per epoch"}):
        error = pytest.raises(WorkdirError, match=r"/1 does not fit this config \(.*(momentum|3 steps)")
        with manager(tmp_path, **other) as opened, error:
            opened.load(1)


def test_failed_save_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The previous checkpoint is kept; tests/faults fills a real disk."""

    def fail(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    with manager(tmp_path) as opened:
        opened.save(1, state(1), {})
        monkeypatch.setattr(opened._orbax, "save_async", fail)
        with pytest.raises(WorkdirError, match=r"cannot write .*No space left on device"):
            opened.save(2, state(2), {})
    assert steps(tmp_path) == {1}
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write"), manager(tmp_path / "file" / "checkpoints"):
        pass
