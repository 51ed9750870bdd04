import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from alljax.data.splits import Fold
from alljax.evaluation import baselines
from alljax.evaluation.baselines import best_threshold


def folds(parts: np.ndarray) -> list[Fold]:
    return [Fold(0, part, np.flatnonzero(parts != part), np.flatnonzero(parts == part)) for part in np.unique(parts)]


def images(size: float, count: int = 300, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and areas; each class is larger than the previous one by `size`."""
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.arange(count) % (classes + 1)).clip(max=classes - 1)
    return labels, np.clip(0.3 + size * labels + generator.normal(scale=0.04, size=count), 0, 1)


def evaluate(labels: np.ndarray, areas: np.ndarray, folds: list[Fold]) -> dict:
    subjects = [str(index) for index in range(len(labels))]
    sized = baselines.size_threshold(labels, areas, subjects, folds, int(labels.max()) + 1)
    return baselines.evaluate(labels, sized, folds, 0.95)


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
    assert sized["sides"] == [[1, 0]] * 5
    assert sized["accuracy"] > 0.75
    assert sized["pooled_auc"] == pytest.approx(roc_auc_score(labels, -areas))
    low, high = sized["intervals"]["accuracy"]
    assert low < sized["accuracy"] < high


@pytest.mark.parametrize("sign", [1, -1])
def test_folds_of_opposite_directions_share_one_ranking(sign: int) -> None:
    # Class 1 is the larger one in the first half, the smaller one (by less) in the second, where it is frequent.
    labels = np.array([0] * 8 + [1] * 2 + [0] * 2 + [1] * 8)
    areas = 0.5 + sign * np.where(np.arange(20) < 10, 0.2, -0.1) * (labels - 0.5) + np.linspace(0, 0.01, 20)
    result = evaluate(labels, areas, folds(np.arange(20) // 10))
    assert result["size_threshold"]["pooled_auc"] == pytest.approx(roc_auc_score(labels, sign * areas))


def test_majority_depends_on_training_images_only() -> None:
    labels = np.array([0] * 6 + [1] * 4)
    majority = evaluate(labels, np.linspace(0.1, 1, 10), folds(np.arange(10) // 5))["majority"]
    assert majority["confusion"] == [[1, 5], [4, 0]]
    assert majority["pooled_auc"] == 0.5


def test_size_improvement_of_the_size_threshold_itself_is_zero() -> None:
    labels, areas = images(0.05)
    size = baselines.size_threshold(labels, areas, np.arange(300).astype(str), folds(np.arange(300) % 2), 2).test
    found = baselines.size_improvement(size, size, 0.95)
    assert found["accuracy"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert set(found) == set(baselines.COMPARED)
