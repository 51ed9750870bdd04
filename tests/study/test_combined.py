"""Trials that combine others: in the folder of a study, its report, after changes, and for new images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from alljax.config import check, vary
from alljax.errors import ConfigError
from alljax.evaluation.combination import accuracy_weights, combine
from alljax.evaluation.intervals import summarize
from alljax.evaluation.main_effects import signal_to_noise
from alljax.report import ablation
from alljax.report.tables import Figure, Table
from alljax.study import results, workdir
from alljax.study.ensemble import open_ensemble
from alljax.study.explain import explain
from alljax.study.run import run_study
from alljax.study.sweep import expand

COMBINE = ("all", "vote", "*=st*"), ("two", "weighted", "*adam*"), ("average", "mean", "*stage1*")
SWEEP = (
    ("model.stage", ("stem", "stage1")), ("train.optimizer", ("adam", "rmsprop")),
    ("train.learning_rate", (1e-3, 1e-2)),
)  # fmt: skip
Make = Callable[..., ConfigDict]


@pytest.fixture(scope="module")
def config(toy_config: Make) -> ConfigDict:
    more = {"study__design": "L4", "study__combine": COMBINE, "evaluation__inner_folds": 2}
    return toy_config(*SWEEP, study__seeds=2, data__synthetic__subjects=16, **more)


@pytest.fixture(scope="module")
def combined(config: ConfigDict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("combined") / "study"
    run_study(config, folder)
    return folder


def test_predictions_are_those_of_the_members_together(combined: Path) -> None:
    study = results.read_study(combined)
    for name, rule, _ in COMBINE:
        result = study.metrics["trials"][name]
        members = [study.predictions(member) for member in result["members"]]
        weights = np.full((2, len(members)), 1 / len(members))
        if rule == "weighted":
            inner = [study.inner_predictions(member) for member in result["members"]]
            for fold in range(2):
                of_fold = np.char.startswith(inner[0].folds, f"0 {fold} ")
                probabilities = np.stack([one.probabilities[0, of_fold] for one in inner])
                weights[fold] = accuracy_weights(inner[0].labels[of_fold], probabilities)
        np.testing.assert_allclose(result["member_weights"], weights)
        tested, found = np.stack([member.probabilities for member in members]), study.predictions(name)
        by_row = weights[(found.folds == "0 1").astype(int)].T  # (M, N)
        expected = np.stack([combine(rule, tested[:, :, [row]], by_row[:, [row]])[:, 0] for row in range(48)], axis=1)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-7)
        assert len(result["operating_points"]) > 0
        assert result["tuned_on"].startswith("inner folds")


def test_ensemble_combines_the_heads_of_its_members(combined: Path) -> None:
    for name, rule, _ in COMBINE[1:]:
        ensemble = open_ensemble(combined, name)
        dataset = results.open_records(ensemble.config)
        (block,) = ensemble.predict(dataset)
        members = [open_ensemble(combined, member).predict(dataset) for member in ensemble.result["members"]]
        heads = np.stack([np.concatenate([of.probabilities for of in blocks], axis=1) for blocks in members])
        weights = np.repeat(np.array(ensemble.result["member_weights"]).T, 2, axis=1)
        np.testing.assert_array_equal(block.probabilities, combine(rule, heads, weights))
        # Heads score the images of their own fold as in the study.
        found, paths = results.read_study(combined).predictions(name), [record.path for record in dataset.records]
        rows = [paths.index(path) for path in found.paths]
        head = 2 * (found.folds == "0 1")
        np.testing.assert_allclose(block.probabilities[head, rows], found.probabilities[0], atol=1e-5)


def test_report_compares_with_the_best_member(combined: Path) -> None:
    study = results.read_study(combined)
    (section,) = ablation.combined_section(study)
    (table,) = section.parts
    assert isinstance(table, Table)
    for name, rule, _, value, best, _, difference in table.rows:
        tests = [study.predictions(each.text).held_out for each in (name, best)]
        expected = summarize(tests[0], 0.95, ["auc"], minus=tests[1])
        assert difference.number == expected["auc"] == value.number - study.metrics["trials"][best.text]["auc"]
        assert difference.note.startswith("[")
        assert rule.text in ("vote", "mean", "weighted")


def test_report_has_main_effects_of_the_array(combined: Path) -> None:
    study = results.read_study(combined)
    (section,) = [section for section in ablation.sections(study) if section.anchor == "main-effects"]
    figure, table = section.parts
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    trained = [name for name in study.trials if "members" not in study.metrics["trials"][name]]
    assert len(trained) == 4
    ratios = {name: signal_to_noise(study.predictions(name).held_out, "auc")[0] for name in trained}
    for row, value in zip(table.rows[:2], ("stage=stem", "stage=stage1"), strict=True):
        assert row[2].number == pytest.approx(np.mean([ratios[name] for name in trained if value in name]))
        assert row[3].number == pytest.approx(row[2].number - np.mean([*ratios.values()]))
        assert row[3].note.startswith("[")
    assert "--config.model.stage=" in section.paragraphs[0] or "has them" in section.paragraphs[0]


def test_combined_again_when_members_change(combined: Path, config: ConfigDict, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(combined, tmp_path / "study"))
    here, before = workdir.trial_folder(copy, "all"), (combined / "trials/all/metrics.json").read_bytes()
    run_study(config, copy)
    assert (here / "metrics.json").read_bytes() == before
    found = json.loads(before)
    (here / "metrics.json").write_text(json.dumps(found | {"accuracy": 0, "members": {**found["members"], "x": ""}}))
    workdir.record(here, ["metrics.json"])
    run_study(config, copy)
    assert (here / "metrics.json").read_bytes() == before


def test_failed_members_and_other_shards(toy_config: Make, tmp_path: Path) -> None:
    entries = ("all", "mean", "*"), ("ok", "vote", "*0*1")
    rates = toy_config(("train.learning_rate", (1e30, 1e-3, 1e-2)), study__combine=entries)
    assert run_study(rates, tmp_path / "a", shard=(1, 2)) is None
    assert not (tmp_path / "a/trials/ok/metrics.json").exists()
    with pytest.raises(ConfigError, match="1 trial of 5 failed"):
        run_study(rates, tmp_path / "a")
    summary = results.read_study(tmp_path / "a").metrics
    assert "its member" in summary["failed"]["all"]
    assert "ok" in summary["trials"]


@pytest.mark.parametrize(
    ("entry", "sweep", "message"),
    [
        (("x", "vote", "*vgg*"), SWEEP[1], "at least two trials"),
        (("x", "vote", "*"), ("split.protocol", ("paper", "subject_kfold")), "only .* of its split"),
        (("x", "weighted", "*"), ("train.mode", ("frozen", "finetune")), "finetune.* has none; use the rule mean"),
        (("efficientnet_lite0-adam", "vote", "*"), SWEEP[1], "two trials"),
        (("x", "median", "*"), SWEEP[1], "rule 'median' is not one of"),
    ],
)
def test_invalid_entries(toy_config: Make, entry: tuple, sweep: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(check(vary(toy_config(sweep, evaluation__inner_folds=2), {"study.combine": (entry,)})))


def test_explain_asks_for_a_member(combined: Path) -> None:
    with pytest.raises(ConfigError, match="combines trials; explain one of its members"):
        explain(combined, "all", "", [Path("synthetic")])
