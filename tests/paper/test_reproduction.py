import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from alljax.paper import matching, published, reproduction
from alljax.report.tables import Figure, Section, Table
from alljax.study.results import Study


def table(sections: list[Section], name: str) -> Table:
    return next(part for one in sections for part in one.parts if isinstance(part, Table) and part.name == name)


def test_report_has_every_table_and_figure_of_the_paper(found: list[Section]) -> None:
    names = [part.name for one in found for part in one.parts]
    figures = [f"figure-{number}-{quantity}" for number in (7, 8) for quantity in ("accuracy", "loss")]
    assert names == [*(f"table-{number}" for number in range(1, 8)), *figures, "figure-9", "inconsistencies"]
    for part in (part for one in found for part in one.parts if isinstance(part, Table)):
        assert all(len(row) == len(part.columns) for row in (*part.rows, *part.footer))


def words(found: list[Section], name: str) -> set[str]:
    figure = next(part for one in found for part in one.parts if part.name == name)
    assert isinstance(figure, Figure)
    return {"".join(text.itertext()) for text in ET.fromstring(figure.svg).iter() if text.tag.endswith("text")}


def test_figures_show_every_number_of_epochs_and_the_baselines(found: list[Section], paper_study: Study) -> None:
    for name in ("figure-7-accuracy", "figure-8-loss"):
        panels = {f"{epochs} epochs" for epochs in published.EPOCHS}
        assert panels | {"Adam, training images", "RMSprop, held-out images"} <= words(found, name)
    drawn = words(found, "figure-9")
    assert {"majority class", "cell size alone", "Adam, implied by the paper", "RMSprop, ours"} <= drawn
    match = matching.match(paper_study)
    for epochs, entry in zip(published.EPOCHS, table(found, "table-6").rows, strict=True):
        row = ("B", "rmsprop", epochs)
        (low, high), _ = published.implied_ranges(row, published.FITTING_ALL)
        assert entry[11].note == f"{100 * low:.1f} to {100 * high:.1f}"
        assert entry[10].number == paper_study.metrics["trials"][match.trials[row]]["accuracy"]


@pytest.mark.parametrize("key", published.KEYS)
def test_tables_have_ours_theirs_and_the_difference(
    found: list[Section], paper_study: Study, key: published.Key
) -> None:
    match, printed = matching.match(paper_study), published.PRINTED[key]
    for index, row in enumerate(table(found, f"table-{3 + published.KEYS.index(key)}").rows):
        place = (*key, published.EPOCHS[index])
        result = paper_study.metrics["trials"][match.trials[place]]
        for column, metric in enumerate(published.METRICS.values()):
            ours, theirs, difference = row[1 + 3 * column : 4 + 3 * column]
            expected = printed[metric][index]
            assert (ours.number, theirs.text) == (result[metric], f"{expected:.2f}")
            assert difference.number == pytest.approx(result[metric] - expected)
            within = matching.compare(match, metric, place).within()
            assert difference.note.startswith("within ±" if within else "outside ±")
    column = 2 + 3 * list(published.OPTIMIZERS).index(key[1])
    theirs = [row[column].text for row in table(found, f"table-{1 + (key[0] == 'B')}").rows]
    assert theirs == [f"{number:.2f}%" for number in printed["training_accuracy"]]


def test_table_7_has_the_trainings_that_the_paper_quotes(found: list[Section], paper_study: Study) -> None:
    rows, match = table(found, "table-7").rows, matching.match(paper_study)
    assert [row[4].text for row in rows[7:9]] == ["87.00%", "82.00%"]
    for row, quoted, theirs in zip(rows[9:], reproduction.QUOTED, (0.87, 0.82), strict=True):
        accuracy = paper_study.metrics["trials"][match.trials[quoted]]["accuracy"]
        assert (row[4].number, row[5].number) == (accuracy, pytest.approx(accuracy - theirs))


def test_agreement_is_counted_for_cnmc_only(found: list[Section], paper_study: Study) -> None:
    assert reproduction.OTHER_DATA in found[0].paragraphs
    assert any("not stratified" in line for line in found[0].paragraphs)
    assert not any("published training accuracies" in line for line in found[0].paragraphs)
    match = matching.match(paper_study)
    lines = reproduction.agreement(match)
    metrics = ("training_accuracy", *published.METRICS.values())
    tests = [matching.compare(match, metric, row) for row in match.trials for metric in metrics]
    once, twice = (sum(test.within(times) for test in tests) for times in (1, 2))
    assert lines[0].startswith(f"{once} of 128 published training accuracies")
    assert f"{twice} within twice" in lines[0]


def test_unfinished_trials_leave_entries_that_say_so(
    paper_study: Study, without: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduction, "training_curves", lambda *_: ())  # figures take long
    trials = matching.match(paper_study).trials
    lost = [trials[row] for row in (("A", "adam", 10), ("B", "adam", 100), ("B", "rmsprop", 80))]
    found = reproduction.sections(without(paper_study, *lost))
    table_3 = table(found, "table-3")
    assert table_3.rows[0][2].text == "0.76"
    entries = (table_3.rows[0][1], table_3.footer[0][1], table(found, "table-5").rows[7][1],
               table(found, "table-1").rows[0][1], table(found, "table-7").rows[10][4])  # fmt: skip
    assert {entry.note for entry in entries} == {"no finished trial"}
