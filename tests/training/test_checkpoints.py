"""A checkpoint comes back bit for bit, or is called damaged."""

import asyncio
import concurrent.futures
import gc
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from alljax.errors import WorkdirError
from alljax.training import checkpoints

TREE = {"heads": [{"dense": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}} for _ in range(2)]}


def test_bit_for_bit(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "checkpoint", TREE)
    again = checkpoints.load(tmp_path / "checkpoint")
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again, TREE)))


def test_a_second_save_replaces_the_first(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "checkpoint", {"a": np.zeros(3)})
    checkpoints.save(tmp_path / "checkpoint", TREE)
    assert "heads" in checkpoints.load(tmp_path / "checkpoint")


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "checkpoint", TREE)
    for file in [path for path in (tmp_path / "checkpoint").rglob("*") if path.is_file() and path.stat().st_size]:
        content = file.read_bytes()
        flipped = bytes([content[len(content) // 2] ^ 1])
        for damaged in (content[:-1], content[: len(content) // 2] + flipped + content[len(content) // 2 + 1 :]):
            file.write_bytes(damaged)
            with pytest.raises(WorkdirError, match="damaged checkpoint"):
                checkpoints.load(tmp_path / "checkpoint")
        file.write_bytes(content)
    checkpoints.load(tmp_path / "checkpoint")
    (tmp_path / "checkpoint.sha256").unlink()
    with pytest.raises(WorkdirError, match="damaged checkpoint"):
        checkpoints.load(tmp_path / "checkpoint")


def test_none_there_and_none_writable(tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match="no checkpoint"):
        checkpoints.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write"):
        checkpoints.save(tmp_path / "file" / "checkpoint", TREE)


# --- the checkpoints of a run

LAYOUT = ["weights float32 (3, 4)", "steps int32 ()"]


class Opened:
    """Checkpoints that are closed when a test ends, and what they said."""

    def __init__(self, folder: Path, latest: int = 2, best: int = 0, layout: Sequence[str] = LAYOUT) -> None:
        self.said: list[str] = []
        self.checkpoints = checkpoints.Checkpoints(folder, latest, best, layout)

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *error: object) -> None:
        self.checkpoints.close()

    def save(self, step: int, loss: float | None = None) -> None:
        self.checkpoints.save(step, leaves(step), {"history": [[0.1 * step, 1 / 3]]}, loss)


def leaves(step: int) -> list[np.ndarray]:
    return [step + np.arange(12, dtype=np.float32).reshape(3, 4), np.int32(step)]  # type: ignore[list-item]


def steps(folder: Path) -> set[int]:
    folders = {int(path.name) for path in folder.iterdir() if path.is_dir()}
    assert {int(path.stem) for path in folder.glob("*.sha256")} == folders
    return folders


def test_a_checkpoint_comes_back_with_its_record(tmp_path: Path) -> None:
    record = {"history": [[0.1, 1 / 3]]}
    with Opened(tmp_path) as opened:
        assert opened.checkpoints.latest is None
        opened.checkpoints.save(3, leaves(3), record)
        record["history"].append([9.0, 9.0])  # the run goes on while it is written
    with Opened(tmp_path) as opened:
        assert opened.checkpoints.latest == 3
        saved = opened.checkpoints.load(3)
    assert saved.record["history"] == [[0.1, 1 / 3]]
    for ours, theirs in zip(saved.leaves, leaves(3), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert opened.said == []


def test_arrays_may_change_while_they_are_written(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        arrays = [np.zeros((512, 512), np.float32), np.int32(0)]
        opened.checkpoints.save(1, arrays, {})  # type: ignore[arg-type]
        arrays[0][:] = 1
        opened.checkpoints.wait()
        assert not opened.checkpoints.load(1).leaves[0].any()


@pytest.mark.parametrize(
    ("latest", "best", "kept"),
    [(1, 0, {6}), (2, 0, {5, 6}), (1, 1, {2, 6}), (1, 2, {2, 3, 6}), (3, 2, {2, 3, 4, 5, 6}), (1, 9, {1, 2, 3, 5, 6})],
)
def test_the_newest_and_the_best_are_kept(latest: int, best: int, kept: set[int], tmp_path: Path) -> None:
    """Of equal losses the earlier; a checkpoint without a loss is never among the best; all over a restart too."""
    losses = {1: 0.9, 2: 0.1, 3: 0.1, 4: None, 5: 0.3, 6: 0.2}
    for half in ((1, 2, 3), (4, 5, 6)):
        with Opened(tmp_path, latest, best) as opened:
            for step in half:
                opened.save(step, losses[step])
    assert steps(tmp_path) == kept


def test_one_is_whole_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is removed before the next is sealed, even if but one is to be kept."""
    with Opened(tmp_path, latest=1) as opened:
        opened.save(1)
        opened.checkpoints.wait()
        sealed = checkpoints._seal
        seen: list[bool] = []

        def look(folder: Path) -> None:
            seen.append((tmp_path / "1").is_dir() and (tmp_path / "1.sha256").is_file())
            sealed(folder)

        monkeypatch.setattr(checkpoints, "_seal", look)
        opened.save(2)
        opened.checkpoints.wait()
    assert seen == [True]
    assert steps(tmp_path) == {2}


def test_any_damage_to_a_run_is_noticed(tmp_path: Path) -> None:
    """Each file of the newest cut, changed, emptied and removed: the one before is used, and saving goes on."""
    with Opened(tmp_path / "whole") as opened:
        opened.save(1)
        opened.save(2, loss=0.5)
    names = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole/2").rglob("*") if path.is_file()]
    assert len(names) > 5
    for number, name in enumerate([*names, Path("2.sha256")]):
        content = (tmp_path / "whole" / name).read_bytes()
        middle = len(content) // 2
        changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else b"x"
        for damage, damaged in enumerate((content[:-1] if content else None, changed, b"" if content else b"y", None)):
            here = tmp_path / f"{number}-{damage}"
            shutil.copytree(tmp_path / "whole", here)
            (here / name).unlink() if damaged is None else (here / name).write_bytes(damaged)
            with Opened(here) as opened:
                assert opened.checkpoints.latest == 1, (name, damage)
                assert opened.checkpoints.load(1).leaves[1] == 1
                state = "unfinished" if name.suffix == ".sha256" and damaged is None else "damaged"
                assert opened.said == [f"{here / '2'}: {state} checkpoint, removed"]
                opened.save(2)
            assert steps(here) == {1, 2}
            shutil.rmtree(here)


def test_what_a_kill_leaves_is_removed(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.save(1)
    unfinished = tmp_path / "2.orbax-checkpoint-tmp/state"
    unfinished.mkdir(parents=True)
    (unfinished / "d").write_bytes(b"half")
    (tmp_path / ".3.sha256.abc.part").write_text("")
    with Opened(tmp_path) as opened:
        assert opened.checkpoints.latest == 1
        opened.save(2)
    assert steps(tmp_path) == {1, 2}


def test_another_layout_does_not_fit(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.save(1)
    other = [LAYOUT[0], "momentum float32 (3, 4)"]
    with (
        Opened(tmp_path, layout=other) as opened,
        pytest.raises(WorkdirError, match=r"/1 does not fit this config \(.*momentum .*; 2 in all\)"),
    ):
        opened.checkpoints.load(1)
    with Opened(tmp_path) as opened, pytest.raises(WorkdirError, match="5: this checkpoint is gone"):
        opened.checkpoints.load(5)


@pytest.mark.parametrize("moment", ["at once", "behind"])
def test_a_failed_save_is_told(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next call at the latest, and once; the one before stays."""
    with Opened(tmp_path) as opened:
        opened.save(1)
        opened.checkpoints.wait()

        def fail(*arguments: object, **more: object) -> None:
            raise OSError(28, "No space left on device")

        if moment == "at once":
            monkeypatch.setattr(opened.checkpoints._orbax, "save_checkpointables_async", fail)
            with pytest.raises(WorkdirError, match=r"/2: .*No space left on device"):
                opened.save(2)
        else:
            monkeypatch.setattr(checkpoints, "_seal", fail)
            opened.save(2)
            concurrent.futures.wait([opened.checkpoints._writing])  # type: ignore[list-item]
            with pytest.raises(WorkdirError, match=r"/2: .*No space left on device"):
                opened.checkpoints.check()
            with pytest.raises(WorkdirError, match="/2"):
                opened.checkpoints.wait()
    monkeypatch.undo()
    with Opened(tmp_path) as opened:
        assert opened.checkpoints.latest == 1


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write the checkpoint"):
        Opened(tmp_path / "file" / "checkpoints")


def test_writes_that_failed_beside_it_stay_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk several of Orbax's writes fail, and it awaits the first of them only."""
    checkpoints.save(tmp_path / "folder", TREE)

    async def fail() -> None:
        raise ValueError("RESOURCE_EXHAUSTED")

    async def run() -> None:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])

    asyncio.run(run())
    gc.collect()
    assert not caplog.records
