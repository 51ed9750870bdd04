import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from alljax.data.splits import Fold
from alljax.evaluation import baselines
from alljax.evaluation.baselines import best_threshold
from alljax.evaluation.intervals import describe


def folds(parts: np.ndarray) -> list[Fold]:
    return [Fold(0, part, np.flatnonzero(parts != part), np.flatnonzero(parts == part)) for part in np.unique(parts)]


def images(size: float, count: int = 300, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and areas; each class is larger than the previous one by `size`."""
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.arange(count) % (classes + 1)).clip(max=classes - 1)
    return labels, np.clip(0.3 + size * labels + generator.normal(scale=0.04, size=count), 0, 1)


def fit(labels: np.ndarray, areas: np.ndarray | None, folds: list[Fold], colors: np.ndarray | None = None) -> dict:
    subjects = [str(index) for index in range(len(labels))]
    colors = np.zeros((len(labels), 3)) if colors is None else colors
    return baselines.fit(labels, areas, colors, subjects, folds, int(labels.max()) + 1)


def evaluate(labels: np.ndarray, areas: np.ndarray, folds: list[Fold]) -> dict:
    return {name: describe(rule, 0.95) for name, rule in fit(labels, areas, folds).items()}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("size", [0.05, -0.05, 0.0])
def test_no_threshold_is_better_on_training_images(size: float, classes: int) -> None:
    labels, areas = images(size, 120, classes)
    areas = areas.round(2)  # equal areas are on the same side
    threshold, below, above = best_threshold(areas, labels, classes)

    def counts(threshold: float) -> list[np.ndarray]:
        return [np.bincount(labels[side], minlength=classes) for side in (areas <= threshold, areas > threshold)]

    assert sum(map(max, counts(threshold))) == max(sum(map(max, counts(area))) for area in areas)
    expected = [side / max(side.sum(), 1) for side in counts(threshold)]
    assert below == pytest.approx(expected[0])
    assert above == pytest.approx(expected[1] if expected[1].any() else below)


def test_direction_is_learned() -> None:
    labels, areas = images(-0.08)
    result = evaluate(labels, areas, folds(np.arange(300) % 5))
    sized = result["size_threshold"]
    assert sized["accuracy"] > 0.75
    assert sized["pooled_auc"] == pytest.approx(roc_auc_score(labels, -areas))
    low, high = sized["intervals"]["accuracy"]
    assert low < sized["accuracy"] < high


def test_direction_of_a_fold_is_that_of_its_training_images() -> None:
    # Class 1 is the larger one in the first half, the smaller one in the second: always wrong.
    labels = np.array([0] * 8 + [1] * 2 + [0] * 2 + [1] * 8)
    areas = 0.5 + np.where(np.arange(20) < 10, 0.2, -0.1) * (labels - 0.5)
    assert evaluate(labels, areas, folds(np.arange(20) // 10))["size_threshold"]["auc"] == 0


def test_size_and_color_is_a_logistic_regression_per_fold() -> None:
    labels, areas = images(0.02)
    colors = np.random.default_rng(1).normal(size=(300, 3)) + 0.8 * labels[:, None]
    parts = np.arange(300) % 3
    inputs, expected = np.column_stack([areas, colors]), np.zeros(300)
    for part in range(3):
        train = parts != part
        center, scale = inputs[train].mean(0), inputs[train].std(0)
        fitted = LogisticRegression().fit((inputs[train] - center) / scale, labels[train])
        expected[~train] = fitted.predict_proba((inputs[~train] - center) / scale)[:, 1]
    found = fit(labels, areas, folds(parts), colors)["size_and_color"]
    assert found.probabilities[0, :, 1] == pytest.approx(expected[np.argsort(parts, kind="stable")])


def test_no_size_where_the_background_is_not_black() -> None:
    labels, _ = images(0.05)
    rules = fit(labels, None, folds(np.arange(300) % 2))
    assert set(rules) == {"majority", "size_and_color"}


def test_majority_depends_on_training_images_only() -> None:
    labels = np.array([0] * 4 + [1] * 4 + [0] * 2)
    majority = evaluate(labels, np.linspace(0.1, 1, 10), folds(np.arange(10) // 5))["majority"]
    assert majority["confusion"] == [[2, 4], [3, 1]]
    assert majority["pooled_auc"] == 0.5
