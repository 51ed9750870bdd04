"""`alljax evaluate --robustness`: only held-out heads score an image, and the report shows the result."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from end_to_end.conftest import Run, read_table

from alljax.data.perturbation import PERTURBATIONS
from alljax.study.results import read_study


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
