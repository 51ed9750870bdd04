"""`alljax evaluate --source` and `--robustness`: a finished study on other images."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end.conftest import Refused, Run, picture, read_table, write_files
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from alljax.data import synthetic
from alljax.data.perturbation import PERTURBATIONS
from alljax.study.results import read_study
from alljax.weights import store


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """Generated cells in folders per class and subject; the last two images are images of the study."""
    folder = tmp_path / "hospital"
    for seed, count in ((5, 48), (0, 2)):
        dataset = synthetic.read_synthetic(subjects=12, images=48, image_size=48, seed=seed)
        names = [("healthy", "blast")[record.label] for record in dataset.records[:count]]
        write_files(folder, {
            f"{name}/{seed}-{record.subject}/{index}.png": dataset.read(record)
            for index, (name, record) in enumerate(zip(names, dataset.records, strict=False))
        })  # fmt: skip
    return folder


def test_results_equal_those_of_scikit_learn(study: Path, hospital: Path, run: Run, monkeypatch: Any) -> None:
    known = {name: dataclasses.replace(source, trained_on=["hospital"]) for name, source in store.sources().items()}
    monkeypatch.setattr(store, "sources", lambda: known)
    arguments = f"--workdir={study}", f"--source={hospital}", "--classes=blast=all,healthy=hem"
    code, out, err = run("evaluate", *arguments)
    assert code == 0, err
    found = json.loads((study / "external/hospital/metrics.json").read_text())
    assert "2 images of the study" in out
    assert any("were trained on images of hospital" in note for note in found["notes"])
    assert all("/0-" in path for path in found["left_out"])
    rows = read_table(study / "external/hospital/predictions.csv")
    assert len(rows) == sum(found["images"]) == 48
    assert run("predict", f"--workdir={study}", hospital, f"--out={hospital.parent / 'p.csv'}")[0] == 0
    predicted = {Path(row["path"]).name: float(row["prob_all"]) for row in read_table(hospital.parent / "p.csv")}
    positive = np.array([float(row["prob_all"]) for row in rows])
    np.testing.assert_allclose(positive, [predicted[Path(row["path"]).name] for row in rows], atol=1e-6)
    labels = np.array([row["label"] == "all" for row in rows])
    ensemble = found["ensemble"]
    assert ensemble["auc"] == pytest.approx(roc_auc_score(labels, positive))
    assert ensemble["macro_recall"] == pytest.approx(balanced_accuracy_score(labels, positive > 0.5))
    assert ensemble["brier"] == pytest.approx(brier_score_loss(labels, positive), abs=1e-6)
    within = json.loads((study / "evaluation.json").read_text())["trials"][found["trial"]]["ensemble"]
    change, (low, high), (lowest, highest) = (
        ensemble["change"], ensemble["intervals"]["auc"], within["intervals"]["auc"]
    )  # fmt: skip
    assert change["auc"] == pytest.approx(ensemble["auc"] - within["auc"])
    assert change["intervals"]["auc"] == pytest.approx([
        change["auc"] - math.hypot(ensemble["auc"] - low, highest - within["auc"]),
        change["auc"] + math.hypot(high - ensemble["auc"], within["auc"] - lowest),
    ])  # fmt: skip
    assert (study / "figures/external-hospital-calibration.png").is_file()
    assert found["subjects"]["macro_recall"] is not None
    assert found["heads"]["accuracy"] is not None
    page = (study / "report.html").read_text()
    assert 'id="external"' in page
    assert str(hospital.parent) not in page


def test_one_class_and_one_subject(study: Path, hospital: Path, run: Run) -> None:
    shutil.rmtree(hospital / "healthy")
    code, out, err = run("evaluate", f"--workdir={study}", f"--source={hospital}", "--classes=blast=all")
    assert code == 0, err
    assert "No image of HEM (normal)" in " ".join(out.split())
    found = json.loads((study / "external/hospital/metrics.json").read_text())["ensemble"]
    assert {*found} == {"accuracy", "brier", "log_loss", "recall_1", "intervals", "change"}
    files = {
        f"{name}/{seed}/{n}.png": picture(10 * seed + n) for seed, name in enumerate(["hem", "all"]) for n in (1, 2)
    }
    folder = write_files(hospital.parent / "one", files)
    code, out, err = run("evaluate", f"--workdir={study}", f"--source={folder}")
    assert code == 0, err
    assert "One subject of HEM (normal): intervals cannot be computed" in " ".join(out.split())


def test_wrong_input_is_one_line(study: Path, hospital: Path, images: Path, refused: Refused) -> None:
    for source, classes, message in (
        (hospital, "", "its class 'blast' is none of the classes hem, all"),
        (hospital, "blast=leukemia", "classes: hem, all"),
        (hospital, "blast,healthy", "write CLASS_OF_SOURCE=CLASS"),
        (hospital, "cancer=all", "no class 'cancer'"),
        (images / "missing", "", "no such file or folder"),
    ):
        assert message in refused("evaluate", f"--workdir={study}", f"--source={source}", f"--classes={classes}")
    assert not (study / "external" / "missing").exists()
    for folder in hospital.glob("*/5-*"):
        shutil.rmtree(folder)
    wrong = refused("evaluate", f"--workdir={study}", f"--source={hospital}", "--classes=blast=all,healthy=hem")
    assert "all 2 images are images of the study" in wrong


def test_unperturbed_images_give_the_metrics_of_the_study(study: Path, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "study"))
    assert run("evaluate", f"--workdir={folder}")[0] == 0
    code, _, err = run("evaluate", f"--workdir={folder}", "--robustness")
    assert code == 0, err
    best = read_study(folder).ranking.best
    first, *rows = json.loads((folder / "trials" / best / "robustness.json").read_text())
    result = json.loads((folder / "trials" / best / "metrics.json").read_text())
    for metric in ("auc", "accuracy", "macro_recall"):
        assert first["metrics"][metric] == pytest.approx(result[metric], abs=1e-6)
        assert first["metrics"]["intervals"][metric] == pytest.approx(result["intervals"][metric], abs=1e-6)
        for row in rows:
            low, high = row["differences"]["intervals"][metric]
            difference = row["metrics"][metric] - first["metrics"][metric]
            assert row["differences"][metric] == pytest.approx(difference, abs=1e-6)
            assert low - 1e-6 <= difference <= high + 1e-6
    found = [(row["perturbation"], row["strength"]) for row in rows]
    assert found == [(name, value) for name, (_, values) in PERTURBATIONS.items() for value in values]
    assert np.abs([row["differences"]["auc"] for row in rows]).max() > 0.02
    page = (folder / "report.html").read_text()
    assert "Metrics minus those of the unperturbed images" in page
    assert len(read_table(folder / "tables/robustness.csv")) == 28
    assert (folder / "figures/robustness.png").is_file()


def test_few_images_are_of_all_subjects_and_reproducible(study: Path, tmp_path: Path, run: Run) -> None:
    tables = []
    for name in ("first", "second"):
        folder = Path(shutil.copytree(study, tmp_path / name))
        assert run("evaluate", f"--workdir={folder}", "--robustness", "--images=12")[0] == 0
        tables.append(json.loads(next(folder.glob("trials/*/robustness.json")).read_text()))
    assert tables[0] == tables[1]
    assert tables[0][0]["images"] == 12
