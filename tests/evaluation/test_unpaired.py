import numpy as np
import pytest
from alljax.evaluation.unpaired import HeldOut
from sklearn.metrics import roc_auc_score

from alljax.evaluation import intervals, unpaired
from alljax.evaluation.intervals import auc_within_folds
from alljax.evaluation.metrics import METRICS, evaluate

PEOPLE = np.array(["H1", "H1", "H2", "1", "1", "2", "3", "3"])
LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 1])


def held_out(rows: list[int], seed: int = 0, seeds: int = 2) -> HeldOut:
    chance = np.random.default_rng(seed).random((seeds, len(LABELS), 1))
    return HeldOut(LABELS[rows], np.concatenate([chance, 1 - chance], -1)[:, rows], PEOPLE[rows])


def test_one_test_is_resampled_as_by_the_plain_bootstrap() -> None:
    one = held_out(list(range(8)))
    (found,) = unpaired.resampled([one], resamples=300, seed=3)
    names = list(METRICS)
    wanted = intervals.resampled(one.labels, one.probabilities, PEOPLE.tolist(), names=names, resamples=300, seed=3)
    for name in names:
        np.testing.assert_array_equal(found[name], wanted[name])


def test_a_difference_of_a_test_with_itself_is_nought_in_every_draw() -> None:
    one = held_out([0, 2, 3, 5, 7])
    first, second = unpaired.resampled([one, one], resamples=100, seed=1)
    for name in METRICS:
        np.testing.assert_array_equal(first[name], second[name])


def test_people_are_drawn_once_for_both_and_who_is_missing_adds_nothing() -> None:
    # By hand: draw the five people as the plain bootstrap of both tests' images does, count images, evaluate copies.
    whole, part = held_out(list(range(8))), held_out([0, 1, 3, 4, 5], seed=9)  # nobody saw H2 and 3 in the second
    first, second = unpaired.resampled([whole, part], names=("accuracy", "auc", "macro_f1"), resamples=15, seed=5)
    owners, person = np.unique(np.concatenate([whole.people, part.people]), return_inverse=True)
    labels = np.concatenate([whole.labels, part.labels])
    weights = next(iter(intervals._weights(labels, person, len(owners), 15, 5, 15)))
    compared = 0
    for draw in range(15):
        times = dict(zip(owners, weights[:, draw].astype(int), strict=True))
        for test, drawn in ((whole, first), (part, second)):
            rows = [row for row, who in enumerate(test.people) for _ in range(times[who])]
            if len(set(test.labels[rows].tolist())) < 2:
                assert np.isnan(drawn["macro_f1"][draw])
                continue
            each = [evaluate(test.labels[rows], one[rows]) for one in test.probabilities]
            for name in ("accuracy", "auc", "macro_f1"):
                assert drawn[name][draw] == pytest.approx(np.mean([one[name] for one in each]))
            compared += 1
    assert compared > 15


def test_the_auc_within_folds_is_the_mean_of_theirs_by_pairs() -> None:
    generator = np.random.default_rng(4)
    labels, folds = generator.integers(0, 2, 90), np.array(["a", "b", "c"])[generator.integers(0, 3, 90)]
    positive = np.round(generator.random((2, 90)), 1)  # with ties
    test = HeldOut(labels, np.stack([1 - positive, positive], -1), np.arange(90).astype(str), folds)
    wanted = []
    for seed in positive:
        rows = [folds == one for one in "abc"]
        pairs = [np.sum(labels[row] == 1) * np.sum(labels[row] == 0) for row in rows]
        wanted.append(np.average([roc_auc_score(labels[row], seed[row]) for row in rows], weights=pairs))
    assert auc_within_folds(labels, test.probabilities, folds) == pytest.approx(np.mean(wanted))
    whole = np.mean([roc_auc_score(labels, seed) for seed in positive])
    assert auc_within_folds(labels, test.probabilities, None) == pytest.approx(whole)


def test_of_three_classes_each_is_ranked_within_folds() -> None:
    generator = np.random.default_rng(5)
    labels, folds = generator.integers(0, 3, 120), generator.integers(0, 2, 120)
    scores = generator.random((1, 120, 3))
    areas = []
    for label in range(3):
        pairs = [np.sum(labels[folds == one] == label) * np.sum(labels[folds == one] != label) for one in (0, 1)]
        each = [roc_auc_score(labels[folds == one] == label, scores[0, folds == one, label]) for one in (0, 1)]
        areas.append(np.average(each, weights=pairs))
    assert auc_within_folds(labels, scores, folds) == pytest.approx(np.mean(areas))


def test_heads_of_two_scales_lose_nothing_within_folds() -> None:
    labels, folds = np.tile([0, 1], 20), np.repeat(["1", "2"], 20)
    positive = np.where(folds == "1", 0.1, 0.6) + 0.3 * labels  # each fold in order, the second above the first
    people = np.arange(40).astype(str)
    test = HeldOut(labels, np.stack([1 - positive, positive], -1)[None], people, folds)
    assert auc_within_folds(labels, test.probabilities, folds) == 1.0
    assert auc_within_folds(labels, test.probabilities, None) == 0.75
    (drawn,) = unpaired.resampled([test], names=("auc",), resamples=50)
    assert set(drawn["auc"]) == {1.0}


def test_folds_of_one_class_have_no_auc() -> None:
    labels = np.repeat([0, 1], 5)
    test = HeldOut(labels, np.full((1, 10, 2), 0.5), np.arange(10).astype(str), labels.astype(str))
    assert auc_within_folds(labels, test.probabilities, labels) is None
    # One person with a stray label must not speak for all.
    assert auc_within_folds(np.append(labels, 1), np.full((1, 11, 2), 0.5), np.append(labels, 0)) is None
    (drawn,) = unpaired.resampled([test], names=("auc",), resamples=5)
    assert unpaired.interval(drawn["auc"]) is None


def test_an_interval_leaves_out_what_is_undefined() -> None:
    draws = np.append(np.linspace(0, 1, 101), np.nan)
    assert unpaired.interval(draws, 0.9) == pytest.approx((0.05, 0.95))
    assert unpaired.interval(np.array([np.nan])) is None
