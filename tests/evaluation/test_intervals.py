import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from evaluation.conftest import point_estimates
from scipy import stats
from sklearn import metrics

from alljax.evaluation.combination import by_subject
from alljax.evaluation.intervals import HeldOut, Jackknife, summarize
from alljax.evaluation.subgroups import spread

Clustered = Callable[..., HeldOut]


def two_classes(labels: str, subjects: str, predicted: str) -> HeldOut:
    """One image per character; a score of 0.75 for the predicted class."""
    classes = np.array([*predicted], int)
    probabilities = 0.25 + 0.5 * np.eye(2)[classes]
    return HeldOut(np.array([*labels], int), probabilities[None], np.array([*subjects]))


def reference(test: HeldOut, rows: np.ndarray) -> dict[str, float]:
    """The metrics of some images by scikit-learn; weights give each class its share among all images."""
    share = np.bincount(test.labels) / np.maximum(np.bincount(test.labels[rows], minlength=test.labels.max() + 1), 1)
    labels, weights, found = test.labels[rows], share[test.labels[rows]], []
    for probabilities in test.probabilities[:, rows]:
        predicted, columns = probabilities.argmax(1), range(probabilities.shape[1])
        precision, recall, f1, true = metrics.precision_recall_fscore_support(
            labels, predicted, labels=columns, sample_weight=weights, zero_division=0
        )
        areas, precisions = [], []
        for label in columns:
            folds = [part for part in map(np.flatnonzero, (test.folds[rows] == fold for fold in set(test.folds)))
                     if len(set(labels[part] == label)) == 2]  # fmt: skip
            pairs = [np.sum(labels[part] == label) * np.sum(labels[part] != label) for part in folds]
            of_folds = [metrics.roc_auc_score(labels[part] == label, probabilities[part, label]) for part in folds]
            areas.append(np.average(of_folds, weights=pairs))
            folds = [part for part in map(np.flatnonzero, (test.folds[rows] == fold for fold in set(test.folds)))
                     if np.any(labels[part] == label)]  # fmt: skip
            images = [np.sum(labels[part] == label) for part in folds]
            of_folds = [metrics.average_precision_score(labels[part] == label, probabilities[part, label],
                                                        sample_weight=weights[part]) for part in folds]  # fmt: skip
            precisions.append(np.average(of_folds, weights=images))
        ranked = [1] if len(columns) == 2 else [*columns]
        classes, scaled = np.eye(len(columns))[labels], probabilities / probabilities.sum(1, keepdims=True)
        brier, uninformed = (np.average(np.square(classes - shares).sum(1) / 2, weights=weights)
                             for shares in (scaled, np.average(classes, axis=0, weights=weights)))  # fmt: skip
        found.append({
            "accuracy": metrics.accuracy_score(labels, predicted, sample_weight=weights),
            "macro_precision": precision.mean(),
            "macro_recall": recall.mean(),
            "macro_f1": f1.mean(),
            **{f"weighted_{name}": np.average(values, weights=true)
               for name, values in (("precision", precision), ("recall", recall), ("f1", f1), ("auc", areas),
                                    ("pr_auc", precisions))},
            "macro_auc": np.mean(areas),
            "macro_pr_auc": np.mean(precisions),
            "brier": brier,
            "brier_scaled": 1 - brier / uninformed,
            "pr_auc": np.mean([precisions[label] for label in ranked]),
            "mcc": metrics.matthews_corrcoef(labels, predicted, sample_weight=weights),
            "auc": np.mean([areas[label] for label in ranked]),
            "log_loss": np.average(-np.log(probabilities[np.arange(len(labels)), labels] / probabilities.sum(1)),
                                   weights=weights),
            **{f"{name}_{label}": of_class
               for name, values in (("precision", precision), ("recall", recall), ("f1", f1), ("auc", areas),
                                    ("pr_auc", precisions)) for label, of_class in enumerate(values)},
        })  # fmt: skip
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@pytest.mark.parametrize("mixed", [False, True], ids=["one class per subject", "several"])
@pytest.mark.parametrize(("subjects", "seeds"), [((7, 9), 1), ((5, 6, 7), 2)])
def test_values_without_each_subject_are_those_of_a_loop(
    clustered: Clustered, subjects: tuple[int, ...], seeds: int, mixed: bool
) -> None:
    test = clustered(np.random.default_rng(seeds), subjects, seeds=seeds)
    owner = test.subjects.astype(int)
    # The first subject of each class is alone with its class in fold 2.
    folds = np.where(np.isin(owner, np.cumsum((0, *subjects[:-1]))), "2", (owner % 2).astype(str))
    names = np.where(owner % 4 == 3, "3", test.subjects) if mixed else test.subjects
    test = replace(test, folds=folds, subjects=names)
    jackknife = Jackknife.of(test)
    found = jackknife.values(test, test.metric_names)
    complete = reference(test, np.arange(len(names)))
    without = [reference(test, np.flatnonzero(names != unit)) for unit in jackknife.units]
    assert set(complete) == set(found)
    for name, values in found.items():
        known = 1 if "pr_auc" in name else None  # the average precision has no interval
        assert values[:known] == pytest.approx([complete[name], *(one[name] for one in without)][:known]), name


