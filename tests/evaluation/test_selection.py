"""The nested estimate of the best of several models, against a direct computation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.metrics import roc_auc_score

from alljax.config import check
from alljax.errors import ConfigError
from alljax.report.findings import findings
from alljax.study.assessment import evaluate_study
from alljax.study.results import Predictions
from alljax.study.run import run_study

EPOCHS = "train.epochs", (1, 2, 3, 4)


def auc(found: Predictions, rows: np.ndarray, heads: np.ndarray) -> float:
    """Within heads, over pairs of images, averaged over seeds."""
    areas, pairs = [], []
    for head in np.unique(heads[rows]):
        of_head = rows & (heads == head)
        labels = found.labels[of_head]
        areas.append(np.mean([roc_auc_score(labels, of_seed[of_head, 1]) for of_seed in found.probabilities]))
        pairs.append(labels.sum() * (1 - labels).sum())
    return float(np.average(areas, weights=pairs))


@pytest.mark.parametrize("select", ["other_folds", "nested"])
def test_nested_estimate(toy_config: Callable[..., ConfigDict], tmp_path: Path, select: str) -> None:
    settings = {"study__select": select, "evaluation__inner_folds": 2, "study__seeds": 2, "split__folds": 3}
    run_study(toy_config(EPOCHS, data__synthetic__subjects=24, data__synthetic__images=96, **settings), tmp_path)
    study = evaluate_study(tmp_path)
    tests = {name: study.predictions(name) for name in study.ranking.order}
    any_test = tests[study.ranking.best]
    chosen, pooled = [], any_test.probabilities.copy()
    for fold in ("0 0", "0 1", "0 2"):
        values = {}
        for name, test in tests.items():
            inner = study.inner_predictions(name)
            assert inner is not None
            rows = np.array([head.startswith(fold) for head in inner.folds])
            used = (inner, rows, inner.folds) if select == "nested" else (test, test.folds != fold, test.folds)
            values[name] = auc(*used)
        chosen.append(max(values, key=lambda name: values[name]))
        here = any_test.folds == fold
        pooled[:, here] = tests[chosen[-1]].probabilities[:, here]
    found = study.evaluation["selection"]
    assert found["chosen"] == chosen
    by_choice = Predictions(**{**vars(any_test), "probabilities": pooled})
    expected = auc(by_choice, np.ones(len(pooled[0]), bool), any_test.folds)
    assert (found["nested"], found["metrics"]["auc"]) == pytest.approx((expected, expected))
    low, high = found["interval"]
    assert low < expected < high
    assert found["value"] == study.metrics["trials"][found["best"]]["auc"]
    by = "inner folds" if select == "nested" else "the other folds"
    assert any(f"Selected for each fold on {by}: AUC {expected:.3f} [" in line for line in findings(study))


def test_one_fold_has_no_nested_estimate(toy_config: Callable[..., ConfigDict], tmp_path: Path) -> None:
    run_study(toy_config(EPOCHS, split__protocol="subject_holdout"), tmp_path)
    study = evaluate_study(tmp_path)
    assert study.evaluation["selection"] is None
    assert any("only new images can show by how much" in line for line in findings(study))


def test_nested_selection_needs_inner_folds(toy_config: Callable[..., ConfigDict]) -> None:
    for changes in ({"evaluation__inner_folds": 0}, {"evaluation__inner_folds": 3, "train__mode": "finetune"}):
        with pytest.raises(ConfigError, match="study.select=nested needs heads"):
            check(toy_config(study__select="nested", **changes))
