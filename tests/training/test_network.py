"""The compiler computes what NumPy computes, at the row counts at which jaxlib 0.10.2 does not."""

import tomllib
from pathlib import Path

import jaxlib
import numpy as np
import pytest
from evaluation.conftest import point_estimates
from packaging.requirements import Requirement
from scipy.special import softmax

from alljax.config import default_config
from alljax.errors import ConfigError
from alljax.evaluation.intervals import HeldOut, summarize
from alljax.training import network
from alljax.training.head_training import HeadTrainer


def test_installed_version_is_allowed_and_the_wrong_one_excluded() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    jax = next(each for each in map(Requirement, project["dependencies"]) if each.name == "jax")
    assert jax.specifier.contains(jaxlib.__version__)
    assert not jax.specifier.contains("0.10.2")


def test_wrong_compiler_is_refused_and_success_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(network.jnp, "sum", lambda values: 0.0 * values[0])
        with pytest.raises(ConfigError, match=r"wrong numbers on this cpu: .* rows differ"):
            network.check_compiler()
    assert not list(tmp_path.iterdir())
    network.check_compiler()
    assert len(list(tmp_path.glob("self-checks/jaxlib-*-cpu"))) == 1


@pytest.mark.parametrize("rows", network.ROWS)
def test_prediction_evaluation_and_steps_equal_numpy(rows: int) -> None:
    """Every compiled function whose shape depends on the number of images, at row counts around powers of two."""
    config = default_config()
    config.model.hidden = 8
    random = np.random.default_rng(rows)
    features, labels = random.standard_normal((rows, 3), np.float32), random.integers(0, 2, rows)
    first, second = random.standard_normal((1, 3, 8), np.float32), random.standard_normal((1, 8, 2), np.float32)
    head = {"dense/kernel": first, "dense/bias": np.zeros((1, 8), np.float32),
            "predictions/kernel": second, "predictions/bias": np.zeros((1, 2), np.float32)}  # fmt: skip
    expected = softmax(np.maximum(features @ first[0], 0) @ second[0], axis=1)
    correct = (expected.argmax(1) == labels).mean()
    totals, probabilities = HeadTrainer(config, 2, 3).evaluate(head, features, labels, np.arange(rows))
    np.testing.assert_allclose(probabilities[0], expected, atol=1e-5)
    loss, accuracy = totals.means
    assert loss[0] == pytest.approx(-np.log(expected)[np.arange(rows), labels].mean(), rel=1e-4)
    assert accuracy[0] == point_estimates(labels, probabilities[0])["accuracy"] == pytest.approx(correct, abs=1e-4)
    test = HeldOut(labels, probabilities, random.integers(0, 50, rows).astype(str))
    low, high = summarize(test, 0.95, ["accuracy"])["intervals"]["accuracy"]
    assert low < correct < high
