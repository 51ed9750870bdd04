"""Pipelines of features, selection and classifier, from the study to the prediction."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from study.conftest import predicted_as_stored

from alljax.errors import ConfigError
from alljax.report import findings
from alljax.report.report import write_report
from alljax.study import explain, results, sweep
from alljax.study.ensemble import open_ensemble
from alljax.study.experiment import Experiment, open_experiment
from alljax.study.run import run_study
from alljax.study.trials import train_job

Make = Callable[..., ConfigDict]


def test_estimators_have_no_epochs(toy_config: Make, tmp_path: Path) -> None:
    names = ("logistic", "svm", "random_forest")
    sizes = {"evaluation__inner_folds": 2, "study__seeds": 2, "features__batch_size": 10}
    config = toy_config(("classifier.name", names), **sizes)
    study = run_study(config, tmp_path)
    assert study is not None
    assert sorted(study.trials) == sorted(f"efficientnet_lite0-{name}" for name in names)
    for trial in study.trials:
        assert not len(study.history(trial))
        assert study.metrics["trials"][trial]["tuned_on"].startswith("inner folds")
        predicted_as_stored(tmp_path, config, trial)


def test_what_is_fitted_does_not_depend_on_test_rows(
    toy_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other features in the test rows everything is bit-identical, inner folds, too."""
    steps = ("standardize", "anova"), ("correlation",), ("pca",), ("random",), ("salp_swarm",)
    rows = *((select, "logistic") for select in steps), (("anova",), "mlp"), ((), "mlp")
    config = toy_config(
        (("features.select", "classifier.name"), rows), split__protocol="subject_holdout", features__keep=5,
        evaluation__inner_folds=2, features__iterations=3, features__salps=3, data__synthetic__subjects=24,
    )  # fmt: skip
    trials = sweep.expand(config)
    experiment = open_experiment(config, trials)
    (fold,) = experiment.folds(trials[0])
    clean = np.array(experiment.extractor.load(*experiment.sources[trials[0].name]))
    changed = clean.copy()
    changed[fold.test] = 1e3
    fitted = []
    for features in (clean, changed):
        monkeypatch.setattr(Experiment, "features", lambda self, trial, features=features: features)
        found = [outcome for job in sweep.jobs(trials) for _, outcome in train_job(job, experiment, tmp_path)]
        fitted.append([
            (run.params, run.selection and dict(run.selection.arrays), [one.estimator.coef_ for one in run.estimators])
            for outcome in found for run in outcome.folds
        ] + [outcome.inner for outcome in found])  # fmt: skip
    assert len(jax.tree.leaves(fitted[0])) > 30
    jax.tree.map(np.testing.assert_array_equal, *fitted)


def test_texture_and_selected_features_of_a_backbone(toy_config: Make, tmp_path: Path) -> None:
    """Trained, reported, predicted and explained, without weights where there is no backbone."""
    settings = "features.extractor", "features.select", "classifier.name"
    rows = (
        (("texture",), ("standardize", "pca"), "svm"),
        (("dct",), (), "mlp"),
        (("backbone", "texture"), ("anova",), "mlp"),
    )  # fmt: skip
    config = toy_config((settings, rows), evaluation__inner_folds=2, features__keep=20, study__seeds=2)
    study = run_study(config, tmp_path)
    assert study is not None
    texture, dct, both = study.trials
    assert (texture.split("-")[:2], dct.split("-")[0]) == (["texture", "svm"], "dct")
    assert both.startswith("efficientnet_lite0+texture-adam")
    assert study.metrics["trials"][texture]["weights"] is study.metrics["trials"][dct]["weights"] is None
    assert results.find_unchanged(config, tmp_path)
    for trial in study.trials:
        predicted_as_stored(tmp_path, config, trial)
    assert write_report(tmp_path).is_file()
    dataset = results.open_records(config)
    (tmp_path / "cell.bmp").write_bytes(dataset.read(dataset.records[0]))
    found = explain.explain(open_ensemble(tmp_path, texture), [tmp_path / "cell.bmp"])
    assert {*found.images[0].maps} == {"occlusion"}
    assert found.images[0].maps["occlusion"].max() > 0
    assert any("occlusion only" in line for line in found.findings)


def test_a_selection_with_the_tested_images_is_a_leak(toy_config: Make, tmp_path: Path, messages: list[str]) -> None:
    scopes = ("features.select_scope", ("train", "all"))
    config = toy_config(scopes, features__select=("anova",), features__keep=5, classifier__name="logistic")
    study = run_study(config, tmp_path)
    assert study is not None
    (leaky,) = study.ranking.marks
    assert "select_scope=all" in leaky
    assert any("fitted to the test images, too" in line for line in messages)
    assert any("fitted to the held-out images, too" in line for line in findings.warnings(study))


@pytest.mark.parametrize(("folds", "subjects"), [(0, 12), (2, 6)])
def test_no_inner_folds_no_probabilities(folds: int, subjects: int, toy_config: Make) -> None:
    config = toy_config(classifier__name="svm", evaluation__inner_folds=folds, data__synthetic__subjects=subjects)
    with pytest.raises(ConfigError, match="svm has no probabilities without inner folds"):
        open_experiment(config, sweep.expand(config))
