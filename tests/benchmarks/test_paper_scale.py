"""The benchmark of the paper's size: what it multiplies and measures; the long ones run it, under 4 GB."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from alljax.config import load
from alljax.study.sweep import cells

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parents[1] / "configs" / "paper.py"


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(HERE)
    import paper

    return paper


def test_budgets_are_those_of_the_study(paper: ModuleType) -> None:
    grid = cells(load(str(CONFIG)))
    assert len(grid) == len(paper.WIDTHS) * len(paper.OPTIMIZERS) * len(paper.BUDGETS) == 32
    assert {cell.config.train.epochs for cell in grid} == set(paper.BUDGETS)
    assert {cell.config.model.backbone for cell in grid} == set(paper.WIDTHS)
    assert {cell.config.train.optimizer for cell in grid} == set(paper.OPTIMIZERS)


@pytest.mark.parametrize(
    ("library", "images", "validated", "epochs"),
    [
        ("alljax", 10_661, 0, 2 * 100),  # once; eight budgets are one run
        ("torch", 10_661, 0, 2 * 390),
        ("keras", 8_528 * 2 * 390, 2_133 * 2 * 390, 0),
    ],
)
def test_slices_are_multiplied_out_to_the_whole(
    paper: ModuleType, library: str, images: int, validated: int, epochs: int
) -> None:
    slices = {f"features {backbone}": {"an image": 1.0, "a validation image": 0.25} for backbone in paper.WIDTHS}
    slices |= {f"head {width} {each}": {"an epoch": 1000.0} for width in (512, 2048) for each in paper.OPTIMIZERS}
    whole = paper.multiplied(library, slices)
    assert sum(whole.values()) == 2 * (images + 0.25 * validated + 1000 * epochs)


def test_memory_is_told_apart_between_times(paper: ModuleType) -> None:
    code = (
        "import time\n"
        "time.sleep(0.3); print('empty', flush=True)\n"
        "held = b'1' * 300_000_000; del held; print('given back', flush=True)\n"
        "time.sleep(0.3)"
    )
    ran = paper.watch([sys.executable, "-c", code])
    (empty, _), (given_back, _) = ran.lines
    assert ran.peak((ran.began, empty - 0.1))["peak"] < 100e6
    assert ran.peak()["peak"] > 300e6
    assert ran.peak((given_back, ran.ended))["peak"] < 100e6


def measured(part: str, manifest: Path, folder: Path, *more: str) -> Any:
    """Runs one part of the benchmark and returns its numbers."""
    out = folder / "paper.json"
    command = [sys.executable, str(HERE / "paper.py"), f"--parts={part}", f"--manifest={manifest}", f"--out={out}"]
    subprocess.run([*command, f"--scratch={folder}", *more], check=True, capture_output=True)
    return json.loads(out.read_text())[part]


@pytest.mark.long
def test_the_whole_study_at_its_true_size(cnmc_manifest: Path, tmp_path: Path) -> None:
    found = measured("study", cnmc_manifest, tmp_path)
    assert (found["images"], found["image_size"]) == (10_661, 224)
    assert (found["trials"], found["missing"], found["failed"]) == (32, [], {})
    assert found["sides"] == {"train": 8_528, "test": 2_133}
    assert {"features of two stages", "heads", "report"} < found["phases"].keys()
    assert found["peak"] < 4e9
    assert found["bytes"]["report"] < 5e6


@pytest.mark.long
def test_flattened_features_are_never_all_in_memory(cnmc_manifest: Path, tmp_path: Path) -> None:
    (found,) = measured("flatten", cnmc_manifest, tmp_path, "--widths=100352")
    assert found["file"]["bytes"] > 4.2e9
    assert all(curve["own"] < 4e9 for curve in found["curves"])
    assert all(curve["accuracy"] > 0.7 for curve in found["curves"])


@pytest.mark.long
def test_all_head_runs_fit_into_memory(cnmc_manifest: Path, tmp_path: Path) -> None:
    found = measured("heads", cnmc_manifest, tmp_path)
    assert found["images"] == {"trained": 8_528, "tested": 2_133}
    heads = {head["cell"]: head for head in found["heads"]}
    assert {name: head["epochs"] for name, head in heads.items()} == {
        cell.name: cell.config.train.epochs for cell in cells(load(str(CONFIG)))
    }
    assert all(head["accuracy"] > 0.7 for head in heads.values()), "they learn: always the larger class is .682"
    assert len(found["curves"]) == 4, "eight budgets are beginnings of one run"
    assert 0 < found["peak"] < 4e9
