from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from alljax.evaluation import baselines, metrics
from alljax.evaluation.baselines import best_threshold


@dataclass(frozen=True)
class Halves:
    train: np.ndarray
    test: np.ndarray


def folds(count: int, images: int) -> list[Halves]:
    part = np.arange(images) % count
    return [Halves(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(count)]


def cells(size: float, images: int = 300, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels and areas; each class is larger than the one before by `size`."""
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.arange(images) % (classes + 1)).clip(max=classes - 1)
    return labels, np.clip(0.3 + size * labels + generator.normal(scale=0.04, size=images), 0, 1)


def right(areas: np.ndarray, labels: np.ndarray, threshold: float, sides: tuple[int, int]) -> int:
    return int((np.where(areas > threshold, sides[1], sides[0]) == labels).sum())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("size", [0.05, -0.05, 0.0])
def test_no_threshold_is_better_in_training(size: float, classes: int) -> None:
    labels, areas = cells(size, 120, classes)
    areas = areas.round(2)  # equal areas must fall on one side together
    threshold, below, above = best_threshold(areas, labels, classes)
    found = right(areas, labels, threshold, (below.argmax(), above.argmax()))
    everything = [
        right(areas, labels, candidate, (low, high))
        for candidate in np.append(np.unique(areas), 0)
        for low in range(classes)
        for high in range(classes)
    ]
    assert found == max(everything)
    assert below.sum() == pytest.approx(1)
    assert above.sum() == pytest.approx(1)


def test_the_threshold_is_the_stump_of_scikit_learn_where_that_maximises_accuracy() -> None:
    areas, labels = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8]), np.array([0, 0, 0, 1, 1, 1])
    threshold, below, above = best_threshold(areas, labels, 2)
    stump = DecisionTreeClassifier(max_depth=1).fit(areas[:, None], labels)
    assert threshold == pytest.approx(stump.tree_.threshold[0])
    assert below.tolist() == [1, 0]
    assert above.tolist() == [0, 1]


def test_the_direction_is_learned() -> None:
    labels, areas = cells(-0.08)
    result = baselines.evaluate(
        labels, areas, folds(5, 300), [str(index) for index in range(300)], classes=2, resamples=100
    )
    sized = result["size_threshold"]
    assert sized["sides"] == [[1, 0]] * 5
    assert sized["accuracy"] > 0.75
    assert sized["auc"] == pytest.approx(roc_auc_score(labels, -areas))
    low, high = sized["intervals"]["accuracy"]
    assert low < sized["accuracy"] < high


@pytest.mark.parametrize("sign", [1, -1])
def test_folds_that_disagree_which_class_is_larger_are_not_ranked_against_each_other(sign: int) -> None:
    # Class 1 is the larger one in the first half, the smaller one (by less) in the second, where it is frequent.
    labels = np.array([0] * 8 + [1] * 2 + [0] * 2 + [1] * 8)
    areas = 0.5 + sign * np.where(np.arange(20) < 10, 0.2, -0.1) * (labels - 0.5) + np.linspace(0, 0.01, 20)
    first, second = np.arange(10), np.arange(10, 20)
    result = baselines.evaluate(
        labels, areas, [Halves(second, first), Halves(first, second)], [str(index) for index in range(20)],
        classes=2, resamples=100,
    )  # fmt: skip
    assert result["size_threshold"]["auc"] == pytest.approx(roc_auc_score(labels, sign * areas))


def test_where_size_says_nothing_it_is_the_majority() -> None:
    labels = np.array([0, 1, 1] * 40)
    result = baselines.evaluate(
        labels, np.ones(120), folds(4, 120), [str(i) for i in range(120)], classes=2, resamples=100
    )
    assert result["size_threshold"]["accuracy"] == result["majority"]["accuracy"] == 80 / 120
    assert result["size_threshold"]["auc"] == 0.5


def test_majority_knows_only_its_training_half() -> None:
    labels = np.array([0] * 6 + [1] * 4)
    split = [Halves(np.arange(5, 10), np.arange(5)), Halves(np.arange(5), np.arange(5, 10))]
    areas, people = np.linspace(0.1, 1, 10), list("abcdefghij")
    majority = baselines.evaluate(labels, areas, split, people, classes=2, resamples=100)["majority"]
    assert majority["confusion"] == [[1, 5], [4, 0]]
    assert majority["auc"] == 0.5


def test_scored_on_test_images_only_and_shaped_like_a_model() -> None:
    labels, areas = cells(0.08)
    split = [Halves(np.arange(200), np.arange(200, 300))]
    result = baselines.evaluate(labels, areas, split, [str(i) for i in range(300)], classes=2, resamples=100)
    model = metrics.evaluate(labels[200:], np.tile([0.4, 0.6], (100, 1)))
    for rule in result.values():
        assert model.keys() <= rule.keys()
        assert np.sum(rule["confusion"]) == 100
        assert set(rule["intervals"]) <= model.keys()
    threshold, sides = result["size_threshold"]["thresholds"][0], result["size_threshold"]["sides"][0]
    found = right(areas[200:], labels[200:], threshold, sides)
    assert result["size_threshold"]["accuracy"] == found / 100


def test_three_classes_and_a_person_in_several_splits() -> None:
    labels, areas = cells(0.1, classes=3)
    split = folds(3, 300) + folds(5, 300)
    result = baselines.evaluate(
        labels, areas, split, [f"p{index % 30}" for index in range(300)], classes=3, resamples=100
    )
    sized = result["size_threshold"]
    assert np.sum(sized["confusion"]) == 600
    assert len(sized["confusion"]) == 3
    assert sized["accuracy"] > result["majority"]["accuracy"]
    assert sized["auc"] > 0.6
