import csv
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alljax.study.finished import Study
from workdirs import make_workdir

from alljax import config as configs
from alljax.evaluation import comparison
from alljax.evaluation.intervals import difference
from alljax.report import ablation, findings, report, setting_names
from alljax.report.tables import Figure, Section, Table
from alljax.study import finished

RATES = ["train.learning_rate", [1e-5, 1e-4, 1e-3]]
OPTIMIZERS = ["train.optimizer", ["adam", "rmsprop"]]
IMBALANCE = [
    ["train.class_weights", "train.loss", "train.sampling"],
    [["none", "cross_entropy", "each"], ["balanced", "cross_entropy", "each"], ["none", "focal", "each"]],
]
SMALL: dict[str, Any] = {"people": (6, 8), "epochs": 2, "resamples": 200, "sheets": 0}


def study_of(vary: list, **settings: Any) -> Study:
    return Study(Path(), {"study.sweep": json.loads(json.dumps(vary)), **settings}, {}, {"trials": {}}, {})


def labels(*vary: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(factor.name, factor.labels) for factor in setting_names.varied(study_of(list(vary)))]


def section(folder: Path) -> Section:
    (found,) = ablation.sections(finished.read_study(folder))
    return found


def parts(found: Section) -> tuple[Table, list[Figure]]:
    (table,) = [part for part in found.parts if isinstance(part, Table)]
    return table, [part for part in found.parts if isinstance(part, Figure)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vary = {"study.sweep": [RATES, OPTIMIZERS]}
    return make_workdir(tmp_path_factory.mktemp("two"), settings=vary, step=0.15, **SMALL)


def test_settings_and_values_are_said_in_words() -> None:
    assert labels(RATES, OPTIMIZERS) == [
        ("learning rate", ("0.00001", "0.0001", "0.001")),
        ("optimizer", ("Adam", "RMSprop")),
    ]
    assert labels(["preprocessing.image_size", [0, 224]]) == [("image size", ("as the weights expect", "224"))]
    assert labels(["augment.flips", [False, True]]) == [("flips", ("no", "yes"))]
    assert labels(["split.protocol", ["paper", "subject_kfold"]])[0][1][1] == "people apart, in folds"


def test_settings_that_change_together_are_named_by_what_differs() -> None:
    assert labels(IMBALANCE) == [("class weights, loss", ("none of these", "balanced class weights", "focal loss"))]
    depth = [
        ["train.mode", "train.groups"],
        [["frozen", []], ["finetune", [["head/.*", 1.0], ["backbone/block5/.*", 0.3], ["backbone/block1/.*", 0.0]]]],
    ]
    assert labels(depth) == [("what learns", ("head", "head + block5"))]
    rates = [["train.optimizer", "train.learning_rate"], [["adam", 1e-4], ["sgd", 1e-2]]]
    assert labels(rates)[0][1] == ("Adam, learning rate 0.0001", "SGD, learning rate 0.01")
    assert labels([["train.optimizer", "train.loss"], [["adam", "focal"], ["adam", "cross_entropy"]]]) == [
        ("loss", ("focal", "cross entropy"))
    ]


def test_rows_that_words_cannot_tell_apart_are_shown_as_they_are() -> None:
    groups = ["train.groups", [[["head/.*", 1.0], ["backbone/.*", 0.1]], [["head/.*", 1.0], ["backbone/.*", 0.3]]]]
    (_, found), *_ = labels(groups)
    assert len(set(found)) == 2
    assert "0.3" in found[1]


def test_what_does_not_vary_is_no_factor() -> None:
    assert labels(["train.optimizer", ["adam"]]) == []
    assert ablation.sections(study_of([])) == []


def test_a_number_that_means_all_has_no_place_on_an_axis() -> None:
    (factor,) = setting_names.varied(study_of([["split.train_subjects", [2, 8, 0]]]))
    assert factor.labels[2] == "all"
    assert np.isnan(factor.numbers or ())[2]


@pytest.mark.parametrize("name", sorted(path.name for path in Path("configs").glob("ablate_*.py")))
def test_every_ablation_of_the_project_can_be_said(name: str) -> None:
    for argument in ("", ":toy"):
        config = configs.flatten(configs.load(f"configs/{name}{argument}"))
        for factor in setting_names.varied(study_of(config["study.sweep"])):
            assert len(set(factor.labels)) == len(factor.rows)
            assert all(factor.labels)


def test_a_table_has_a_row_a_cell_with_its_paired_difference(two: Path) -> None:
    study, (table, _) = finished.read_study(two), parts(section(two))
    trials, order = study.metrics["trials"], comparison.order(study)
    assert len(table.rows) == 6
    assert table.columns[:4] == ("learning rate", "optimizer", "AUC", "sd over seeds")
    best = finished.read_predictions(study, order[0])
    bounds = {name: gap.bounds for name, gap in comparison.gaps(study).items() if gap.bounds}
    for name, row in zip(order, table.rows, strict=True):
        entry = dict(zip(table.columns, row, strict=True))
        assert entry["AUC"].number == trials[name]["auc"]
        assert entry["AUC"].note == "[{:.3f}, {:.3f}]".format(*trials[name]["intervals"]["auc"])
        assert entry["sd over seeds"].number == pytest.approx(
            np.std([one["auc"] for one in trials[name]["per_seed"]], ddof=1)
        )
        if name == order[0]:
            assert entry["verdict"].text == "the best"
            continue
        low, high = bounds[name]
        other = finished.read_predictions(study, name)
        alone = difference(
            best.labels, other.probabilities, best.probabilities, best.people.tolist(), names=["auc"], resamples=200
        )["auc"]
        assert low < alone[0] or low == alone[0] == 0, "for all pairs at once it reaches further than for one"
        assert entry["difference to the best"].number == pytest.approx(trials[name]["auc"] - trials[order[0]]["auc"])
        assert entry["difference to the best"].note == f"[{low:+.3f}, {high:+.3f}]".replace("-", "−")
        assert entry["verdict"].text == ("clearly below" if high < 0 else "not distinguishable")
    assert {row[-1].text for row in table.rows[1:]} == {"clearly below", "not distinguishable"}


def test_the_paragraph_names_the_best_with_its_interval_and_the_findings_count_the_rest(two: Path) -> None:
    study, found = finished.read_study(two), section(two)
    best = study.metrics["trials"][comparison.order(study)[0]]
    low, high = best["intervals"]["auc"]
    assert f"with AUC {best['auc']:.3f} [{low:.3f}, {high:.3f}]" in found.paragraphs[0]
    assert "learning rate 0.00001, Adam" in found.paragraphs[0]
    table, _ = parts(found)
    even = sum(row[-1].text == "not distinguishable" for row in table.rows)
    told = findings.findings(study, comparison.order(study))[1]
    assert told == (
        f"Of the 5 other models {even} {'is' if even == 1 else 'are'} not distinguishable from it, "
        f"{5 - even} {'is' if even == 4 else 'are'} clearly below."
    )
    assert ("not significant" in found.paragraphs[0]) == (table.rows[1][-1].text == "not distinguishable")


def test_equal_cells_are_said_not_to_differ(tmp_path: Path) -> None:
    found = section(make_workdir(tmp_path, settings={"study.sweep": [OPTIMIZERS]}, step=0.0, **SMALL))
    assert "not significant" in found.paragraphs[0]
    assert found.parts[1].rows[1][-1].text == "not distinguishable"  # type: ignore[union-attr]


def test_one_seed_has_no_spread_and_a_metric_of_the_study_is_believed(tmp_path: Path) -> None:
    folder = make_workdir(tmp_path, settings={"study.sweep": [OPTIMIZERS]}, seeds=1, **SMALL)
    table, _ = parts(section(folder))
    assert (table.rows[0][2].text, table.rows[0][2].note) == ("–", "one seed")
    metrics = json.loads((folder / "metrics.json").read_text())
    for trial in metrics["trials"].values():
        trial["std"] = {"auc": 0.0125}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert parts(section(folder))[0].rows[0][2].number == 0.0125


def test_wide_numbers_stand_on_a_logarithmic_axis_that_answers(two: Path) -> None:
    _, (picture,) = parts(section(two))
    (panel,) = json.loads(ElementTree.fromstring(picture.svg).attrib["data-curves"])
    assert panel["log"] == [1, 0]
    assert panel["name"] == "learning rate"
    assert panel["at"] == [1e-5, 1e-4, 1e-3]
    study = finished.read_study(two)
    for label, _, values in panel["lines"]:
        wanted = [
            trial["auc"] for name, trial in study.metrics["trials"].items() if f"-{label.lower()}-" in name
        ]  # in the order of the rates
        assert values == pytest.approx(wanted, rel=1e-3)


def test_other_settings_are_categories_and_a_third_makes_panels(tmp_path: Path) -> None:
    vary = {"study.sweep": [OPTIMIZERS, ["model.pool", ["average", "max"]], ["train.epochs", [5, 10, 20]]]}
    found = section(make_workdir(tmp_path, settings=vary, **SMALL))
    table, (picture,) = parts(found)
    assert len(table.rows) == 12
    assert "data-curves" not in picture.svg
    for text in ("Adam", "RMSprop", "average", "max", "epochs 5", "epochs 20"):
        assert f">{text}</text>" in picture.svg
    assert picture.png.startswith(b"\x89PNG")


def test_more_than_three_settings_have_a_table_and_a_note(tmp_path: Path) -> None:
    vary = [[key, [False, True]] for key in ("augment.flips", "augment.quarter_turns", "train.staircase")]
    folder = make_workdir(tmp_path, settings={"study.sweep": [*vary, OPTIMIZERS]}, seeds=1, **SMALL)
    found = section(folder)
    table, pictures = parts(found)
    assert (len(table.rows), pictures) == (16, [])
    assert "No figure" in found.paragraphs[-1]
    assert any("by chance" in note for note in table.notes)


def with_leak(folder: Path, drop: bool) -> Path:
    """Makes the first, best cell one of a leaky split; with `drop` it was tested on half the images."""
    metrics = json.loads((folder / "metrics.json").read_text())
    first = next(iter(metrics["trials"]))
    keys = ("protocol", "leaks", "baselines")
    honest = {key: metrics[key] for key in keys}
    leaky = honest | {
        "protocol": metrics["protocol"] | {"name": "paper", "leaky": True},
        "leaks": {"test_cells": 100, "person": 90},
    }
    metrics["splits"] = {"paper": leaky, "subject_kfold": honest}
    for name, trial in metrics["trials"].items():
        trial["split"] = "paper" if name == first else "subject_kfold"
    (folder / "metrics.json").write_text(json.dumps(metrics | leaky))
    if drop:
        path = folder / "trials" / first / "predictions.csv"
        header, *rows = list(csv.reader(path.read_text().splitlines()))
        kept = sorted({row[0] for row in rows})[::2]
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *(row for row in rows if row[0] in kept)])
    return folder


