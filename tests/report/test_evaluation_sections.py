"""Sections from evaluation.json: what they say, their files, and that they are left out where numbers are missing."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from alljax.errors import WorkdirError
from alljax.report import evaluation_sections
from alljax.report.report import write_report
from alljax.report.tables import Section
from alljax.study import workdir
from alljax.study.results import read_study

PREVALENCE = np.linspace(0, 1, 11).tolist()
INTERVALS = {"ppv": [None, *([[0.2, 0.8]] * 10)], "npv": [[0.2, 0.8]] * 11}


def calibration(slope: float) -> dict[str, Any]:
    bins = [{"mean": mean, "observed": 0.5 + slope * (mean - 0.5), "count": 51.2} for mean in (0.1, 0.5, 0.9)]
    return {
        "slope": slope, "intercept": 0.2, "ece": 0.08, "brier": 0.099, "brier_scaled": 1 - 0.099 / 0.109, "bins": bins,
        "intervals": {"slope": [slope - 0.2, slope + 0.2], "brier": [0.08, 0.12]},
    }  # fmt: skip


def group(name: str, auc: float | None) -> dict[str, Any]:
    of_accuracy = {"accuracy": 0.8, "intervals": {"accuracy": [0.7, 0.9]}}
    return {"name": name, "images": 20, "subjects": 6, "auc": auc} | of_accuracy


ADDED: dict[str, Any] = {
    "calibration": calibration(0.53) | {"after_temperature": calibration(0.97)},
    "operating_points": [
        {
            "target": target, "value": value, "sensitivity": 0.4, "specificity": 0.91,
            "intervals": {"sensitivity": [0.3, 0.5], "specificity": [0.8, 0.96]}, "thresholds": [0.61, 0.75],
            "ppv_npv": {"prevalence": PREVALENCE, "ppv": PREVALENCE, "npv": PREVALENCE[::-1], "intervals": INTERVALS},
        }
        for target, value in (("specificity", 0.9), ("sensitivity", 0.95))
    ],
    "subgroups": {"fold": [group("1", 0.7), group("2", None)], "hospital": [group("A", 0.6)]},
    "beyond_size": {"auc": 0.612, "interval": [0.5, 0.7], "strata": [{"area": 0.25, "images": 24, "auc": 0.6}]},
}  # fmt: skip


@pytest.fixture
def sections(study_copy: Path) -> dict[str, Section]:
    """The sections by title of a study whose best trial has all numbers; the report is written."""
    study = read_study(study_copy)
    best, second, *_ = study.ranking.order
    selection = {"metric": "auc", "by": "the other folds", "value": 0.753, "nested": 0.733, "interval": [0.6, 0.8]}
    study.evaluation["trials"][best] |= ADDED
    content = study.evaluation | {"selection": selection | {"chosen": [best, best, second]}}
    workdir.write_study(study_copy, {workdir.EVALUATION: content})
    write_report(study_copy)
    return {section.title: section for section in evaluation_sections.sections(read_study(study_copy))}


def test_every_section_says_what_its_numbers_show(sections: dict[str, Section], study_copy: Path) -> None:
    found = {title: " ".join(section.paragraphs) for title, section in sections.items()}
    assert "Calibration slope 0.530 [0.330, 0.730]" in found["Calibration"]
    assert "Brier score 0.099 [0.080, 0.120]; always predicting the prevalence gives 0.109" in found["Calibration"]
    assert "0.612 [0.500, 0.700]" in found["Beyond size"]
    files = study_copy.glob("tables/*.csv")
    tables = {path.stem: list(csv.reader(path.read_text().splitlines())) for path in files}
    assert [row[0] for row in tables["operating-points"][1:]] == ["specificity ≥ 0.9", "sensitivity ≥ 0.95"]
    assert tables["calibration"][1][1:] == ["0.53", "[0.330, 0.730]", "0.97", "[0.770, 1.170]"]
    assert [row[:5] for row in tables["subgroups"][1:]] == [
        ["fold", "1", "20", "6", "0.7"], ["fold", "2", "20", "6", ""], ["hospital", "A", "20", "6", "0.6"],
    ]  # fmt: skip
    for name in ("calibration", "predictive-values"):
        assert (study_copy / "figures" / f"{name}.png").is_file()
    page = (study_copy / "report.html").read_text()
    assert all(f">{title}</h2>" in page for title in sections)
    assert "overconfident" in page
    assert "Selected for each fold on the other folds: AUC 0.733 [0.600, 0.800] instead of 0.753" in page


def test_table_of_subjects_equals_the_predictions(sections: dict[str, Section], study_copy: Path) -> None:
    """Recomputed from predictions.csv with pandas."""
    best = read_study(study_copy).ranking.best
    images = pandas.read_csv(study_copy / "trials" / best / "predictions.csv", dtype={"subject": str})
    columns = ["prob_hem", "prob_all"]
    images = images.groupby(["path", "subject", "label"])[columns].mean().reset_index()
    images["wrong"] = (images["prob_all"] > 0.5) != (images["label"] == "all")
    images["odds"] = np.log(images["prob_all"] / images["prob_hem"]) * np.where(images["label"] == "all", 1, -1)
    expected = images.groupby("subject").agg(images=("path", "size"), wrong=("wrong", "sum"), odds=("odds", "mean"))
    rows = list(csv.DictReader((study_copy / "tables/subjects.csv").read_text().splitlines()))
    assert len(rows) == len(expected)
    for row in rows:
        subject = expected.loc[row["subject"]]
        assert [int(row["images"]), int(row["misclassified"])] == [subject["images"], subject["wrong"]]
        assert float(row["log-odds"]) == pytest.approx(subject["odds"], abs=1e-4)
        assert (row["true class"] == row["prediction"]) == (subject["odds"] > 0)
    assert [int(row["misclassified"]) for row in rows] == sorted(expected["wrong"], reverse=True)
    assert "subjects of ALL (leukemic blast)" in sections["Subjects"].paragraphs[0]


def test_sections_without_numbers_are_left_out(study_copy: Path) -> None:
    study = read_study(study_copy)
    for trial in study.evaluation["trials"].values():
        trial.clear()
    workdir.write_study(study_copy, {workdir.EVALUATION: study.evaluation | {"selection": None}})
    assert evaluation_sections.sections(read_study(study_copy)) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"calibration": {"brier": "high"}, "operating_points": 3}'])
def test_damaged_numbers_of_an_external_test_are_named_with_a_fix(content: str, study_copy: Path) -> None:
    place = study_copy / "external" / "hospital"
    place.mkdir(parents=True)
    (place / "metrics.json").write_text(content)
    with pytest.raises(WorkdirError, match=rf"hospital/metrics.json: damaged, .*repeat .*, or remove {place}$"):
        evaluation_sections.sections(read_study(study_copy))
