"""The methods that Table 7 cites: facts, and the section of a study of them."""

import csv
import dataclasses
import io
from collections.abc import Callable

import pytest

from alljax.paper import leakage, published, table7
from alljax.report.tables import Table, to_csv, to_latex
from alljax.settings import SETTINGS
from alljax.study.results import Study

LABELS = {"stem": "texture_svm", "stage1": "vgg16_dense_deep"}


@pytest.fixture
def labeled(both_study: Study) -> Study:
    """Two methods under two splits, with 10 and 20 epochs each."""
    settings = {
        name: values | {"model.label": LABELS[values["model.stage"]], "weights.name": "random"}
        for name, values in both_study._settings.items()
    }
    return dataclasses.replace(both_study, _settings=settings)


def table(study: Study) -> list[dict[str, str]]:
    """Returns the rows of the table of methods as read from its CSV file."""
    return list(csv.DictReader(io.StringIO(to_csv(table7.methods_table(study)))))


def test_every_printed_number_has_one_method() -> None:
    methods = table7.methods()
    printed = {(method["study"], method["model"]): method["printed"] for method in methods}
    assert len(printed) == len(methods)
    for *key, data, images, accuracy in published.TABLE_7:
        assert printed.pop((key[0], key[1])).startswith(f"{accuracy:.2f}% (Table 7: {data}, {images:,} images)")
    assert all(text.count("%") == text.count("introduction") > 0 for text in printed.values())
    labels = [label for method in methods for label in method["labels"].split()]
    assert len(labels) == len({*labels})
    left_open = published.read_rows("table7_open.csv")
    assert {row["label"] for row in left_open} <= {*labels}
    assert {key for row in left_open for key in row["settings"].split()} <= SETTINGS.keys()


def test_each_method_is_beside_its_printed_number_and_source(labeled: Study) -> None:
    rows = table(labeled)
    assert {row["study"] for row in rows} == {method["study"] for method in table7.methods()} | {""}
    texture = [row for row in rows if row["study"] == "[7]"]
    trials = {name: labeled.metrics["trials"][name] for pair in leakage.find_pairs(labeled) for name in pair}
    for row, (image, subject) in zip(texture, leakage.find_pairs(labeled)[:2], strict=True):
        assert float(row["split by image"]) == pytest.approx(trials[image]["accuracy"])
        assert float(row["subjects held out"]) == pytest.approx(trials[subject]["accuracy"])
        assert float(row["difference"]) == pytest.approx(trials[image]["accuracy"] - trials[subject]["accuracy"])
        assert row["difference (note)"].startswith("[")
        assert float(row["minus cell size"]) == pytest.approx(trials[subject]["size_improvement"]["accuracy"]["value"])
        assert row["our reading (note)"] == "random weights"
        assert "protocol" not in row["our reading"]
    assert texture[0]["printed"] == "0.96"
    assert texture[0]["in its source"].startswith("the same number")
    absent = next(row for row in rows if row["study"] == "[22]")
    assert absent["our reading (note)"] == "not in this study"
    assert (absent["split by image"], absent["printed"]) == ("", "0.8511")
    assert "\\begin{longtable}" in to_latex(table7.methods_table(labeled))


def test_method_with_one_split_has_no_difference(labeled: Study, without: Callable[..., Study]) -> None:
    image, _ = leakage.find_pairs(labeled)[0]
    first = next(row for row in table(without(labeled, image)) if row["study"] == "[7]")
    assert first["split by image"] == first["difference"] == "" != first["subjects held out"]


def test_skipped_methods_say_how_to_get_their_weights(labeled: Study, without: Callable[..., Study]) -> None:
    names = [name for name in labeled.trials if "stage1" in name]
    study = without(labeled, *names)
    skipped = dict.fromkeys(names, "no weights torchvision-vgg16: run `alljax weights fetch`")
    study = dataclasses.replace(study, metrics=study.metrics | {"skipped": skipped})
    row = next(row for row in table(study) if row["study"] == "[24]")
    assert (row["our reading (note)"], row["split by image"]) == ("skipped, see below", "")
    *_, note = table7.methods_table(study).notes
    assert note == f"Skipped: {', '.join(names)}: no weights torchvision-vgg16: run `alljax weights fetch`"


def test_open_settings_show_the_choice_of_the_trials(labeled: Study) -> None:
    (section,) = table7.sections(labeled)
    settings = section.parts[2]
    assert isinstance(settings, Table)
    choices = {(row[1].text, row[2].text): row[3].text for row in settings.rows}
    assert choices["vgg16_dense_deep", "train.groups"] == "head"
