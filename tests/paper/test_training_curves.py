import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from alljax.paper import matching, published, training_curves
from alljax.report.tables import Figure, Section, Table
from alljax.study.results import Study


@pytest.fixture
def parts(found: list[Section]) -> dict[str, Figure | Table]:
    return {part.name: part for section in found for part in section.parts}


def words(figure: Figure | Table) -> list[str]:
    assert isinstance(figure, Figure)
    return ["".join(text.itertext()) for text in ET.fromstring(figure.svg).iter() if text.tag.endswith("text")]


def test_each_number_of_epochs_has_a_panel_with_both_optimizers(parts: dict[str, Figure | Table]) -> None:
    for name in ("figure-7", "figure-8"):
        texts = words(parts[name])
        assert [text for text in texts if text.endswith(" epochs")] == [
            f"{epochs} epochs" for epochs in published.EPOCHS
        ]
        assert {"Adam, training images", "RMSprop, held-out images"} <= {*texts}


def test_figure_9_and_its_table_show_the_accuracies(paper_study: Study, parts: dict[str, Figure | Table]) -> None:
    texts = words(parts["figure-9"])
    assert {"majority class", "cell size alone", "Adam, implied by the paper", "RMSprop, ours"} <= {*texts}
    table = parts["test-accuracy"]
    assert isinstance(table, Table)
    for (row, name), entry in zip(matching.match(paper_study).trials.items(), table.rows, strict=True):
        (low, high), _ = published.implied_ranges(row, published.FITTING_ALL)
        assert entry[4].note == f"{100 * low:.1f} to {100 * high:.1f}"
        result = paper_study.metrics["trials"][name]
        assert entry[3].number == result["accuracy"]
        assert entry[6].number == result["size_improvement"]["accuracy"]["value"]
        assert [one.number for one in entry[7:9]] == [one["recall"] for one in result["per_class"]]


def test_longest_training_that_is_finished_is_shown(paper_study: Study, without: Callable[..., Study]) -> None:
    trials = matching.match(paper_study).trials
    match = matching.match(without(paper_study, trials["B", "rmsprop", 100]))
    assert [value.text for value in training_curves.accuracy_table(match).rows[-1][1:3]] == ["RMSprop", "80"]
    texts = words(training_curves.longest_trainings(match))
    assert texts.count("Adam, 100 epochs") == 2
    assert texts.count("RMSprop, 80 epochs") == 1
