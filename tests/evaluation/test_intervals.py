import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from alljax.evaluation import intervals
from alljax.evaluation.intervals import (
    Bootstrap,
    HeldOut,
    auc_within_folds,
    confidence_intervals,
    resample,
)
from alljax.evaluation.metrics import METRICS, evaluate


def clustered(generator: np.random.Generator, subjects: tuple[int, ...], seeds: int = 1, decimals: int = 2) -> HeldOut:
    """Images of subjects (per class) that have one class each and a deviation shared by all their images."""
    class_of = np.repeat(np.arange(len(subjects)), subjects)
    owner = np.repeat(np.arange(len(class_of)), 1 + generator.poisson(19, len(class_of)))
    labels, shift = class_of[owner], generator.normal(scale=0.8, size=len(class_of))[owner]
    logits = generator.normal(size=(seeds, len(owner), len(subjects))) / math.sqrt(2)
    logits[:, np.arange(len(owner)), labels] += 1.6 + shift
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return HeldOut(labels, np.round(probabilities, decimals), owner.astype(str))  # rounding makes ties


def drawn_weights(test: HeldOut, resamples: int, seed: int = 0) -> np.ndarray:
    """The weight of each image in each resample, (N, resamples)."""
    units, unit = np.unique(test.subjects, return_inverse=True)
    (weights,) = intervals._weights(test.labels, unit, len(units), Bootstrap(resamples, seed=seed))
    return weights[unit]


@pytest.mark.parametrize(("subjects", "seeds"), [((6, 9), 1), ((6, 9), 3), ((4, 5, 6), 2)])
def test_resamples_equal_the_metrics_of_repeated_images(subjects: tuple[int, ...], seeds: int) -> None:
    test = clustered(np.random.default_rng(seeds), subjects, seeds=seeds)
    (found,) = resample([test], Bootstrap(25, seed=3), [*METRICS, "recall_0", "recall_1"])
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
    (found,) = resample([test], Bootstrap(300), [*METRICS, "recall_0", "recall_1"])
    lost = drawn_weights(test, 300)[8] == 0
    assert 0.2 < lost.mean() < 0.4
    for name in ("recall_1", "macro_recall", "macro_f1", "macro_precision", "auc"):
        assert (np.isnan(found[name]) == lost).all(), name
    for name in ("recall_0", "accuracy", "weighted_f1", "log_loss"):
        assert np.isfinite(found[name]).all(), name
    assert confidence_intervals(test, Bootstrap(300), ["recall_1"]) == {"recall_1": (1.0, 1.0)}
    other = HeldOut(labels, 1 - test.probabilities, test.subjects)
    assert confidence_intervals(test, Bootstrap(), ["recall_1"], minus=other) == {"recall_1": (1.0, 1.0)}


def test_absent_class_counts_as_in_the_metrics() -> None:
    test = HeldOut(np.array([0, 0, 1, 1]), np.tile([0.6, 0.3, 0.1], (1, 4, 1)), np.array(list("abcd")))
    found = confidence_intervals(test, Bootstrap(100), ["macro_recall", "recall_2"])
    assert found == {"macro_recall": pytest.approx((1 / 3, 1 / 3))}
    assert evaluate(test.labels, test.probabilities[0])["macro_recall"] == pytest.approx(1 / 3)


def test_chunk_size_does_not_change_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    test = clustered(np.random.default_rng(5), (5, 5))
    (complete,) = resample([test], Bootstrap(50))
    (other_seed,) = resample([test], Bootstrap(50, seed=1))
    monkeypatch.setattr(intervals, "CHUNK", 7 * len(test.labels))
    (chunked,) = resample([test], Bootstrap(50))
    for name in METRICS:
        np.testing.assert_allclose(chunked[name], complete[name], rtol=1e-12)
    assert not np.array_equal(other_seed["accuracy"], complete["accuracy"])


