"""Trials whose classifier has no epochs, from the study to the prediction."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
from ml_collections import ConfigDict

from alljax.report.report import write_report
from alljax.study import results
from alljax.study.ensemble import open_ensemble
from alljax.study.run import run_study

Make = Callable[..., ConfigDict]


def predicted_as_stored(folder: Path, config: ConfigDict, trial: str) -> None:
    """Each classifier predicts what the study stored for its held-out images."""
    dataset, opened = results.open_records(config), open_ensemble(folder, trial)
    found = np.concatenate([block.probabilities for block in opened.predict(dataset)], axis=1)
    rows = {record.path: row for row, record in enumerate(dataset.records)}
    table = pandas.read_csv(folder / "trials" / trial / "predictions.csv")
    assert len(table) == len(rows) * config.study.seeds * config.split.repeats
    for number, place in enumerate(opened.heads):
        held_out = table[(table[["repeat", "fold", "seed"]] == np.array(place)).all(axis=1)]
        np.testing.assert_allclose(
            found[number, held_out["path"].map(rows)], held_out[["prob_hem", "prob_all"]], atol=1e-4
        )


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
    page = write_report(tmp_path).read_text()
    assert 'id="training"' not in page
    assert 'id="all-results"' in page
