"""Parts of the images, and pairs of images of cells of similar size."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from alljax.evaluation.combination import ensemble
from alljax.evaluation.intervals import HeldOut
from alljax.evaluation.subgroups import beyond_size, subgroups

Clustered = Callable[..., HeldOut]


def test_metrics_of_parts(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(0), (8, 8), seeds=2)
    site = np.where(test.subjects.astype(int) % 2, "north", "south")
    found = subgroups(test, {"site": site, "class": test.labels.astype(str)}, 0.95)
    assert [part["name"] for part in found["site"]] == ["north", "south"]
    rows, part = site == "south", found["site"][1]
    right = test.probabilities[:, rows].argmax(2) == test.labels[rows]
    assert (part["images"], part["subjects"]) == (rows.sum(), 8)
    assert part["accuracy"] == pytest.approx(right.mean())
    areas = [roc_auc_score(test.labels[rows], of_seed[rows, 1]) for of_seed in test.probabilities]
    assert part["auc"] == pytest.approx(np.mean(areas))
    assert set(part["intervals"]) == {"accuracy", "recall_0", "recall_1", "macro_recall", "auc"}
    assert set(found["class"][1]) == {"name", "images", "subjects", "accuracy", "recall_1", "intervals"}


def test_beyond_size_compares_cells_of_similar_size(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(1), (30, 30), decimals=6)
    areas = np.random.default_rng(2).normal(size=len(test.labels)) + 2 * test.labels
    folds = (test.subjects.astype(int) % 2).astype(str)
    right, pairs = np.zeros(5), np.zeros(5)
    for fold in "01":
        rows = np.flatnonzero(folds == fold)
        for place, part in enumerate(np.array_split(rows[np.argsort(areas[rows])], 5)):
            scores = test.probabilities[0, part, 1]
            both = scores[test.labels[part] == 1][:, None] - scores[test.labels[part] == 0]
            right[place], pairs[place] = (
                right[place] + (both > 0).sum() + (both == 0).sum() / 2,
                pairs[place] + both.size,
            )
    found = beyond_size(replace(test, folds=folds), areas, 0.95)
    assert found is not None
    assert found["auc"] == pytest.approx(
        right.sum() / pairs.sum(), rel=0.01
    )  # quintiles of 5k + r images differ by one
    assert [stratum["auc"] for stratum in found["strata"]] == pytest.approx(right / pairs, rel=0.1)
    assert found["interval"][0] < found["auc"] < found["interval"][1]
    size = replace(test, folds=folds, scores=np.stack([-areas, areas], 1)[None])
    assert roc_auc_score(test.labels, areas) > 0.9
    assert beyond_size(size, areas, 0.95)["auc"] < 0.75
    assert beyond_size(replace(test, folds=test.subjects), areas, 0.95) is None


def test_ensemble_is_the_mean_over_seeds_and_repeats(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(3), (4, 4), seeds=2)
    images = np.arange(len(test.labels)).astype(str)
    joint = ensemble(replace(test, folds=test.subjects), images)
    order = np.argsort(images)
    assert joint.probabilities[0] == pytest.approx(test.probabilities.mean(0)[order])
    assert np.array_equal(joint.folds, test.subjects[order])
    twice = HeldOut(np.tile(test.labels, 2), np.concatenate([test.probabilities, 1 - test.probabilities], 1),
                    np.tile(test.subjects, 2), np.repeat(["0 0", "1 0"], len(images)))  # fmt: skip
    joint = ensemble(twice, np.tile(images, 2))
    assert joint.folds is None
    assert joint.probabilities == pytest.approx(np.full((1, len(images), 2), 0.5))