def test_interval_is_the_stated_formula(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(3), (5, 8))
    found = summarize(test, 0.9)["intervals"]
    sizes = np.unique(test.subjects, return_counts=True)[1]
    one_class = test.subjects.astype(int)[np.unique(test.subjects, return_index=True)[1]] < 5
    for name, value in reference(replace(test, folds=np.zeros(len(test.labels))), np.arange(len(test.labels))).items():
        values = Jackknife.of(test).values(test, [name])[name][1:]
        if "pr_auc" in name:
            continue
        parts = []
        for members in (one_class, ~one_class):
            count, kish = members.sum(), sizes[members].sum() ** 2 / np.sum(sizes[members] ** 2)
            parts.append((np.sum((values[members] - values[members].mean()) ** 2) * (count - 1) / count, kish - 1))
        variance = sum(part for part, _ in parts)
        reach = stats.t.ppf(0.95, variance**2 / sum(part**2 / df for part, df in parts)) * math.sqrt(variance)
        if name == "mcc":
            expected = np.tanh(np.arctanh(value) + np.array([-1, 1]) * reach / (1 - value**2))
        elif name in ("log_loss", "brier_scaled"):
            expected = value + np.array([-1, 1]) * reach
        else:
            odds = math.log(value / (1 - value)) + np.array([-1, 1]) * reach / (value * (1 - value))
            expected = 1 / (1 + np.exp(-odds))
        assert found[name] == pytest.approx(expected), name


def test_intervals_at_the_limits_are_wilsons() -> None:
    # Six subjects of class 0 with two images each, all right; four of class 1 with one image each, all wrong.
    test = two_classes("0" * 12 + "1" * 4, "aabbccddeeff" + "ghij", "0" * 16)
    found = summarize(test, 0.95)["intervals"]
    assert found["recall_0"] == pytest.approx(tuple(stats.binomtest(6, 6).proportion_ci(method="wilson")))
    assert found["recall_1"] == pytest.approx(tuple(stats.binomtest(0, 4).proportion_ci(method="wilson")))
    assert found["accuracy"] == pytest.approx((0.75, 0.75)), "the share of a class is not noise"
    assert found["auc"] == found["macro_recall"] == pytest.approx((0.5, 0.5))
    right = two_classes("0" * 12 + "1" * 4, "aabbccddeeff" + "ghij", "0" * 12 + "1" * 4)
    expected = tuple(stats.binomtest(4, 4).proportion_ci(method="wilson"))  # the smaller number
    found = summarize(right, 0.95)["intervals"]
    assert found["accuracy"] == found["auc"] == pytest.approx(expected)
    assert found["mcc"] == pytest.approx((2 * expected[0] - 1, 1))


def test_one_subject_of_a_class_gives_no_interval() -> None:
    test = two_classes("0011111", "aabbcdd", "0101101")
    assert summarize(test, 0.95)["intervals"] == {}
    assert Jackknife.of(test).subjects == [1, 3]


def test_class_without_images_does_not_prevent_intervals() -> None:
    test = HeldOut(np.array([0, 0, 1, 1]), np.tile([0.6, 0.3, 0.1], (1, 4, 1)), np.array(list("abcd")))
    assert summarize(test, 0.95)["intervals"]["macro_recall"] == pytest.approx((1 / 3, 1 / 3))
    assert point_estimates(test.labels, test.probabilities[0])["macro_recall"] == pytest.approx(1 / 3)


def test_leaving_out_one_subject_per_fold_leaves_no_auc_over_images(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(6), (5, 6))
    test = replace(test, folds=test.subjects)
    found = summarize(test, 0.95)["intervals"]
    assert "auc" not in found
    assert point_estimates(test.labels, test.probabilities[0], folds=test.folds)["auc"] is None
    assert "macro_recall" in found
    assert set(test.metric_names) - set(found) == {name for name in test.metric_names if "auc" in name}
    assert "auc" in summarize(by_subject(test), 0.95)["intervals"]


