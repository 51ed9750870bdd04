"""A full disk ends a run with one line; with room again the same command goes on to the same bits."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import PATIENCE, REPOSITORY, Toy

CHECKPOINT_AND_A_HALF = 420
"""kB, of the fine-tuned toy."""
ONE_CELL_AND_A_HALF, ALL_CELLS_AND_NO_REPORT = 800, 3300
"""kB, of `HEADS`."""
HEADS = [f"--config={REPOSITORY / 'configs/ablate_imbalance.py'}:toy"]


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of as many kB as the parameter says."""
    (disk := tmp_path / "disk").mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "alljax-test", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("full disk not checked: no mount here")
    if done.returncode:
        pytest.skip(f"full disk not checked: cannot mount a small one ({done.stderr.strip()}); run as root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("small_disk", [CHECKPOINT_AND_A_HALF], indirect=True)
def test_one_line_and_nothing_lost(small_disk: Path, reference: Toy, undisturbed: dict[str, Any]) -> None:
    toy = reference.at(small_disk / "toy")
    code, said = toy.ended(toy.start())
    assert code == 2
    *_, last = said.splitlines()
    assert last.startswith(f"alljax: cannot write the checkpoint {toy.checkpoints}/")
    assert "No space left on device" in last
    assert "Traceback" not in said
    kept = max(map(int, toy.saved()))
    enlarge(small_disk)
    assert f"resuming after step {kept}" in toy.finish()
    assert toy.outcome() == undisturbed


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of heads that nobody disturbed."""
    folder = tmp_path_factory.mktemp("heads")
    code, said = study(folder)
    assert code == 0, said
    return folder


@pytest.mark.parametrize(
    ("small_disk", "what", "done"),
    [
        (ONE_CELL_AND_A_HALF, r"the checkpoint {folder}/cells/.*: No space left on device; free space", 1),
        (ALL_CELLS_AND_NO_REPORT, r"{folder}/(figures|report).*: No space left on device; free space", 4),
    ],
    indirect=["small_disk"],
)
def test_a_study_of_heads_keeps_its_cells(small_disk: Path, what: str, done: int, heads: Path) -> None:
    folder = small_disk / "study"
    code, said = study(folder)
    assert code == 2
    assert re.fullmatch(f"alljax: cannot write {what.format(folder=re.escape(str(folder)))}.*", said.splitlines()[-1])
    assert "Traceback" not in said
    assert len(list(folder.glob("trials/*/metrics.json"))) == done
    assert not (folder / "report.html").exists()
    assert not list(folder.rglob("*.part"))
    enlarge(small_disk)
    code, said = study(folder)
    assert code == 0, said
    tables = sorted(path.relative_to(heads) for path in heads.glob("trials/*/*.csv"))
    assert len(tables) == 8
    for name in tables:
        assert (folder / name).read_bytes() == (heads / name).read_bytes()


def study(folder: Path) -> tuple[int, str]:
    """Runs `HEADS` in a process of its own; returns its exit code and what it said."""
    command = [sys.executable, "-m", "alljax.cli", "study", *HEADS, f"--workdir={folder}"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