@pytest.mark.parametrize("drop", [False, True])
def test_a_leaky_cell_is_marked_and_never_the_best(tmp_path: Path, drop: bool) -> None:
    vary = {"study.sweep": [["split.protocol", ["paper", "subject_kfold", "prelim"]]]}
    folder = with_leak(make_workdir(tmp_path, settings=vary, step=0.3, **SMALL), drop)
    study = finished.read_study(folder)
    names = list(study.metrics["trials"])
    assert max(names, key=lambda name: study.metrics["trials"][name]["auc"]) == names[0]
    assert comparison.order(study) == [names[1], names[2], names[0]]
    found = section(folder)
    table, (picture,) = parts(found)
    last = table.rows[-1]
    assert (last[0].text, last[0].note) == ("random cells, as the paper", "its test leaks")
    assert last[-1].text == "its test leaks: not ranked"
    assert bool(last[-2].note) != drop  # the same images are compared even so: that is what the leak was worth
    assert found.paragraphs[0].startswith("Of 3 models, leaving out those whose test leaks, the best is people apart")
    assert "1 model was tested on people" in found.paragraphs[-1]
    assert ">its test leaks</text>" in picture.svg
    page = report.write_report(folder).read_text()
    assert "Of 2 models whose test does not leak, <strong" in page
    assert "Leak in “paper”: 90 of 100 held-out cells" in page


