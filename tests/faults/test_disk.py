"""A full disk ends a run with one line; with room again the same command goes on to the same bits."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import Toy


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """420 kB: room for one checkpoint of the toy and part of another."""
    (disk := tmp_path / "disk").mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=420k", "alljax-test", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("full disk not checked: no mount here")
    if done.returncode:
        pytest.skip(f"full disk not checked: cannot mount a small one ({done.stderr.strip()}); run as root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_one_line_and_nothing_lost(small_disk: Path, reference: Toy, undisturbed: dict[str, Any]) -> None:
    toy = reference.at(small_disk / "toy")
    code, said = toy.ended(toy.start())
    assert code == 2
    *_, last = said.splitlines()
    assert last.startswith(f"alljax: cannot write the checkpoint {toy.checkpoints}/")
    assert "No space left on device" in last
    assert "Traceback" not in said
    kept = max(map(int, toy.saved()))
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert f"goes on after step {kept}" in toy.finish()
    assert toy.outcome() == undisturbed
