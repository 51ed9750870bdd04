"""Files are written completely or not at all."""

import errno
import os
from pathlib import Path

import pytest

from alljax import files, interrupts
from alljax.errors import Stopped, WorkdirError


def test_exception_keeps_old_file_and_leaves_no_new_one(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "result.json"
    files.write_text(path, "old")

    def fail_halfway() -> None:
        with files.atomic_write(path) as file:
            file.write(b"half of the new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert [each.name for each in path.parent.iterdir()] == ["result.json"]


def test_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkdirError, match=r"^cannot write \S+/a: No space left on device; free some space .*$"):
        files.write_text(tmp_path / "a", "text")
    assert not list(tmp_path.iterdir())


def test_output_is_checked_before_long_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files.check_output(tmp_path / "file")
    files.check_output(tmp_path / "new" / "file")
    files.check_output(tmp_path, folder=True)
    with pytest.raises(WorkdirError, match="is a folder; add a file name"):
        files.check_output(tmp_path)
    for path, folder in ((tmp_path / "file", True), (tmp_path / "file" / "below", False)):
        with pytest.raises(WorkdirError, match="is a file; choose another path"):
            files.check_output(path, folder)


def test_waiting_for_a_lock_ends_with_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with files.file_lock(tmp_path / ".lock"):
        monkeypatch.setattr(interrupts, "requested", 15)
        with pytest.raises(Stopped), files.file_lock(tmp_path / ".lock"):
            pass


def test_free_memory_within_a_control_group(tmp_path: Path) -> None:
    group = {  # a Slurm job: its own group has no limit, the parent group has
        "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    4000000 kB\n",
        "proc/self/cgroup": "0::/slurm/job_1\n",
        "sys/fs/cgroup/slurm/job_1/memory.max": "max\n",
    }
    for contents, expected in ((group, 4_096_000_000), ({"sys/fs/cgroup/slurm/memory.max": "1000\n"}, 1000)):
        for path, text in contents.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        assert files.host_memory(tmp_path) == expected
    assert files.host_memory(tmp_path / "not Linux") > 0
