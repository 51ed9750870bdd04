from collections.abc import Callable

import numpy as np
import pytest

from alljax.evaluation import bootstrap
from alljax.evaluation.bootstrap import Bootstrap, resample
from alljax.evaluation.intervals import HeldOut
from alljax.evaluation.metrics import METRICS as ALL
from alljax.evaluation.metrics import evaluate

METRICS = [name for name in ALL if name != "pr_auc"]

Clustered = Callable[..., HeldOut]


def drawn_weights(test: HeldOut, resamples: int, seed: int = 0) -> np.ndarray:
    """The weight of each image in each resample, (N, resamples)."""
    units, unit = np.unique(test.subjects, return_inverse=True)
    (weights,) = bootstrap._weights(test.labels, unit, len(units), Bootstrap(resamples, seed=seed))
    return weights[unit]


@pytest.mark.parametrize(("subjects", "seeds"), [((6, 9), 1), ((6, 9), 3), ((4, 5, 6), 2)])
def test_resamples_equal_the_metrics_of_repeated_images(
    clustered: Clustered, subjects: tuple[int, ...], seeds: int
) -> None:
    test = clustered(np.random.default_rng(seeds), subjects, seeds=seeds)
    found = {name: resample(test, Bootstrap(25, seed=3), name) for name in (*METRICS, "recall_0", "recall_1")}
    for index, weights in enumerate(drawn_weights(test, 25, seed=3).T):
        rows = np.repeat(np.arange(len(test.labels)), weights.astype(int))
        per_seed = [evaluate(test.labels[rows], of_seed[rows]) for of_seed in test.probabilities]
        for name in METRICS:
            expected = np.mean([one[name] for one in per_seed])
            assert found[name][index] == pytest.approx(expected, rel=1e-12), name
        for label in (0, 1):
            expected = np.mean([one["per_class"][label]["recall"] for one in per_seed])
            assert found[f"recall_{label}"][index] == pytest.approx(expected, rel=1e-12)


def test_lost_class_makes_its_metrics_undefined() -> None:
    # Four subjects, one of them with the only image of class 1: about a third of the resamples lose it.
    labels = np.array([0] * 8 + [1])
    test = HeldOut(labels, np.tile([0.1, 0.9], (2, 9, 1)), np.array(list("aabbccddd")))
    found = {name: resample(test, Bootstrap(300), name) for name in (*METRICS, "recall_0", "recall_1")}
    lost = drawn_weights(test, 300)[8] == 0
    assert 0.2 < lost.mean() < 0.4
    for name in ("recall_1", "macro_recall", "macro_f1", "macro_precision", "auc"):
        assert (np.isnan(found[name]) == lost).all(), name
    for name in ("recall_0", "accuracy", "weighted_f1", "log_loss"):
        assert np.isfinite(found[name]).all(), name


def test_chunk_size_does_not_change_resamples(clustered: Clustered, monkeypatch: pytest.MonkeyPatch) -> None:
    test = clustered(np.random.default_rng(5), (5, 5))
    complete = {name: resample(test, Bootstrap(50), name) for name in METRICS}
    other_seed = resample(test, Bootstrap(50, seed=1), "accuracy")
    monkeypatch.setattr(bootstrap, "CHUNK", 7 * len(test.labels))
    for name in METRICS:
        np.testing.assert_allclose(resample(test, Bootstrap(50), name), complete[name], rtol=1e-12)
    assert not np.array_equal(other_seed, complete["accuracy"])


def test_different_scales_of_folds_do_not_lower_the_auc() -> None:
    labels, folds = np.tile([0, 1], 20), np.repeat(["1", "2"], 20)
    positive = np.where(folds == "1", 0.1, 0.6) + 0.3 * labels
    test = HeldOut(labels, np.stack([1 - positive, positive], -1)[None], np.arange(40).astype(str), folds)
    assert set(resample(test, Bootstrap(50), "auc")) == {1.0}
