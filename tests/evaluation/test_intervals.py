import math
import time

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from alljax.evaluation import intervals
from alljax.evaluation.intervals import bootstrap, difference, resampled
from alljax.evaluation.metrics import METRICS, SMALLEST, evaluate


def clustered(
    generator: np.random.Generator, people: tuple[int, ...], cells: int = 8, runs: int = 1, decimals: int = 2
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Cells of people who each have one class and a deviation that all their cells share."""
    labels, names, logits = [], [], []
    for label, count in enumerate(people):
        for number in range(count):
            size = 1 + generator.poisson(cells - 1)
            shift = generator.normal(scale=0.8)
            own = generator.normal(size=(runs, size, len(people))) / math.sqrt(2)
            own[..., label] += 1.6 + shift
            labels += [label] * size
            names += [f"{label}-{number}"] * size
            logits.append(own)
    stacked = np.concatenate(logits, axis=1)
    probabilities = np.exp(stacked - stacked.max(-1, keepdims=True))
    probabilities = np.round(probabilities / probabilities.sum(-1, keepdims=True), decimals)  # ties
    return np.array(labels), probabilities, names


def slow(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """The metrics of one weighted resample, by scikit-learn and nothing of ours."""
    classes = range(probabilities.shape[1])
    predicted = probabilities.argmax(1)
    options = {"labels": classes, "zero_division": 0, "sample_weight": weights}
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="macro", **options
    )
    chosen = probabilities[np.arange(len(labels)), labels] / probabilities.sum(1)
    areas = [
        sklearn_metrics.roc_auc_score(labels == k, probabilities[:, k], sample_weight=weights)
        for k in ([1] if len(classes) == 2 else classes)
        if weights[labels == k].any() and weights[labels != k].any()
    ]
    return {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted, sample_weight=weights),
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
        "weighted_f1": sklearn_metrics.f1_score(labels, predicted, average="weighted", **options),
        "auc": np.mean(areas) if areas else np.nan,
        "log_loss": np.average(-np.log(np.clip(chosen, SMALLEST, 1)), weights=weights),
        **{f"recall_{k}": np.average(predicted[labels == k] == k, weights=weights[labels == k]) for k in classes},
    }


@pytest.mark.parametrize(("people", "runs"), [((6, 9), 1), ((6, 9), 3), ((4, 5, 6), 2)])
def test_every_resample_equals_a_plain_loop(people: tuple[int, ...], runs: int) -> None:
    labels, probabilities, names = clustered(np.random.default_rng(runs), people, runs=runs)
    wanted_names = [*METRICS, *(f"recall_{label}" for label in range(len(people)))]
    fast = resampled(labels, probabilities, names, names=wanted_names, resamples=25, seed=3)
    owners, person = np.unique(names, return_inverse=True)
    (weights,) = intervals._weights(labels, person, len(owners), 25, 3, 25)
    for resample in range(25):
        each = [slow(labels, one, weights[person, resample]) for one in probabilities]
        for name in wanted_names:
            wanted = np.mean([one[name] for one in each])
            assert fast[name][resample] == pytest.approx(wanted, rel=1e-12), name


def test_a_person_counts_as_often_as_drawn() -> None:
    labels, probabilities, names = clustered(np.random.default_rng(0), (3, 4))
    owners, person = np.unique(names, return_inverse=True)
    (weights,) = intervals._weights(labels, person, len(owners), 500, 0, 500)
    assert (weights[:3].sum(0) == 3).all()  # each class keeps its number of people
    assert (weights[3:].sum(0) == 4).all()
    assert weights.mean(1) == pytest.approx(1, abs=0.15)
    # Drawing a person twice is the same as having their images twice.
    doubled = np.repeat(np.arange(len(labels)), weights[person, 0].astype(int))
    fast = resampled(labels, probabilities, names, resamples=1, seed=0)
    plain = evaluate(labels[doubled], probabilities[0, doubled])
    assert {name: fast[name][0] for name in METRICS} == pytest.approx({name: plain[name] for name in METRICS})


def test_a_resample_that_loses_a_class_says_nothing_of_its_recall() -> None:
    # Four people with one cell of class 1 among them: about a third of the resamples are without it.
    labels, people = np.array([0] * 8 + [1]), list("aabbccddd")
    always_1 = np.tile([0.1, 0.9], (2, 9, 1))
    drawn = resampled(labels, always_1, people, names=[*METRICS, "recall_0", "recall_1"], resamples=300)
    (weights,) = intervals._weights(labels, np.array([0, 0, 1, 1, 2, 2, 3, 3, 3]), 4, 300, 0, 300)
    lost = weights[3] == 0
    assert 0.2 < lost.mean() < 0.4
    for name in ("recall_1", "macro_recall", "macro_f1", "macro_precision", "auc"):
        assert (np.isnan(drawn[name]) == lost).all(), name
    for name in ("recall_0", "accuracy", "weighted_f1", "log_loss"):
        assert np.isfinite(drawn[name]).all(), name
    found = bootstrap(labels, always_1, people, names=["recall_1", "macro_recall"], resamples=300)
    assert found == {"recall_1": (1.0, 1.0), "macro_recall": (0.5, 0.5)}
    assert difference(labels, always_1, 1 - always_1, people, names=["recall_1"]) == {"recall_1": (1.0, 1.0)}


def test_a_class_the_whole_set_lacks_counts_as_in_the_metrics() -> None:
    labels, shares = np.array([0, 0, 1, 1]), np.tile([0.6, 0.3, 0.1], (1, 4, 1))
    found = bootstrap(labels, shares, list("abcd"), names=["macro_recall", "recall_2"], resamples=100)
    assert found == {"macro_recall": pytest.approx((1 / 3, 1 / 3))}
    assert evaluate(labels, shares[0])["macro_recall"] == pytest.approx(1 / 3)


def test_chunks_change_nothing_and_seeds_do(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities, names = clustered(np.random.default_rng(5), (5, 5))
    whole = resampled(labels, probabilities, names, resamples=50)
    other = resampled(labels, probabilities, names, resamples=50, seed=1)
    monkeypatch.setattr(intervals, "CHUNK", 7 * len(labels))
    pieces = resampled(labels, probabilities, names, resamples=50)
    for name in METRICS:
        np.testing.assert_allclose(pieces[name], whole[name], rtol=1e-12)
    assert not np.array_equal(other["accuracy"], whole["accuracy"])


def test_the_order_of_the_images_does_not_matter() -> None:
    labels, probabilities, names = clustered(np.random.default_rng(6), (5, 5))
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = bootstrap(labels[order], probabilities[:, order], [names[index] for index in order], resamples=100)
    for name, interval in bootstrap(labels, probabilities, names, resamples=100).items():
        assert shuffled[name] == pytest.approx(interval)


def test_intervals_over_people_cover_and_those_over_cells_do_not() -> None:
    truth = 0.5 * math.erfc(-1.6 / math.sqrt(1 + 0.64) / math.sqrt(2))  # P(shift + noise > -1.6)
    generator, rounds = np.random.default_rng(0), 120
    covered = {"people": 0, "trials": 0}
    for _ in range(rounds):
        labels, probabilities, names = clustered(generator, (15, 15), decimals=9)
        cells = [str(index) for index in range(len(labels))]
        for unit, drawn in (("people", names), ("trials", cells)):
            options = {"names": ["accuracy"], "resamples": 200}
            values = resampled(labels, probabilities, drawn, **options)["accuracy"]
            low, high = np.quantile(values, [0.025, 0.975])
            covered[unit] += low <= truth <= high
    assert covered["people"] / rounds > 0.87  # nominal .95; few people make it a little less
    assert covered["trials"] / rounds < 0.82


def test_the_difference_of_a_model_to_itself_is_nothing_and_pairing_narrows() -> None:
    generator = np.random.default_rng(2)
    labels, probabilities, names = clustered(generator, (12, 12), runs=2)
    same = difference(labels, probabilities, probabilities, names, resamples=100)
    assert set(same.values()) == {(0.0, 0.0)}
    worse = probabilities.copy()
    swapped = generator.random(len(labels)) < 0.04  # a few cells of this model are called the other class
    worse[:, swapped] = worse[:, swapped, ::-1]
    low, high = difference(labels, probabilities, worse, names, resamples=400)["accuracy"]
    own = bootstrap(labels, probabilities, names, resamples=400)["accuracy"]
    assert high - low < own[1] - own[0]


def test_without_one_class_there_is_no_interval_for_the_auc() -> None:
    found = bootstrap(np.zeros(6, int), np.tile([0.8, 0.2], (1, 6, 1)), list("aabbcc"), resamples=100)
    assert "auc" not in found
    assert found["accuracy"] == (1.0, 1.0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(R, N, C\)"):
        bootstrap(np.array([0, 1]), np.full((2, 2), 0.5), ["a", "b"])
    with pytest.raises(ValueError, match="3 people"):
        bootstrap(np.array([0, 1]), np.full((1, 2, 2), 0.5), ["a", "b", "c"])


def test_the_whole_training_set_takes_seconds() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random(10_661) < 0.68).astype(int)
    share = generator.random((1, 10_661))
    start = time.perf_counter()
    bootstrap(labels, np.stack([1 - share, share], -1), [str(index) for index in range(10_661)])
    assert time.perf_counter() - start < 10  # 0.4 s on two quiet cores
