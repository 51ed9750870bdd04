"""`alljax.evaluate`: the numbers of a study, labels and probabilities in every form, tables, and wrong input."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

import alljax
from alljax.errors import ConfigError, DataError
from alljax.report import model_tables
from alljax.study.results import read_study

LABELS = np.tile(["blast", "normal"], 20)
PROBABILITIES = np.random.default_rng(0).dirichlet((2, 2), 40)
SUBJECTS = [f"s{number % 8}" for number in range(40)]


def test_numbers_and_texts_are_those_of_a_study(toy_study: Path) -> None:
    study = read_study(toy_study)
    test, stored = study.predictions(study.ranking.best), study.metrics["trials"][study.ranking.best]
    names = np.array(study.classes)[test.labels]
    found = alljax.evaluate(names, test.probabilities, test.subjects, test.folds, classes=study.classes)
    for name in found.keys() - {"per_class"}:
        assert np.array(found[name]) == pytest.approx(np.array(stored[name])), name
    for name, bounds in stored["intervals"].items():
        assert found.intervals[name] == pytest.approx(tuple(bounds)), name
    printed = [str(value) for value in model_tables.results_table(study).rows[0][1:4]]
    assert [text for text in printed if text in str(found)] == printed
    assert f"95% intervals over {len(set(test.subjects))} groups" in str(found)


def test_forms_of_labels_and_probabilities() -> None:
    expected = alljax.evaluate(LABELS, PROBABILITIES, SUBJECTS)
    positive, numbers = PROBABILITIES[:, 1], np.arange(40) % 2
    same = [
        alljax.evaluate(list(LABELS), positive, SUBJECTS),
        alljax.evaluate(pandas.Series(LABELS), PROBABILITIES[None].repeat(2, 0), groups=pandas.Series(SUBJECTS)),
        alljax.evaluate(numbers, positive, SUBJECTS, classes=["blast", "normal"]),
        alljax.evaluate(numbers + 7, positive, SUBJECTS, classes=np.array([7, 8])),
        alljax.evaluate(numbers == 1, positive, SUBJECTS),
        alljax.evaluate(LABELS, PROBABILITIES[:, ::-1], SUBJECTS, classes=["normal", "blast"]),
        pickle.loads(pickle.dumps(expected)),
    ]
    names = {"accuracy", "macro_f1", "log_loss", "macro_auc"}
    for found in same:
        assert {name: found[name] for name in names} == pytest.approx({name: expected[name] for name in names})
        assert found.intervals["macro_auc"] == pytest.approx(expected.intervals["macro_auc"])


def test_tables_state_what_intervals_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = alljax.evaluate(LABELS, PROBABILITIES, level=0.9, classes=["blast", "normal"])
    assert "90% intervals over images, as if they were independent; give groups if subjects have several" in str(found)
    frame = found.to_pandas()
    assert frame.loc["auc"].tolist() == pytest.approx([found["auc"], *found.intervals["auc"]])
    assert frame.loc["recall_1", "value"] == found["per_class"][1]["recall"]
    assert frame.loc["pr_auc", "low"] != frame.loc["pr_auc", "low"], "the average precision has no interval"
    html = alljax.evaluate(np.where(LABELS == "blast", "<b>", LABELS), PROBABILITIES, LABELS)._repr_html_()
    assert "<td>recall of &lt;b&gt;</td>" in html
    assert "no intervals: a class has a single group" in html


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.arange(40) % 3}, "labels contain 2; expected 0, 1"),
        ({"labels": LABELS, "classes": ["normal", "blasts"]}, "labels contain blast; expected normal, blasts"),
        (
            {"labels": np.repeat("blast", 40)},
            "probabilities have 2 columns, but the classes are blast; give those of all",
        ),
        ({"labels": LABELS[:39]}, "labels has the length 39; expected 40, one per image of probabilities"),
        ({"groups": SUBJECTS[:7]}, "groups has the length 7; expected 40"),
        ({"groups": [None, *SUBJECTS[1:]]}, "groups: that of image 0 is missing"),
        ({"probabilities": PROBABILITIES * 3}, r"probabilities of image 0 are .*; expected numbers .* whose sum is 1"),
        ({"probabilities": np.full(40, np.nan)}, "the probabilities of image 0 are nan, nan; expected"),
        ({"level": 95}, "level=95 is out of range; it must be at least 0.5 and below 1"),
    ],
)
def test_wrong_input(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"labels": LABELS, "probabilities": PROBABILITIES, "groups": SUBJECTS}
    with pytest.raises((DataError, ConfigError), match=message):
        alljax.evaluate(**arguments | changes)
