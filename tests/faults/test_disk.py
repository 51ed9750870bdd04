"""A full disk ends a run with one line; with free space the same command resumes it to the same bits."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import Toy
from processes import Start, finish

SIZE = 420
"""kB; enough for one checkpoint and a half."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    (disk := tmp_path / "disk").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}k", "alljax-test", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("full disk not tested: no mount command")
    if done.returncode:
        pytest.skip(f"full disk not tested: cannot mount ({done.stderr.strip()}); run as root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_full_disk_is_one_line_and_loses_no_checkpoint(
    small_disk: Path, start: Start, reference: dict[str, Any]
) -> None:
    toy = Toy(small_disk / "toy", start)
    output = finish(toy.start(), code=2)
    last = output.splitlines()[-1]
    assert last.startswith("alljax: cannot write")
    assert "No space left on device" in last
    assert "Traceback" not in output
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    saved = max(toy.saved(), default=0)
    output = finish(toy.start())
    assert not saved or f"resuming after step {saved}" in output
    assert toy.outcome() == reference
