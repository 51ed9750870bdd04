"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from alljax import files
from alljax.errors import WorkdirError


def test_an_exception_leaves_the_old_file_and_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "result.json"
    files.write_text(path, "old")

    def fail_halfway() -> None:
        with files.atomic(path) as file:
            file.write("half of the new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert [each.name for each in path.parent.iterdir()] == ["result.json"]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(WorkdirError, match="No space left"):
        files.write_text(tmp_path / "a", "text")
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="choose another folder"):
        files.write_bytes(tmp_path / "file" / "result", b"")


def test_written_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    files.write_text(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_text_is_written_with_the_newlines_it_has(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "ä\r\nb\n")
    assert (tmp_path / "a").read_bytes() == "ä\r\nb\n".encode()
