from pathlib import Path

import numpy as np
import paper_study
import pytest
from alljax.evaluation.unpaired import HeldOut
from alljax.study.finished import Study

from alljax.evaluation import intervals, unpaired
from alljax.paper import leakage
from alljax.report.tables import Figure, Section, Table
from alljax.study import finished

LOST = "vgg16-rmsprop-epochs=20-protocol=subject_kfold"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("leak")
    paper_study.make(folder, budgets=(10, 20), networks=("vgg16",), protocols=("paper", "subject_kfold"),
                     missing=(LOST,))  # fmt: skip
    return finished.read_study(folder)


@pytest.fixture(scope="module")
def section(study: Study) -> Section:
    (found,) = leakage.sections(study)
    return found


def names(row: int) -> tuple[str, str]:
    name = ("vgg16-adam-epochs=10", "vgg16-adam-epochs=20", "vgg16-rmsprop-epochs=10")[row]
    return f"{name}-protocol=paper", f"{name}-protocol=subject_kfold"


def draws(study: Study, row: int) -> np.ndarray:
    read = [finished.read_predictions(study, name) for name in names(row)]
    tests = [HeldOut(one.labels, one.probabilities, one.people) for one in read]
    first, second = unpaired.resampled(tests, resamples=100, seed=0)
    return np.asarray(first["accuracy"] - second["accuracy"])


def test_each_set_up_stands_beside_itself(section: Section, study: Study) -> None:
    part = section.parts[0]
    assert isinstance(part, Table)
    assert [row[0].text for row in part.rows] == [
        "Adam, epochs 10", "Adam, epochs 20", "RMSprop, epochs 10", "RMSprop, epochs 20",
    ]  # fmt: skip
    trials = study.metrics["trials"]
    for row in range(3):
        leaky, apart = (trials[name]["accuracy"] for name in names(row))
        assert [one.number for one in part.rows[row][1:3]] == [leaky, apart]
        assert part.rows[row][3].number == pytest.approx(leaky - apart)
        low, high = np.quantile(draws(study, row), [0.025, 0.975])
        assert part.rows[row][3].note == f"[{100 * low:+.1f}, {100 * high:+.1f}]".replace("-", "−")
        for place, name in enumerate(names(row)):
            read = finished.read_predictions(study, name)
            assert len(set(read.folds)) == (1, 5)[place]
            entry = part.rows[row][4 + place]
            assert entry.number == intervals.auc_within_folds(read.labels, read.probabilities, read.folds)
            if place == 0:
                assert entry.number == pytest.approx(trials[name]["auc"])
        assert part.rows[row][6].number == pytest.approx(part.rows[row][4].number - part.rows[row][5].number)
    assert part.rows[3][2].note == "cell missing"
    assert part.rows[3][4].text == "–"
    assert part.rows[3][3].text == "–"


def test_the_mean_is_over_the_same_draws_of_people(section: Section, study: Study) -> None:
    mean = np.mean([draws(study, row) for row in range(3)], axis=0)
    low, high = np.quantile(mean, [0.025, 0.975])
    trials = study.metrics["trials"]
    value = np.mean([trials[names(row)[0]]["accuracy"] - trials[names(row)[1]]["accuracy"] for row in range(3)])
    wanted = f"{100 * value:+.1f} percentage points of accuracy [{100 * low:+.1f}, {100 * high:+.1f}]"
    assert section.paragraphs[0].startswith("Over 3 of 4 set-ups, the mean: ")
    assert wanted.replace("-", "−") in section.paragraphs[0]
    assert section.paragraphs[1] == "Random cells: protocol paper. People apart: protocol subject_kfold."


def test_a_planted_leak_is_more_than_noise(study: Study) -> None:
    people = np.array([f"{number}" for number in range(40)])
    labels = np.arange(40) % 2
    right, half = np.eye(2)[labels][None], np.eye(2)[np.where(np.arange(40) % 4 < 2, labels, 1 - labels)][None]
    first, second = unpaired.resampled([HeldOut(labels, right, people), HeldOut(labels, half, people)])
    drawn = {name: np.stack([first[name], second[name]]) for name in ("accuracy", "auc")}
    worth = leakage.Worth({"accuracy": (1.0, 0.5), "auc": (1.0, 0.5)}, drawn)
    text = leakage._sentence([worth], 0.95, 1, "people")
    assert text.startswith("Over one set-up: holding out cells instead of people was worth +50.0 percentage points")
    assert text.count("more than the choice of people explains") == 2
    assert "+0.500 of AUC" in text
    assert "no more" not in text


def test_the_picture_names_every_set_up_that_is_there(section: Section) -> None:
    (picture,) = section.parts[1:]
    assert isinstance(picture, Figure)
    for label in ("Adam, epochs 10", "RMSprop, epochs 10", "random cells", "people apart"):
        assert label in picture.svg
    assert "RMSprop, epochs 20" not in picture.svg


def test_a_study_of_one_split_has_no_such_section(tmp_path: Path) -> None:
    paper_study.make(tmp_path, budgets=(10,), networks=("vgg16",), people=(3, 3), shots=4)
    assert leakage.sections(finished.read_study(tmp_path)) == []


def test_no_picture_where_no_pair_is_complete(tmp_path: Path) -> None:
    lost = tuple(f"vgg16-{one}-epochs=10-protocol=subject_kfold" for one in ("adam", "rmsprop"))
    paper_study.make(tmp_path, budgets=(10,), networks=("vgg16",), people=(3, 3), shots=4, missing=lost,
                     protocols=("paper", "subject_kfold"))  # fmt: skip
    (section,) = leakage.sections(finished.read_study(tmp_path))
    assert len(section.parts) == 1
    assert section.paragraphs == ("Random cells: protocol paper. People apart: protocol subject_kfold.",)


def test_two_ways_to_keep_people_apart_are_told_apart(tmp_path: Path) -> None:
    paper_study.make(tmp_path, budgets=(10,), networks=("vgg16",), people=(3, 3), shots=4,
                     protocols=("paper", "subject_kfold", "official_folds"))  # fmt: skip
    pairs, protocols = leakage.find(finished.read_study(tmp_path))
    assert protocols == ["subject_kfold", "official_folds"]
    assert [pair.label for pair in pairs] == [
        "Adam, subject_kfold", "Adam, official_folds", "RMSprop, subject_kfold", "RMSprop, official_folds",
    ]  # fmt: skip
