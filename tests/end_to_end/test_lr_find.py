"""`alljax lr-find`: a table of losses and one setting to copy."""

from pathlib import Path

import pytest
from end_to_end.conftest import CONFIGS, SMALL, Run, read_table

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
