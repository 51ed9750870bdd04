"""The benchmark of the paper's study: what it extrapolates; the long tests run it and check its memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize(
    ("library", "images", "validation_images", "epochs"),
    [
        ("alljax", 10_661, 0, 2 * 100),  # shorter trainings are prefixes of the longest
        ("torch", 10_661, 0, 2 * 390),
        ("keras", 8_528 * 2 * 390, 2_133 * 2 * 390, 0),
    ],
)
def test_slices_are_extrapolated_to_the_study(
    monkeypatch: pytest.MonkeyPatch, library: str, images: int, validation_images: int, epochs: int
) -> None:
    monkeypatch.syspath_prepend(HERE)
    import paper

    seconds = {f"features {backbone}": {"image": 1.0, "validation image": 0.25} for backbone in paper.WIDTHS}
    seconds |= {f"head {backbone} {each}": {"epoch": 1000.0} for backbone in paper.WIDTHS for each in paper.OPTIMIZERS}
    total = sum(paper.extrapolate(library, seconds).values())
    assert total == 2 * (images + 0.25 * validation_images + 1000 * epochs)


def measure(part: str, folder: Path, *options: str) -> Any:
    """Runs one part of the benchmark and returns its numbers."""
    out = folder / "paper.json"
    command = [sys.executable, HERE / "paper.py", f"--parts={part}", f"--out={out}", f"--scratch={folder}", *options]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads(out.read_text())[part]


@pytest.mark.long
def test_study_at_its_true_size(tmp_path: Path) -> None:
    found = measure("study", tmp_path)
    assert (found["images"], found["trials"], found["failed"]) == (10_661, 32, {})
    assert found["peak"] < 4e9
    assert found["report"] < 5e6


@pytest.mark.long
def test_flattened_features_are_never_all_in_memory(tmp_path: Path) -> None:
    found = measure("flatten", tmp_path, "--widths", "100352")["100352"]
    assert found["bytes"] > 4.2e9
    assert all(training["own_memory"] < 4e9 for training in found["trainings"].values())
    assert all(training["accuracy"] > 0.7 for training in found["trainings"].values())
