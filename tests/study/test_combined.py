"""A study with an orthogonal array, and trials that combine others: files, report, changes, new images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from alljax.config import vary
from alljax.errors import ConfigError
from alljax.evaluation.combination import accuracy_weights, combine
from alljax.evaluation.comparison import signal_to_noise
from alljax.evaluation.intervals import summarize
from alljax.report import ablation
from alljax.report.tables import Table
from alljax.study import results, workdir
from alljax.study.ensemble import open_ensemble
from alljax.study.explain import explain
from alljax.study.run import run_study
from alljax.study.sweep import expand

COMBINE = ("all", "vote", "*=st*"), ("two", "weighted", "*adam*")
OPTIMIZERS = ("train.optimizer", ("adam", "rmsprop"))
SWEEP = ("model.stage", ("stem", "stage1")), OPTIMIZERS, ("train.learning_rate", (1e-3, 1e-2))
Make = Callable[..., ConfigDict]


@pytest.fixture(scope="module")
def config(toy_config: Make) -> ConfigDict:
    more = {"study__design": "L4", "study__combine": COMBINE, "evaluation__inner_folds": 2}
    return toy_config(*SWEEP, study__seeds=2, data__synthetic__subjects=16, **more)


@pytest.fixture(scope="module")
def combined(config: ConfigDict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_study(config, folder := tmp_path_factory.mktemp("combined") / "study")
    return folder


@pytest.mark.parametrize(("name", "rule", "_"), COMBINE)
def test_predictions_are_those_of_the_members_together(combined: Path, name: str, rule: str, _: str) -> None:
    study = results.read_study(combined)
    result, found = study.metrics["trials"][name], study.predictions(name)
    tested = np.stack([study.predictions(member).probabilities for member in result["members"]])
    weights = np.full((2, len(tested)), 1 / len(tested))
    if rule == "weighted":
        inner = [study.inner_predictions(member) for member in result["members"]]
        for fold in range(2):
            rows = np.char.startswith(inner[0].folds, f"0 {fold} ")
            weights[fold] = accuracy_weights(
                inner[0].labels[rows], np.stack([one.probabilities[0, rows] for one in inner])
            )
    np.testing.assert_allclose(result["member_weights"], weights)
    assert result["parameters"] < sum(study.metrics["trials"][member]["parameters"] for member in result["members"])
    for fold in range(2):
        rows = found.folds == f"0 {fold}"
        expected = combine(rule, tested[:, :, rows], weights[fold][:, None])
        np.testing.assert_allclose(found.probabilities[:, rows], expected, atol=1e-7)
    assert result["tuned_on"].startswith("inner folds")


def test_ensemble_combines_the_heads_of_its_members(combined: Path) -> None:
    ensemble = open_ensemble(combined, "two")
    dataset = results.open_records(ensemble.config)
    (block,) = ensemble.predict(dataset)
    found, paths = results.read_study(combined).predictions("two"), [record.path for record in dataset.records]
    own = 2 * (found.folds == "0 1"), [paths.index(path) for path in found.paths]
    np.testing.assert_allclose(block.probabilities[own], found.probabilities[0], atol=1e-5)
    with pytest.raises(ConfigError, match="combines trials; explain one of its members"):
        explain(open_ensemble(combined, "all"), "synthetic")


def test_report_has_main_effects_and_compares_with_the_best_member(combined: Path) -> None:
    study = results.read_study(combined)
    found = {section.anchor: section for section in ablation.sections(study)}
    effects, beside = found["main-effects"].parts[1], found["combined"].parts[0]
    assert isinstance(effects, Table)
    assert isinstance(beside, Table)
    trained = [name for name in study.trials if "members" not in study.metrics["trials"][name]]
    ratios = [signal_to_noise(study.predictions(name).held_out, "auc")[0] for name in trained]
    for row, value in zip(effects.rows[:2], ("stage=stem", "stage=stage1"), strict=True):
        members = [ratio for name, ratio in zip(trained, ratios, strict=True) if value in name]
        assert row[2].number == pytest.approx(np.mean(members))
        assert row[3].number == pytest.approx(np.mean(members) - np.mean(ratios))
        assert row[3].note.startswith("[")
    for name, _, metric, _, best, _, difference in beside.rows:
        new, old = (study.predictions(each.text).held_out for each in (name, best))
        key = "auc" if metric.text == "AUC" else "accuracy"
        assert difference.number == summarize(new, 0.95, [key], minus=old)[key]
        assert difference.note.startswith("[")
    assert len(beside.rows) == 2 * len(COMBINE)


def test_combined_again_when_members_change(combined: Path, config: ConfigDict, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(combined, tmp_path / "study"))
    path, before = (
        workdir.trial_folder(copy, "all") / "metrics.json",
        (combined / "trials/all/metrics.json").read_text(),
    )
    path.write_text(json.dumps(json.loads(before) | {"accuracy": 0}))
    workdir.record(path.parent, [path.name])
    run_study(config, copy)
    assert path.read_text() == before


def test_failed_members_and_other_shards(toy_config: Make, tmp_path: Path) -> None:
    entries = ("all", "mean", "*"), ("ok", "vote", "*0*1")
    rates = toy_config(("train.learning_rate", (1e30, 1e-3, 1e-2)), study__combine=entries)
    assert run_study(rates, tmp_path / "a", shard=(1, 2)) is None
    with pytest.raises(ConfigError, match="1 trial of 5 failed"):
        run_study(rates, tmp_path / "a")
    summary = results.read_study(tmp_path / "a").metrics
    assert summary["failed"]["all"] == "a member has no results"
    assert "ok" in summary["trials"]


@pytest.mark.parametrize(
    ("entry", "sweep", "message"),
    [
        (("x", "vote", "*vgg*"), OPTIMIZERS, "it matches none"),
        (("x", "vote", "*"), ("split.protocol", ("paper", "subject_kfold")), "two or more trials of each split"),
        (("x", "weighted", "*"), ("train.mode", ("frozen", "finetune")), "use the rule mean"),
        (("efficientnet_lite0-adam", "vote", "*"), OPTIMIZERS, "two trials"),
    ],
)
def test_invalid_entries(toy_config: Make, entry: tuple, sweep: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(vary(toy_config(sweep, evaluation__inner_folds=2), {"study.combine": (entry,)}))
