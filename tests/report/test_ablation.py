import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alljax import config as configs
from alljax.report import ablation, setting_names
from alljax.report.tables import Figure, Table
from alljax.study.results import Study

RATES = ("train.learning_rate", (1e-5, 1e-4, 1e-3))
OPTIMIZERS = ("train.optimizer", ("adam", "rmsprop"))
FLIPS = ("augment.flips", (False, True))
MakeStudy = Callable[..., Study]


def labels(*sweep: Any) -> list[tuple[str, list[str]]]:
    study = Study(Path(), {"study.sweep": json.loads(json.dumps(sweep))}, {}, {}, (), {})
    varied = setting_names.varied_settings(study)
    return [(setting.name, [value.text for value in setting.values]) for setting in varied]


def table_and_figures(study: Study) -> tuple[list[dict[str, Any]], list[Figure]]:
    (section,) = ablation.sections(study)
    (table,) = [part for part in section.parts if isinstance(part, Table)]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return rows, [part for part in section.parts if isinstance(part, Figure)]


def test_settings_have_display_names() -> None:
    rates = "learning rate", ["0.00001", "0.0001", "0.001"]
    assert labels(RATES, FLIPS, ("train.loss", ("focal",))) == [rates, ("flips", ["no", "yes"])]
    assert labels(("split.train_subjects", (2, 0))) == [("training subjects", ["2", "all"])]
    paired = (("train.class_weights", "train.loss"), (("none", "focal"), ("balanced", "focal")))
    assert labels(paired) == [("class weights", ["none", "balanced"])]
    paired = (("model.label", "model.backbone"), (("hybrid", "vgg16"), ("size", "vgg16")))
    assert labels(paired) == [("model", ["hybrid", "size"])]
    paired = (("train.optimizer", "train.learning_rate"), (("adam", 1e-4), ("sgd", 1e-2)))
    assert labels(paired) == [("optimizer, learning rate", ["Adam, 0.0001", "SGD, 0.01"])]


@pytest.mark.parametrize("path", sorted(Path("configs").glob("ablate_*.py")), ids=lambda path: path.stem)
def test_ablations_have_distinct_labels(path: Path) -> None:
    found = labels(*configs.flatten(configs.load(str(path)))["study.sweep"])
    assert found
    assert all(all(names) and len(set(names)) == len(names) for _, names in found)


def test_table_has_paired_differences_and_verdicts(make_study: MakeStudy) -> None:
    study = make_study(RATES, OPTIMIZERS, step=0.12)
    rows, _ = table_and_figures(study)
    for name, row in zip(study.ranking.order, rows, strict=True):
        result = study.metrics["trials"][name]
        assert row["AUC"].number == result["auc"]
        deviation = np.std([one["auc"] for one in result["per_seed"]], ddof=1)
        assert row["sd over seeds"].number == pytest.approx(deviation)
        if name != study.ranking.best:
            low, high = study.ranking.differences[name].interval or (1, 0)
            assert row["difference"].note == f"[{low:+.3f}, {high:+.3f}]".replace("-", "−")
            assert row["verdict"].text == ("significantly worse" if high < 0 else "not distinguishable")
    assert {row["verdict"].text for row in rows} == {"best", "significantly worse", "not distinguishable"}


def test_third_setting_makes_panels_and_a_fourth_only_a_table(make_study: MakeStudy) -> None:
    sweep = OPTIMIZERS, ("model.pool", ("average", "max")), FLIPS
    rows, (figure,) = table_and_figures(make_study(*sweep))
    assert len(rows) == 8
    for text in ("optimizer=Adam", "pooling=average", "pooling=max", "flips=no", "flips=yes"):
        assert f">{text}</text>" in figure.svg
    assert figure.png.startswith(b"\x89PNG")
    rows, figures = table_and_figures(make_study(*sweep, ("train.staircase", (False, True)), seeds=1))
    assert (len(rows), figures) == (16, [])
    assert rows[0]["sd over seeds"].text == "–"


def test_leaky_model_is_marked_and_ranked_last(make_study: MakeStudy) -> None:
    study = make_study(("split.protocol", ("paper", "subject_kfold", "subject_holdout")), leaky=1)
    rows, _ = table_and_figures(study)
    assert rows[-1]["AUC"].number > rows[0]["AUC"].number
    assert "not ranked" in rows[-1]["verdict"].text


def test_models_tested_on_other_images_are_not_paired(make_study: MakeStudy) -> None:
    rows, _ = table_and_figures(make_study(OPTIMIZERS, unpaired=1))
    assert (rows[1]["verdict"].text, rows[1]["difference"].note) == ("tested on other images", "")
