"""`alljax study`: results, restarts, and one line for each fault that users meet."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from end_to_end.conftest import SMALL, Refused, Run, picture, read_table

from alljax.report.model_tables import results_table
from alljax.study.results import read_study

TRIAL = "efficientnet_lite0-adam"
TABLES = ("predictions.csv", "history.csv")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Returns the files of a folder, without the report, which contains the name of the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "report.html")
    return {str(path): path.read_bytes() for path in files}


def test_results_agree_with_each_other(study: Path) -> None:
    summary = json.loads((study / "metrics.json").read_text())
    assert set(summary["trials"]) == {TRIAL, "efficientnet_lite0-rmsprop"}
    assert summary["leaks"]["subject"] == 0
    assert "<html" in (study / "report.html").read_text()[:200]
    subjects = {(row["fold"], row["subject"], row["subset"]) for row in read_table(study / "split.csv")}
    assert len(subjects) == 2 * 12, "in each fold a subject is in one subset"
    for name, trial in summary["trials"].items():
        predictions, history = (read_table(study / "trials" / name / table) for table in TABLES)
        assert len(predictions) == 48 * 2, "each image is tested once per seed"
        assert len(history) == 2 * 2 * 2
        assert trial["accuracy"] == pytest.approx(np.mean([row["label"] == row["predicted"] for row in predictions]))
        low, high = trial["intervals"]["auc"]
        assert 0 <= low <= trial["auc"] <= high <= 1
        last = next(row for row in history if row["epoch"] == "2")
        tested = [row for row in predictions if (row["fold"], row["seed"]) == (last["fold"], last["seed"])]
        losses = [-np.log(float(row[f"prob_{row['label']}"])) for row in tested]
        assert float(last["val_loss"]) == pytest.approx(np.mean(losses), rel=1e-4)


def test_finished_folder_is_not_changed(study: Path, tmp_path: Path, run: Run, refused: Refused) -> None:
    folder = shutil.copytree(study, tmp_path / "study")
    before, command = snapshot(folder), ["study", *SMALL, f"--workdir={folder}"]
    code, out, _ = run(*command)
    assert (code, snapshot(folder)) == (0, before)
    assert TRIAL in out
    assert "train.epochs: 2 → 3" in refused(*command, "--config.train.epochs=3")
    assert snapshot(folder) == before
    (tmp_path / "file").write_text("")
    assert "is a file" in refused("study", *SMALL, f"--workdir={tmp_path / 'file/run'}")


def test_images_are_converted_and_unreadable_ones_skipped(images: Path, tmp_path: Path, run: Run) -> None:
    (images / "a/a0/0.png").write_bytes(picture(0, "L"))
    (images / "a/a1/0.png").write_bytes(picture(1, "RGBA"))
    (images / "b/b0/0.png").write_bytes(picture(2)[:700])
    source = [*SMALL, f"--config.data.source={images}", f"--workdir={tmp_path / 'run'}"]
    code, _, err = run("study", *source)
    assert code == 2
    assert "b/b0/0.png" in err
    assert not (tmp_path / "run").exists()
    code, _, err = run("study", *source, "--config.data.on_error=skip")
    assert code == 3
    assert "1 of mode L, 1 of mode RGBA" in err
    assert "b/b0/0.png" in err
    assert "b/b0/0.png" not in (tmp_path / "run/split.csv").read_text()


def test_columns_of_a_csv_are_subgroups(images: Path, tmp_path: Path, run: Run, refused: Refused) -> None:
    paths = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    lines = [f"{path},{path[0]},{path[2:4]},{'north' if number % 3 else ''}" for number, path in enumerate(paths)]
    (images / "list.csv").write_text("\n".join(["path,label,subject,Site", *lines]))
    words = "study", *SMALL, f"--config.data.source={images / 'list.csv'}", f"--workdir={tmp_path / 'run'}"
    line = refused(*words, "--config.evaluation.subgroups=hospital")
    assert "no column 'hospital'; its other columns than path, label, … are Site" in line
    assert run(*words, "--config.evaluation.subgroups=Site")[0] == 0
    found = json.loads((tmp_path / "run/evaluation.json").read_text())["trials"][TRIAL]
    assert [(part["name"], part["images"]) for part in found["subgroups"]["Site"]] == [("north", 10), ("not given", 6)]
    assert [row["Site"] for row in read_table(tmp_path / "run/images.csv")[:4]] == ["", "north", "north", ""]
    assert "beyond_size" not in found or found["beyond_size"] is None, "noise has no black background"
    subjects = read_table(tmp_path / "run/subjects.csv")
    assert len(subjects) == 2 * 8
    assert {*subjects[0]} == {
        "trial", "subject", "label", "images", "accuracy", "predicted", "log_odds_a", "log_odds_b",
    }  # fmt: skip
    right = [row["label"] == row["predicted"] for row in subjects if row["trial"] == TRIAL]
    assert found["subjects"]["accuracy"] == pytest.approx(np.mean(right))
    baselines = json.loads((tmp_path / "run/metrics.json").read_text())["baselines"]
    assert set(baselines) == {"majority", "size_and_color"}
    assert "cell size alone" not in (tmp_path / "run/report.html").read_text()


def test_masked_cells_are_a_baseline(tmp_path: Path, run: Run) -> None:
    sweep = "--config.study.sweep=[('preprocessing.cell', ('masked', 'keep'))]"
    assert run("study", *SMALL, sweep, f"--workdir={tmp_path}")[0] == 0
    study = read_study(tmp_path)
    masked, kept = f"{TRIAL}-cell=masked", f"{TRIAL}-cell=keep"
    assert study.ranking.order == [kept, masked]
    table = results_table(study)
    assert [str(name) for name, *_ in table.rows] == [kept]
    assert str(table.footer[0][0]) == f"{masked} cell masked"
    predictions = [study.predictions(name).probabilities for name in (masked, kept)]
    assert not np.allclose(*predictions), "features of another image"


def test_moved_images_are_the_same_study(images: Path, tmp_path: Path, run: Run, refused: Refused) -> None:
    """The path is recorded and not compared; other content is refused with both hashes."""
    words = "study", *SMALL, f"--workdir={tmp_path / 'study'}", "--config.study.sweep=()"
    assert run(*words, f"--config.data.source={images}")[0] == 0
    trained = (tmp_path / "study" / "trials" / TRIAL / "checksums.json").read_bytes()
    moved = images.rename(tmp_path / "another disk")
    for source in (moved, f"{moved}/"):
        assert run(*words, f"--config.data.source={source}")[0] == 0
    assert (tmp_path / "study" / "trials" / TRIAL / "checksums.json").read_bytes() == trained
    assert json.loads((tmp_path / "study" / "config.json").read_text())["data.source"] == str(moved)
    next(moved.rglob("*.png")).write_bytes(picture(seed=99))
    assert "other inputs: images (SHA-256" in refused(*words, f"--config.data.source={moved}")


def test_size_that_gives_the_class_is_a_warning(images: Path, tmp_path: Path, run: Run) -> None:
    for number, path in enumerate(sorted(images.rglob("a/*/*.png"))):
        path.write_bytes(picture(number, side=50 + number))
    code, _, err = run("study", *SMALL, f"--config.data.source={images}", f"--workdir={tmp_path / 'run'}")
    assert code == 0
    warning = "The class of an image can be predicted without the cell from the width with a balanced accuracy of 1.00"
    assert next(line for line in err.splitlines() if "━" not in line).startswith(warning)
    page = (tmp_path / "run/report.html").read_text()
    assert f"<li>{warning}" in page.partition("Read this first</h2>")[2].partition("</ul>")[0]
    data = json.loads((tmp_path / "run/metrics.json").read_text())["dataset"]
    assert data["file_properties"]["width"]["balanced_accuracy"] == 1
    assert data["file_properties"]["format"]["balanced_accuracy"] == 0.5
    assert data["pixels"] == {"one_color": 0, "small_range": 0}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.backbone=vgg", "vgg16"),
        ("model.stage=stage9", "stage7"),
        ("data.source=nowhere", "nowhere"),
        ("data.source=EMPTY", "EMPTY"),
        ("split.folds=13", "13"),
        ("weights.path=no.pth", "no.pth"),
        ("weights.path=CUT.pth", "CUT.pth"),
    ],
)
def test_wrong_setting_is_one_line(
    setting: str, message: str, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "CUT.pth").write_bytes(b"PK\x03\x04 truncated")
    assert message in refused("study", *SMALL, f"--config.{setting}", "--workdir=run")
    assert not (tmp_path / "run").exists()


def test_cache_that_cannot_be_written_is_an_error_with_the_way_out(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "file"))
    code, _, err = run("train", *SMALL, f"--workdir={tmp_path / 'run'}")
    assert code == 2
    assert "ALLJAX_CACHE_DIR sets the folder" in err
