import numpy as np
import pytest

from alljax.evaluation.combination import RULES, accuracy_weights, combine


def draw(models: int, classes: int = 3) -> np.ndarray:
    return np.random.default_rng(models).dirichlet(np.ones(classes), (models, 2, 50)).astype(np.float32)


@pytest.mark.parametrize("models", [2, 3, 4, 9])
@pytest.mark.parametrize("rule", RULES)
def test_rules_equal_loops(rule: str, models: int) -> None:
    probabilities, weights = draw(models), np.arange(1, models + 1) / np.arange(1, models + 1).sum()
    combined = combine(rule, probabilities, weights[:, None])
    assert combined.dtype == np.float32
    for place in np.ndindex(2, 50):
        of_image = probabilities[:, *place].astype(np.float64)
        if rule != "vote":
            expected = sum(weight * one for weight, one in zip(weights, of_image, strict=True))
            np.testing.assert_allclose(combined[place], expected, rtol=1e-6)
            continue
        votes = [sum(one.argmax() == label for one in of_image) for label in range(3)]
        np.testing.assert_allclose(combined[place], np.array(votes) / models, atol=1e-7)
        most = [label for label in range(3) if votes[label] == max(votes)]
        assert combined[place].argmax() == max(most, key=lambda label: of_image[:, label].mean())


def test_weights_are_shares_of_the_accuracies() -> None:
    certain = np.eye(2)[np.array([[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]])]
    assert accuracy_weights(np.array([0, 0, 1, 1]), certain) == pytest.approx(np.array([4, 2, 3]) / 9)
    assert accuracy_weights(np.array([1, 1, 0, 1]), certain[:1]) == pytest.approx(1), "no image is right"
