"""Cached files: damage is found, leftovers and old files are removed, unfinished ones of living processes are kept."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from alljax import cache
from alljax.cli import main
from alljax.errors import WorkdirError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that may have 3000 bytes."""
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ALLJAX_CACHE_GB", "3e-6")
    return tmp_path / "cache"


def store(path: Path, age: int) -> Path:
    """Stores 1000 bytes that were last used `age` seconds ago."""
    with cache.write(path) as file:
        file.write(bytes(1000))
    os.utime(path, (path.stat().st_mtime - age,) * 2)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".sha256")


@pytest.mark.parametrize("damage", ["bit", "end", "checksum", "no checksum"])
def test_damaged_files_are_named_and_not_used(folder: Path, damage: str, messages: list[str]) -> None:
    path, checksum = folder / "hashes/name", folder / "hashes/name.sha256"
    cache.write_text(path, "text")
    assert cache.read_text(path) == "text"
    subprocess.run(["sha256sum", "--check", "--status", checksum.name], cwd=path.parent, check=True)
    match damage:
        case "bit":
            path.write_bytes(b"tex\xf4")
        case "end":
            path.write_bytes(b"tex")
        case "checksum":
            checksum.write_bytes(b"\xff" + checksum.read_bytes()[1:])
        case _:
            checksum.unlink()
    assert cache.read_text(path) is None
    assert cache.read_text(path) is None
    named = [line for line in messages if line.startswith(f"{path} is damaged and not used")]
    assert len(named) == (damage != "no checksum"), "once"
    cache.write_text(path, "text")
    assert cache.read_text(path) == "text"


def test_least_recently_used_files_are_removed(folder: Path, messages: list[str]) -> None:
    for age in (30, 20, 10):
        store(folder / f"features/{age}.npy", age)
    (folder / "weights").mkdir()
    (folder / "weights/vgg16.pth").write_bytes(bytes(5000))
    cache.make_room(0)
    assert names(folder) == ["10.npy", "20.npy", "30.npy", "vgg16.pth"], "weights do not count and stay"
    file = cache.open_intact(folder / "features/30.npy")
    assert file
    file.close()
    cache.make_room(1500)
    assert names(folder) == ["30.npy", "vgg16.pth"]
    assert len(messages) == 2
    assert all(
        line.endswith("removed from the cache, unused for the longest time (ALLJAX_CACHE_GB)") for line in messages
    )
    with pytest.raises(WorkdirError, match=r"1,000,000\.0 GB are needed, and .* GB are free on the disk"):
        cache.make_room(10**15)
    assert not list(folder.glob("features/*"))


def test_cache_is_listed_and_cleared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, download = store(folder / "features/vgg16-key.npy", 90), folder / "weights/vgg16-397923af.pth.part"
    path.with_suffix(".lock").touch()
    download.parent.mkdir()
    download.write_bytes(bytes(2_000_000))
    assert main(["cache", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
    assert lines[0] == f"features           0.00 MB  {when}  vgg16-key.npy"
    assert re.fullmatch(r"weights            2\.00 MB  [-\d]{10} [:\d]{5}  vgg16-397923af\.pth\.part", lines[1])
    assert lines[2] == f"{folder}: 0.00 of 3e-06 GB (ALLJAX_CACHE_GB), not counting weights"
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == "removed 1 file, 0.00 GB\n"
    assert not path.exists()
    assert main(["cache", "clear", "--weights"]) == 0
    assert capsys.readouterr().out.endswith("removed 1 file, 0.00 GB\n")
    assert not download.exists()


def test_unfinished_files_of_killed_processes_are_removed_after_a_day(folder: Path) -> None:
    store(folder / "features/old.npy", 0)
    killed, living = folder / "features/.killed.npy.part", folder / "features/.living.npy.part"
    for path in (killed, living):
        path.write_bytes(b"unfinished")
    os.utime(killed, (time.time() - 90_000,) * 2)
    cache.make_room(0)
    assert names(folder) == [living.name, "old.npy"]
    assert main(["cache", "clear"]) == 0
    assert names(folder) == [living.name], "a study that is running can complete it"
