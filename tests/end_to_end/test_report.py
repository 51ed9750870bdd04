"""`alljax report`: from the folder of a study alone, also from its shards."""

from pathlib import Path

from end_to_end.conftest import SMALL, Refused, Run, read_table


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


def test_shared_report_has_no_images_names_or_absolute_paths(images: Path, tmp_path: Path, run: Run) -> None:
    (images / "a/a0").rename(images / "a/Jane-Doe")
    words = "study", *SMALL, f"--config.data.source={images}", f"--workdir={tmp_path / 'run'}"

    def report(*settings: str) -> str:
        assert run(*words, *settings)[0] == 0
        shared = [tmp_path / "run/report.html", *tmp_path.glob("run/tables/*"), *tmp_path.glob("run/figures/*.svg")]
        return "".join(path.read_text() for path in shared)

    text = report()
    assert "data:image/jpeg" in text
    assert "Jane-Doe" in text
    assert str(tmp_path) not in text
    trained = (tmp_path / "run/metrics.json").read_bytes()
    text = report("--config.report.images=false", "--config.report.subjects=hashed")
    assert "Jane" not in text
    assert "data:image/jpeg" not in text
    assert not [*tmp_path.glob("run/figures/*.jpg")]
    assert str(tmp_path) not in text
    rows = {name: read_table(tmp_path / f"run/tables/{name}.csv") for name in ("misclassified", "subjects")}
    assert {row["subject"] for row in rows["misclassified"]} <= {row["subject"] for row in rows["subjects"]}
    assert (tmp_path / "run/metrics.json").read_bytes() == trained
