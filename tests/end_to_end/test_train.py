"""`alljax train`: one trial without the sweep."""

from pathlib import Path

from end_to_end.conftest import SMALL, Run


def test_one_trial_with_the_same_numbers_as_in_the_study(study: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run("train", *SMALL, f"--workdir={tmp_path}", "--config.train.optimizer=rmsprop")
    assert code == 0, err
    [trial] = (tmp_path / "trials").iterdir()
    for table in ("predictions.csv", "history.csv"):
        assert (trial / table).read_bytes() == (study / "trials/efficientnet_lite0-rmsprop" / table).read_bytes()
