from collections.abc import Callable

import numpy as np
import pytest

from alljax.evaluation.intervals import HeldOut, Jackknife
from alljax.paper import leakage
from alljax.report.tables import Table
from alljax.study.results import Study


def test_each_configuration_is_compared_with_itself(both_study: Study) -> None:
    (section,) = leakage.sections(both_study)
    (table,) = section.parts
    assert isinstance(table, Table)
    trials = both_study.metrics["trials"]
    for row, names in zip(table.rows, leakage.find_pairs(both_study), strict=True):
        assert row[0].text == names[0]
        assert [both_study.settings(name)["split.protocol"] for name in names] == ["paper", "subject_kfold"]
        tests = [both_study.predictions(name).held_out for name in names]
        assert [value.number for value in row[1:3]] == pytest.approx([trials[name]["accuracy"] for name in names])
        assert row[3].number == pytest.approx(row[1].number - row[2].number)
        assert [value.number for value in row[4:6]] == pytest.approx([trials[name]["auc"] for name in names])
        jackknife = Jackknife.of(*tests)
        first, second = (jackknife.values(test, ["accuracy"])["accuracy"] for test in tests)
        low, high = jackknife.interval(first - second, 0.95, limits=None) or (np.nan, np.nan)
        assert row[3].note == f"[{100 * low:+.1f}, {100 * high:+.1f}]".replace("-", "−").replace("+0.0", "0.0")
    assert "averaged over 4 configurations" in section.paragraphs[0]


def test_planted_leak_is_significant() -> None:
    subjects, labels = np.array([f"{number}" for number in range(40)]), np.arange(40) % 2
    right = np.eye(2)[labels][None]
    half = np.eye(2)[np.where(np.arange(40) % 4 < 2, labels, 1 - labels)][None]
    tests = HeldOut(labels, right, subjects), HeldOut(labels, half, subjects)
    jackknife = Jackknife.of(*tests)
    first, second = (jackknife.values(test, ["accuracy", "auc"]) for test in tests)
    gap = {name: np.stack([first[name], second[name], first[name] - second[name]]) for name in first}
    text = leakage.summary([gap], jackknife, 0.95)
    assert text.startswith("Testing on random images instead of disjoint subjects gains +50.0 percentage points")
    assert "not significant" not in text


def test_trials_with_one_protocol_are_left_out(
    paper_study: Study, both_study: Study, without: Callable[..., Study]
) -> None:
    assert leakage.sections(paper_study) == []
    assert len(leakage.find_pairs(without(both_study, leakage.find_pairs(both_study)[1][1]))) == 3
