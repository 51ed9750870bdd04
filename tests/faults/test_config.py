"""Another config in the folder of a run under way: refused with what differs, or forced where it fits."""

import json
import re
import shutil
from pathlib import Path

import pytest
from faults.conftest import CELL, TOY, Toy

from alljax.cli import main


@pytest.fixture
def under_way(stopped: tuple[Toy, str], tmp_path: Path) -> Toy:
    toy = stopped[0].at(tmp_path / "toy")
    shutil.copytree(stopped[0].folder, toy.folder)
    return toy


def study(toy: Toy, *more: str) -> int:
    return main(["study", *TOY, f"--workdir={toy.folder}", *more])


def test_refused_with_what_differs(under_way: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert study(under_way, "--config.train.learning_rate=0.01", "--config.train.epochs=7") == 2
    told = capsys.readouterr().err
    assert "train.epochs: 6 → 7; train.learning_rate: 0.001 → 0.01" in told
    assert "--resume=force" in told
    assert under_way.saved()


def test_forced_goes_on(under_way: Toy) -> None:
    """With more epochs: the steps before are the same, new ones follow, and the folder says what happened."""
    before = under_way.logged()
    said = under_way.finish("--config.train.epochs=7", "--resume=force")
    assert "resuming after step" in said
    assert under_way.logged()[: len(before)] == before
    assert under_way.logged()[-1]["step"] == 42
    history = (under_way.folder / "trials" / CELL / "history.csv").read_text().splitlines()
    assert len(history) == 1 + 7
    assert json.loads((under_way.folder / "config.json").read_text())["train.epochs"] == 7
    assert json.loads((under_way.folder / "environment.json").read_text())["forced"] == [["train.epochs: 6 → 7"]]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("train.ema_decay=0", "ema"),
        ("model.hidden=16", "head/dense"),
        ("train.batch_size=16", "steps per epoch"),
        ("train.groups=(('head/.*', 1.0), ('backbone/.*', 0.3))", "backbone"),
    ],
)
def test_what_does_not_fit_is_one_line(
    change: str, what: str, under_way: Toy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(under_way, f"--config.{change}", "--resume=force") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "does not fit this config" in told
    assert what in told
    assert under_way.saved(), "nothing is lost"


def test_other_people_are_never_forced(under_way: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    """Another split would test people whom the stored parameters have seen."""
    assert study(under_way, "--config.split.test_fraction=0.5", "--resume=force") == 2
    assert re.search(r"split \(SHA-256 [0-9a-f]{16} there, [0-9a-f]{16} given\)", capsys.readouterr().err)
