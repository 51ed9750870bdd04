"""`alljax power` on a finished study."""

import json
from pathlib import Path

import pytest
from end_to_end.conftest import Refused, Run, read_table


def test_subjects_needed(study: Path, run: Run) -> None:
    code, out, _ = run("power", f"--workdir={study}", "--difference=0.04", "--images=50")
    assert code == 0
    single, paired = read_table(study / "tables/power.csv")
    result = json.loads((study / "trials" / single["model"] / "metrics.json").read_text())
    assert float(single["AUC"]) == result["auc"]
    assert paired["model"].startswith(f"{single['model']} minus ")
    assert float(single["simulated"]) == pytest.approx(0.04, abs=0.01)
    assert int(single["subjects per class"]) > int(single["with 50 images each"]) >= 10
    assert single["model"] in out
    assert "images of a subject" in out
    assert run("power", f"--workdir={study}", "--metric=macro_recall", "--difference=0.0001")[0] == 0
    assert "> 100,000" in (study / "tables/power.csv").read_text()


def test_goals_that_cannot_be(study: Path, refused: Refused) -> None:
    for argument in ("--difference=0", "--power=1", "--images=0", "--metric=f1"):
        assert argument.split("=")[0] in refused("power", f"--workdir={study}", argument)
