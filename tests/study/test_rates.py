"""`alljax rates`: a complete table and one line to copy, in both modes, and mistakes in one line."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from alljax.cli import main
from alljax.study import rates as study_rates
from alljax.training import lr_finder

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TOY = [
    f"--config={CONFIGS / 'finetune.py'}:toy",
    "--config.model.stage=stage1",
    "--config.preprocessing.image_size=32",
    "--config.data.synthetic.images=24",
]
GROUPS = "--config.train.groups=(('head/.*', 1.0), ('backbone/.*', 0.3))"
STEPS = 7


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_rates, "STEPS", STEPS)


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
def test_every_step_of_every_rate_is_written(mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "rates.csv"
    groups = GROUPS if mode == "finetune" else "--config.train.groups=()"
    # One epoch has fewer steps than are asked for.
    arguments = [*TOY, groups, f"--config.train.mode={mode}", "--config.train.epochs=1", f"--out={out}"]
    assert main(["rates", *arguments]) == 0
    said = capsys.readouterr().out

    with out.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["learning_rate", "step", "loss"]
    assert [int(row["step"]) for row in table] == list(range(1, STEPS + 1)) * len(lr_finder.RATES)
    np.testing.assert_allclose([float(row["learning_rate"]) for row in table[::STEPS]], lr_finder.RATES, rtol=1e-5)
    losses = np.array([float(row["loss"]) for row in table]).reshape(len(lr_finder.RATES), STEPS)
    assert np.ptp(losses[:, 0]) < 1e-5, "the first loss is before the first step"
    assert np.ptp(losses[:, -1]) > 0.01

    best = f"{lr_finder.best(losses):.3g}"
    assert said.endswith(f"the lowest loss: train.learning_rate={best}\n")
    shown = {line.split()[0]: float(line.split()[-1]) for line in said.splitlines() if "→" in line}
    assert len(shown) == len(lr_finder.RATES)
    assert min(shown.values()) == shown[f"{float(best):.2e}"], "the table shows what is chosen by"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config.train.groups=(('head/.*', 1.0),)"], "no pattern matches backbone/"),
        (["--config.train.optimizr=adam"], "train.optimizr"),
        (["--config.data.source=nowhere"], "nowhere"),
        (["--workdir=w"], "--workdir=w"),
    ],
)
def test_mistakes_get_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rates", *TOY, *arguments, f"--out={tmp_path / 'lr_finder.csv'}"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("alljax: ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_place_for_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rates", *TOY, f"--out={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"alljax: .*is a folder.*\n", error)


def test_no_rate_that_learns_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last group's factor drives every rate beyond all numbers."""
    wild = "--config.train.groups=(('head/.*', 1e38), ('backbone/.*', 0.0))"
    assert main(["rates", *TOY, wild, f"--out={tmp_path / 'lr_finder.csv'}"]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("alljax: the loss is no number at any learning rate from 1e-06 to 1;")
    assert "Traceback" not in error
