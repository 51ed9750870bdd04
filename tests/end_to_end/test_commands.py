"""`alljax train`, `features`, `lr-find` and `power`."""

import json
from pathlib import Path

import numpy as np
import pytest
from end_to_end.conftest import CONFIGS, SMALL, Refused, Run, read_table

from alljax.data import synthetic


def test_one_trial_with_the_same_numbers_as_in_the_study(study: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run("train", *SMALL, f"--workdir={tmp_path}", "--config.train.optimizer=rmsprop")
    assert code == 0, err
    [trial] = (tmp_path / "trials").iterdir()
    for table in ("predictions.csv", "history.csv"):
        assert (trial / table).read_bytes() == (study / "trials/efficientnet_lite0-rmsprop" / table).read_bytes()


def test_features_of_every_image(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new/features.npz"
    assert run("features", *SMALL, f"--out={out}", "--config.model.pool=max", "--config.model.stage=")[0] == 0
    stored = np.load(out)
    dataset = synthetic.read_synthetic(subjects=12, images=48, image_size=48, seed=0)
    assert stored["features"].shape == (48, 1280)
    assert stored["features"].dtype == np.float32
    assert stored["paths"].tolist() == [record.path for record in dataset.records]
    assert stored["subjects"].tolist() == [record.subject for record in dataset.records]
    assert stored["labels"].tolist() == [record.label for record in dataset.records]


FINETUNE = [f"--config={CONFIGS / 'finetune.py'}:toy", *SMALL[1:], "--config.train.groups=(('.*', 1.0),)"]


@pytest.mark.parametrize("command", [SMALL, FINETUNE], ids=["frozen", "finetune"])
def test_losses_of_every_rate(command: list[str], tmp_path: Path, run: Run) -> None:
    code, out, err = run("lr-find", *command, f"--out={tmp_path / 'rates.csv'}")
    assert code == 0, err
    rows = read_table(tmp_path / "rates.csv")
    assert list(rows[0]) == ["learning_rate", "step", "loss"]
    rates = {row["learning_rate"] for row in rows}
    assert len(rows) == len(rates) * max(int(row["step"]) for row in rows)
    best = float(out.rstrip().rpartition("train.learning_rate=")[2])
    assert any(best == pytest.approx(float(rate), rel=1e-2) for rate in rates)


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
