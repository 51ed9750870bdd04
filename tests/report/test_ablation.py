import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alljax import config as configs
from alljax.evaluation.intervals import paired_difference
from alljax.report import ablation, setting_names
from alljax.report.tables import Figure, Section, Table
from alljax.study.results import Study

RATES = ("train.learning_rate", (1e-5, 1e-4, 1e-3))
OPTIMIZERS = ("train.optimizer", ("adam", "rmsprop"))
FLIPS = ("augment.flips", (False, True))
MakeStudy = Callable[..., Study]


def labels(*sweep: Any) -> list[tuple[str, tuple[str, ...]]]:
    study = Study(Path(), {"study.sweep": sweep}, {}, {}, (), {})
    return [(setting.name, setting.labels) for setting in setting_names.varied_settings(study)]


def only_section(study: Study) -> tuple[Section, Table, list[Figure]]:
    (section,) = ablation.sections(study)
    (table,) = [part for part in section.parts if isinstance(part, Table)]
    return section, table, [part for part in section.parts if isinstance(part, Figure)]


def entries(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_settings_have_display_names() -> None:
    assert labels(RATES, OPTIMIZERS, ("train.loss", ("focal",))) == [
        ("learning rate", ("0.00001", "0.0001", "0.001")),
        ("optimizer", ("Adam", "RMSprop")),
    ]
    assert labels(FLIPS) == [("flips", ("no", "yes"))]
    assert labels(("split.train_subjects", (2, 0))) == [("training subjects", ("2", "all"))]
    paired = (
        ("train.class_weights", "train.loss", "train.sampling"),
        (("none", "focal", "each"), ("balanced", "focal", "each")),
    )
    assert labels(paired) == [("class weights", ("none", "balanced"))]
    paired = (("train.optimizer", "train.learning_rate"), (("adam", 1e-4), ("sgd", 1e-2)))
    assert labels(paired)[0][1] == ("Adam, learning rate=0.0001", "SGD, learning rate=0.01")


@pytest.mark.parametrize("path", sorted(Path("configs").glob("ablate_*.py")), ids=lambda path: path.stem)
def test_every_ablation_has_distinct_labels(path: Path) -> None:
    config = configs.flatten(configs.load(str(path)))
    found = setting_names.varied_settings(Study(Path(), config, {}, {}, (), {}))
    assert found
    for setting in found:
        assert len(set(setting.labels)) == len(setting.rows)
        assert all(setting.labels)


def test_table_has_paired_differences_and_verdicts(make_study: MakeStudy) -> None:
    study = make_study(RATES, OPTIMIZERS, step=0.12)
    section, table, _ = only_section(study)
    assert table.columns[:4] == ("learning rate", "optimizer", "AUC", "sd over seeds")
    best = study.ranking.best
    for name, entry in zip(study.ranking.order, entries(table), strict=True):
        result = study.metrics["trials"][name]
        assert entry["AUC"].number == result["auc"]
        assert entry["sd over seeds"].number == pytest.approx(
            np.std([one["auc"] for one in result["per_seed"]], ddof=1)
        )
        if name == best:
            assert entry["verdict"].text == "best"
            continue
        low, high = study.ranking.differences[name].interval or (1, 0)
        alone = paired_difference(
            study.predictions(name).held_out, study.predictions(best).held_out, names=["auc"], **study.bootstrap
        )["auc"]
        assert low < alone[0], "the interval for all pairs is wider than that of one pair"
        assert entry["difference"].note == f"[{low:+.3f}, {high:+.3f}]".replace("-", "−")
        assert entry["verdict"].text == ("significantly worse" if high < 0 else "not distinguishable")
    assert {row[-1].text for row in table.rows[1:]} == {"significantly worse", "not distinguishable"}
    assert "Adam" in section.paragraphs[0]


def test_wide_numbers_have_a_logarithmic_axis_with_curves(make_study: MakeStudy) -> None:
    study = make_study(OPTIMIZERS, RATES)
    _, _, (figure,) = only_section(study)
    (panel,) = json.loads(figure.curves)
    assert (panel["log"], panel["name"], panel["at"]) == ([1, 0], "learning rate", [1e-5, 1e-4, 1e-3])
    for label, _, values in panel["lines"]:
        trials = study.metrics["trials"].items()
        assert values == pytest.approx(
            [trial["auc"] for name, trial in trials if f"-{label.lower()}" in name], rel=1e-3
        )


def test_third_setting_makes_panels(make_study: MakeStudy) -> None:
    _, table, (figure,) = only_section(make_study(OPTIMIZERS, ("model.pool", ("average", "max")), FLIPS))
    assert len(table.rows) == 8
    assert not figure.curves
    for text in ("Adam", "RMSprop", "average", "max", "flips no", "flips yes"):
        assert f">{text}</text>" in figure.svg
    assert figure.png.startswith(b"\x89PNG")


def test_four_settings_have_a_table_without_figure(make_study: MakeStudy) -> None:
    turns = ("augment.quarter_turns", (False, True))
    section, table, figures = only_section(
        make_study(OPTIMIZERS, FLIPS, turns, ("train.staircase", (False, True)), seeds=1)
    )
    assert (len(table.rows), figures) == (16, [])
    assert "No figure" in section.paragraphs[-1]
    assert entries(table)[0]["sd over seeds"].text == "–"


def test_leaky_model_is_marked_and_ranked_last(make_study: MakeStudy) -> None:
    study = make_study(("split.protocol", ("paper", "subject_kfold", "subject_holdout")), leaky=1)
    _, table, (figure,) = only_section(study)
    last = entries(table)[-1]
    assert study.metrics["trials"][study.ranking.order[-1]]["auc"] > study.metrics["trials"][study.ranking.best]["auc"]
    assert last["split"].note == "leaky test"
    assert "not ranked" in last["verdict"].text
    assert ">leaky test</text>" in figure.svg


def test_models_tested_on_other_images_are_not_paired(make_study: MakeStudy) -> None:
    section, table, _ = only_section(make_study(OPTIMIZERS, unpaired=1))
    second = entries(table)[1]
    assert (second["verdict"].note, second["difference"].note) == ("tested on other images", "")
    assert "own intervals" in second["verdict"].text
    assert "cannot be compared" in section.paragraphs[1]


def test_study_without_sweep_has_no_section(make_study: MakeStudy) -> None:
    assert ablation.sections(make_study()) == []