def test_equal_weight_of_subjects(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(10), (6, 7))
    right = test.probabilities[0].argmax(1) == test.labels
    of_subject = {name: right[test.subjects == name].mean() for name in np.unique(test.subjects)}
    _, unit, counts = np.unique(test.subjects, return_inverse=True, return_counts=True)
    found = summarize(replace(test, weights=1 / counts[unit]), 0.95, ["accuracy", "recall_1"])
    assert found["accuracy"] == pytest.approx(np.mean([*of_subject.values()]))
    recalls = [of_subject[name] for name in np.unique(test.subjects[test.labels == 1])]
    assert found["recall_1"] == pytest.approx(np.mean(recalls))
    half = (
        stats.t.ppf(0.975, 6) * np.std(recalls, ddof=1) / math.sqrt(7) / (found["recall_1"] * (1 - found["recall_1"]))
    )
    odds = math.log(found["recall_1"] / (1 - found["recall_1"])) + np.array([-half, half])
    assert found["intervals"]["recall_1"] == pytest.approx(1 / (1 + np.exp(-odds)))


def test_rows_of_subjects(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(7), (5, 6), seeds=2, decimals=3)
    rows = by_subject(replace(test, folds=(test.subjects.astype(int) % 2).astype(str)))
    assert len(rows.labels) == 11
    for place, subject in enumerate(rows.subjects):
        images = test.subjects == subject
        assert set(test.labels[images]) == {rows.labels[place]}
        shares = test.probabilities[:, images, 1].clip(2**-23, 1 - 2**-23)
        odds = np.log(shares / (1 - shares)).mean(1)
        assert rows.ranking[:, place, 1] == pytest.approx(odds)
    pooled = by_subject(test)
    expected = [metrics.roc_auc_score(pooled.labels, of_seed[:, 1]) for of_seed in pooled.ranking]
    assert Jackknife.of(pooled).values(pooled, ["auc"])["auc"][0] == pytest.approx(np.mean(expected))


def test_constant_heads_of_leave_one_subject_out_rank_no_subject() -> None:
    labels, subjects = np.repeat([0, 1, 1], 4), np.repeat([*"abcdef"], 2)
    counts = np.array([[np.sum(labels[subjects != subject] == label) for label in (0, 1)] for subject in "abcdef"])
    shares = counts / counts.sum(1, keepdims=True)
    test = HeldOut(labels, shares.repeat(2, axis=0)[None], subjects, subjects)
    aucs = [point_estimates(rows.labels, rows.probabilities[0], rows.ranking[0])["auc"]
            for rows in (by_subject(replace(test, folds=None)), by_subject(test))]  # fmt: skip
    assert aucs == [0.0, 0.5]


def test_spread_over_folds(clustered: Clustered) -> None:
    test = clustered(np.random.default_rng(8), (6, 6), seeds=2)
    test = replace(test, folds=(test.subjects.astype(int) % 3).astype(str))
    found = spread(test, test.fold)
    per_fold = [
        [point_estimates(test.labels[rows], of_seed[rows]) for of_seed in test.probabilities]
        for rows in (test.fold == fold for fold in range(3))
    ]
    for name in ("accuracy", "auc", "macro_f1", "log_loss", "mcc"):
        means = [np.mean([one[name] for one in of_fold]) for of_fold in per_fold]
        assert found[name] == pytest.approx(np.std(means, ddof=1)), name
    assert spread(test, np.zeros(len(test.labels))) == {}
    assert "auc" not in spread(test, test.subjects)


def test_paired_difference_is_narrower_and_zero_for_equal_models(clustered: Clustered) -> None:
    generator = np.random.default_rng(2)
    test = clustered(generator, (12, 12), seeds=2)
    assert {tuple(bounds) for bounds in summarize(test, 0.95, minus=test)["intervals"].values()} == {(0.0, 0.0)}
    worse = test.probabilities.copy()
    swapped = generator.random(len(test.labels)) < 0.04
    worse[:, swapped] = worse[:, swapped, ::-1]
    low, high = summarize(test, 0.95, ["accuracy"], minus=replace(test, probabilities=worse))["intervals"]["accuracy"]
    own = summarize(test, 0.95, ["accuracy"])["intervals"]["accuracy"]
    assert high - low < own[1] - own[0]