def test_cells_tested_on_other_images_are_not_paired(tmp_path: Path) -> None:
    vary = {"study.sweep": [["split.protocol", ["subject_kfold", "prelim"]]]}
    folder = with_leak(make_workdir(tmp_path, settings=vary, step=0.1, **SMALL), drop=True)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["splits"]["paper"]["protocol"]["leaky"] = False
    (folder / "metrics.json").write_text(json.dumps(metrics))
    found = section(folder)
    table, _ = parts(found)
    assert table.rows[1][-1].note == "tested on other images"
    assert table.rows[1][-1].text in ("own intervals overlap", "own intervals apart")
    assert table.rows[1][-2].note == ""
    assert "cannot be compared image by image" in found.paragraphs[0]


def test_the_report_shows_the_section_and_leaves_its_files(two: Path) -> None:
    page = report.write_report(two).read_text()
    assert 'id="changes"' in page
    for name in ("tables/ablation.csv", "tables/ablation.tex", "figures/ablation.svg", "figures/ablation.png"):
        assert (two / name).stat().st_size > 0
    rows = list(csv.DictReader((two / "tables/ablation.csv").read_text().splitlines()))
    assert len(rows) == 6


def test_among_equal_models_none_is_clearly_below_too_often() -> None:
    """Twelve models that differ by chance alone: one by one some are called worse in most studies, together in few."""
    generator, names = np.random.default_rng(0), [str(place) for place in range(12)]
    together = alone = 0
    for _ in range(200):
        of_people = generator.normal(0.8, 0.1, (12, 60))
        of_people = of_people[np.argsort(-of_people.mean(1))]
        drawn = of_people @ generator.multinomial(60, np.full(60, 1 / 60), 400).T / 60
        values = dict(zip(names, of_people.mean(1).tolist(), strict=True))
        bounds = comparison._simultaneous(values, dict(zip(names, drawn, strict=True)), 0.95)
        together += any(high < 0 for _, high in bounds.values())
        alone += bool((np.quantile(drawn[1:] - drawn[0], 0.975, axis=1) < 0).any())
    assert alone > 0.5 * 200
    assert 0 < together < 0.15 * 200, "5 % are meant, and the bootstrap of 60 people is a little too sure"
