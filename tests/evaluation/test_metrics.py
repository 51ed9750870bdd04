import json

import numpy as np
import pytest
from evaluation.conftest import point_estimates
from sklearn import metrics

from alljax.evaluation.intervals import HeldOut, describe_seeds


def test_row_of_the_papers_tables() -> None:
    # A confusion matrix on 1,455 ALL and 678 HEM that gives Table 3's first row, .76 .86 .79 (facts, section 2).
    counts = [376, 302, 48, 1407]
    result = point_estimates(np.repeat([0, 0, 1, 1], counts), np.eye(2)[np.repeat([0, 1, 0, 1], counts)])
    assert result["confusion"] == [[376, 302], [48, 1407]]
    assert [round(result[f"macro_{name}"], 2) for name in ("recall", "precision", "f1")] == [0.76, 0.86, 0.79]
    assert result["accuracy"] == (376 + 1407) / 2133
    first = {"precision": 376 / (376 + 48), "recall": 376 / 678, "f1": 2 * 376 / (678 + 376 + 48), "count": 678}
    assert {name: result["per_class"][0][name] for name in first} == pytest.approx(first)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_agrees_with_scikit_learn(classes: int) -> None:
    generator = np.random.default_rng(classes)
    labels = generator.integers(classes, size=200)
    probabilities = generator.dirichlet(np.ones(classes), size=200)
    probabilities[0] = np.eye(classes)[labels[0] - 1]  # 0 for the true class
    result = point_estimates(labels, probabilities)
    assert result["weighted_f1"] == pytest.approx(metrics.f1_score(labels, probabilities.argmax(1), average="weighted"))
    assert result["log_loss"] == pytest.approx(metrics.log_loss(labels, probabilities))
    brier = metrics.brier_score_loss(labels, probabilities, labels=range(classes), scale_by_half=True)
    assert result["brier"] == pytest.approx(brier)
    shares = np.tile(np.bincount(labels) / 200, (200, 1))
    uninformed = metrics.brier_score_loss(labels, shares, labels=range(classes), scale_by_half=True)
    assert result["brier_scaled"] == pytest.approx(1 - brier / uninformed)
    assert result["mcc"] == pytest.approx(metrics.matthews_corrcoef(labels, probabilities.argmax(1)))
    scores = probabilities[:, 1] if classes == 2 else probabilities
    assert result["auc"] == pytest.approx(metrics.roc_auc_score(labels, scores, multi_class="ovr"))
    weighted = metrics.roc_auc_score(labels, scores, multi_class="ovr", average="weighted")
    assert result["weighted_auc"] == pytest.approx(weighted)
    precisions = metrics.average_precision_score(np.eye(classes)[labels], probabilities, average=None)
    assert [of_class["pr_auc"] for of_class in result["per_class"]] == pytest.approx(precisions)
    assert result["pr_auc"] == pytest.approx(precisions[1] if classes == 2 else precisions.mean())


def test_single_class_has_no_auc_and_no_nan() -> None:
    result = point_estimates(np.zeros(4, int), np.tile([0.7, 0.3], (4, 1)))
    assert result["auc"] is None
    assert result["accuracy"] == 1.0
    zeros = dict.fromkeys(("precision", "recall", "f1", "count"), 0)
    assert result["per_class"][1] == zeros | {"auc": None, "pr_auc": None}
    json.dumps(result, allow_nan=False)


def test_scores_rank_and_probabilities_predict() -> None:
    labels, probabilities = np.array([0, 0, 1, 1]), np.tile([0.4, 0.6], (4, 1))
    scores = np.array([[0, 1], [0, 3], [0, 2], [0, 4]])
    result = point_estimates(labels, probabilities, scores)
    assert result["auc"] == 0.75
    assert point_estimates(labels, probabilities)["auc"] == 0.5
    assert result["confusion"] == [[0, 2], [0, 2]]


def test_means_and_standard_deviation_over_seeds() -> None:
    test = HeldOut(np.array([0, 1]), np.array([[[1, 0], [0, 1]], [[1, 0], [1, 0]]]), np.array(["a", "b"]))
    mean = describe_seeds(test, 0.95, [7, 8])
    assert mean["accuracy"] == 0.75
    assert mean["std"]["accuracy"] == pytest.approx(np.std([1, 0.5], ddof=1))
    assert mean["confusion"] == [[1, 0], [0.5, 0.5]]
    assert [one["seed"] for one in mean["per_seed"]] == mean["seeds"] == [7, 8]
    single = describe_seeds(HeldOut(test.labels, test.probabilities[:1], test.subjects), 0.95, [7])
    assert single["std"]["accuracy"] is None


def test_different_scales_of_folds_do_not_lower_the_auc() -> None:
    labels, folds = np.tile([0, 1], 20), np.repeat(["1", "2"], 20)
    positive = np.where(folds == "1", 0.1, 0.6) + 0.3 * labels
    result = point_estimates(labels, np.stack([1 - positive, positive], -1), folds=folds)
    assert (result["auc"], result["pooled_auc"]) == (1.0, 0.75)


def test_fold_without_a_class_has_no_auc() -> None:
    labels, shares = np.repeat([0, 1], 5), np.full((11, 2), 0.5)
    assert point_estimates(labels, shares[:10], folds=labels)["auc"] is None
    assert point_estimates(np.append(labels, 1), shares, folds=np.append(labels, 0))["auc"] is None
