import numpy as np
import pytest

from alljax.evaluation.combination import accuracy_weights, combine


@pytest.mark.parametrize("models", [2, 3, 4, 9])
def test_rules_equal_loops(models: int) -> None:
    generator = np.random.default_rng(models)
    probabilities = generator.dirichlet(np.ones(3), (models, 2, 50)).astype(np.float32)
    weights = generator.dirichlet(np.ones(models))
    mean, voted = (combine(rule, probabilities, weights[:, None]) for rule in ("weighted", "vote"))
    assert mean.dtype == voted.dtype == np.float32
    for place in np.ndindex(2, 50):
        of_image = probabilities[:, *place].astype(np.float64)
        expected = sum(weight * one for weight, one in zip(weights, of_image, strict=True))
        np.testing.assert_allclose(mean[place], expected, rtol=1e-6)
        votes = [sum(one.argmax() == label for one in of_image) for label in range(3)]
        np.testing.assert_allclose(voted[place], np.array(votes) / models, atol=1e-7)
        most = [label for label in range(3) if votes[label] == max(votes)]
        assert voted[place].argmax() == max(most, key=lambda label: of_image[:, label].mean())


def test_weights_are_shares_of_the_accuracies() -> None:
    certain = np.eye(2)[np.array([[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]])]
    assert accuracy_weights(np.array([0, 0, 1, 1]), certain) == pytest.approx(np.array([4, 2, 3]) / 9)