def test_intervals_over_subjects_have_coverage_and_those_over_images_do_not() -> None:
    truth = 0.5 * math.erfc(-1.6 / math.sqrt(1 + 0.64) / math.sqrt(2))  # P(shift + noise > -1.6)
    generator, rounds = np.random.default_rng(0), 120
    covered = {"subjects": 0, "images": 0}
    for _ in range(rounds):
        test = clustered(generator, (15, 15), decimals=9)
        images = np.arange(len(test.labels)).astype(str)
        for unit, names in (("subjects", test.subjects), ("images", images)):
            drawn = HeldOut(test.labels, test.probabilities, names)
            low, high = confidence_intervals(drawn, Bootstrap(200), ["accuracy"])["accuracy"]
            covered[unit] += low <= truth <= high
    assert covered["subjects"] / rounds > 0.87  # nominal .95, less with few subjects: .91 in 1,000 rounds
    assert covered["images"] / rounds < 0.82  # .62 in 1,000 rounds


def test_paired_difference_is_narrower_and_zero_for_equal_models() -> None:
    generator = np.random.default_rng(2)
    test = clustered(generator, (12, 12), seeds=2)
    assert set(confidence_intervals(test, Bootstrap(100), minus=test).values()) == {(0.0, 0.0)}
    worse = test.probabilities.copy()
    swapped = generator.random(len(test.labels)) < 0.04
    worse[:, swapped] = worse[:, swapped, ::-1]
    low, high = confidence_intervals(test, Bootstrap(400), minus=replace(test, probabilities=worse))["accuracy"]
    own = confidence_intervals(test, Bootstrap(400))["accuracy"]
    assert high - low < own[1] - own[0]


def test_subjects_are_drawn_once_for_several_tests() -> None:
    both = clustered(np.random.default_rng(1), (3, 4), seeds=2)
    rows = np.flatnonzero(~np.isin(both.subjects, ["0", "5"]))  # the second test lacks two subjects
    part = HeldOut(both.labels[rows], both.probabilities[:, rows], both.subjects[rows])
    found = resample([both, part], Bootstrap(15, seed=5), ["accuracy"])
    subjects = np.concatenate([both.subjects, part.subjects])
    pooled = HeldOut(np.concatenate([both.labels, part.labels]), both.probabilities, subjects)
    weights = np.split(drawn_weights(pooled, 15, seed=5), [len(both.labels)])
    for test, result, of_images in zip((both, part), found, weights, strict=True):
        correct = (test.probabilities.argmax(2) == test.labels).mean(0)
        for index in range(15):
            assert result["accuracy"][index] == pytest.approx(np.average(correct, weights=of_images[:, index]))


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_within_folds_is_the_mean_of_folds_weighted_by_pairs(classes: int) -> None:
    generator = np.random.default_rng(4)
    labels, folds = generator.integers(0, classes, 120), generator.integers(0, 3, 120)
    scores = np.round(generator.random((2, 120, classes)), 1)  # with ties
    expected = []
    for of_seed in scores:
        for label in [1] if classes == 2 else range(classes):
            rows = [folds == fold for fold in range(3)]
            pairs = [np.sum(labels[row] == label) * np.sum(labels[row] != label) for row in rows]
            areas = [roc_auc_score(labels[row] == label, of_seed[row, label]) for row in rows]
            expected.append(np.average(areas, weights=pairs))
    assert auc_within_folds(HeldOut(labels, scores, labels, folds)) == pytest.approx(np.mean(expected))


def test_different_scales_of_folds_do_not_lower_the_auc_within_folds() -> None:
    labels, folds = np.tile([0, 1], 20), np.repeat(["1", "2"], 20)
    positive = np.where(folds == "1", 0.1, 0.6) + 0.3 * labels
    test = HeldOut(labels, np.stack([1 - positive, positive], -1)[None], np.arange(40).astype(str), folds)
    assert auc_within_folds(test) == 1.0
    assert auc_within_folds(replace(test, folds=None)) == 0.75
    (found,) = resample([test], Bootstrap(50), ("auc",))
    assert set(found["auc"]) == {1.0}


def test_fold_without_a_class_has_no_auc_within_folds() -> None:
    labels, shares = np.repeat([0, 1], 5), np.full((1, 11, 2), 0.5)
    assert auc_within_folds(HeldOut(labels, shares[:, :10], labels, labels)) is None
    mixed = np.append(labels, 1), np.append(labels, 0)
    assert auc_within_folds(HeldOut(mixed[0], shares, mixed[0], mixed[1])) is None
