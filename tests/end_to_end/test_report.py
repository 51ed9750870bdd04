"""`alljax report`: from the folder of a study alone, also from its shards."""

from pathlib import Path

from end_to_end.conftest import SMALL, Refused, Run


def test_shards_are_merged_to_the_study(study: Path, tmp_path: Path, run: Run) -> None:
    for index in (0, 1):
        assert run("study", *SMALL, f"--workdir={tmp_path / str(index)}", f"--shard={index}/2")[0] == 0
    code, out, err = run("report", f"--workdir={tmp_path / '0'}", tmp_path / "1")
    assert code == 0, err
    assert str(tmp_path / "0/report.html") in out
    for path in study.glob("trials/*/predictions.csv"):
        assert (tmp_path / "0" / path.relative_to(study)).read_bytes() == path.read_bytes()


def test_folder_without_a_study_is_one_line(tmp_path: Path, refused: Refused) -> None:
    assert str(tmp_path) in refused("report", f"--workdir={tmp_path}")
