"""Every number in inconsistencies.csv follows from the published numbers."""

import csv
import itertools
import math
from collections.abc import Callable
from importlib import resources

import numpy as np

from alljax.paper import published
from alljax.paper.published import (
    EPOCHS,
    FITTING_ALL,
    KEYS,
    METRICS,
    OPTIMIZERS,
    ROWS,
    STATED,
    STRATIFIED_ALL,
    TABLE_7,
    TEST,
    TEST_IMAGES,
    TRAINING_ACCURACY,
    Key,
    Row,
)

SHARE = published.IMAGES_ALL / published.IMAGES
SD = math.sqrt(TEST_IMAGES * SHARE * (1 - SHARE) * (published.IMAGES - TEST_IMAGES) / (published.IMAGES - 1))
"""Standard deviation of the number of ALL test images in a random split (hypergeometric)."""
LIKELY = range(STRATIFIED_ALL - int(3 * SD), STRATIFIED_ALL + int(3 * SD) + 1)
"""The numbers of ALL test images that a random split is likely to have."""
STATED_RANGES = {"A": (84, 87), "B": (80, 82)}
"""Lowest and highest test accuracy in whole percents, as Section 3.2 states them."""
IMAGENET_CLASSES = 1_000
REFERENCE_DOI = dict.fromkeys((23, 25), "10.1007/978-981-15-0798-4_3")


def accuracy(row: Row, test_all: int = STRATIFIED_ALL) -> np.ndarray:
    """Returns lowest and highest implied test accuracy in percent."""
    return 100 * np.array(published.implied(row, test_all).accuracy)


def accuracies(key: Key, test_all: int = STRATIFIED_ALL) -> np.ndarray:
    return np.array([accuracy((*key, epochs), test_all) for epochs in EPOCHS])


def f1_scores(row: Row, test_all: int = STRATIFIED_ALL) -> np.ndarray:
    """Returns the macro F1 of the confusion matrices that fit a row."""
    tp, fn, fp, tn = published.implied(row, test_all).confusions.T
    return tp / (2 * tp + fn + fp) + tn / (2 * tn + fn + fp)


def decreases(column: tuple[float, ...]) -> dict[int, str]:
    pairs = zip(EPOCHS[1:], column, column[1:], strict=False)
    return {epochs: f"{before:.2f} → {after:.2f}" for epochs, before, after in pairs if after < before}


def allows(found: np.ndarray, percent: float, half: float) -> bool:
    return bool(found[0] <= percent + half + 1e-9 and found[1] >= percent - half - 1e-9)


def sizes_that_fit(row: Row, percent: float, half: float) -> list[int]:
    """Returns the likely numbers of ALL test images for which a row allows an accuracy."""
    return [size for size in LIKELY if allows(accuracy(row, size), percent, half)]


def span(values: np.ndarray | list[float], decimals: int = 2) -> str:
    return f"{np.min(values):.{decimals}f} to {np.max(values):.{decimals}f}"


def thousands(values: list[int]) -> str:
    return f"{min(values):,} to {max(values):,}"


def best_epochs() -> list[str]:
    adam, rmsprop = (TRAINING_ACCURACY["B", optimizer] for optimizer in OPTIMIZERS)
    assert max(adam) == adam[-1]
    assert max(rmsprop) > rmsprop[-1]
    return [f"{max(rmsprop):.2f}% after {EPOCHS[int(np.argmax(rmsprop))]}", f"{rmsprop[-1]:.2f}% after {EPOCHS[-1]}"]


def more_epochs_vgg16() -> list[str]:
    adam, rmsprop = (decreases(TRAINING_ACCURACY["A", optimizer]) for optimizer in OPTIMIZERS)
    assert (list(adam), list(rmsprop)) == ([40], [40, 60])
    return [adam[40], rmsprop[60]]


def more_epochs_resnet50() -> list[str]:
    adam, rmsprop = (list(decreases(TRAINING_ACCURACY["B", optimizer])) for optimizer in OPTIMIZERS)
    at = ", ".join(map(str, rmsprop))
    return [f"{len(rmsprop)} times with RMSprop (at {at} epochs)", f"{len(adam)} time with Adam (at {adam[0]} epochs)"]


def adam_superior() -> list[str]:
    adam, rmsprop = (np.array(TRAINING_ACCURACY["B", optimizer]) for optimizer in OPTIMIZERS)
    return [f"{(rmsprop > adam).sum()} of {len(EPOCHS)} rows", f"{rmsprop.max():.2f}% against {adam.max():.2f}%"]


def learning_speed() -> list[str]:
    adam, rmsprop = (TRAINING_ACCURACY["B", optimizer] for optimizer in OPTIMIZERS)
    assert all(first > second for first, second in zip(rmsprop[:2], adam, strict=False))
    return [f"{EPOCHS[row]} epochs ({rmsprop[row]:.2f}% against {adam[row]:.2f}%)" for row in (0, 1)]


def impossible_f1(row: Row) -> Callable[[], list[str]]:
    def numbers() -> list[str]:
        recall, precision, f1 = published.printed(row)
        assert not any(published.implied(row, size).exact for size in LIKELY)
        ranges = np.concatenate([f1_scores(row, size) for size in LIKELY])
        return [f"Recall {recall:.2f}, precision {precision:.2f}, F1 {f1:.2f}", span(ranges, 3)]

    return numbers


def totals() -> list[str]:
    means = {(key, metric): float(np.mean(TEST[key][metric])) for key, metric in itertools.product(KEYS, METRICS)}
    wrong = [at for at, mean in means.items() if abs(mean - published.MEANS[at[0]][at[1]]) > 0.005 + 1e-9]
    assert wrong == [(("A", "adam"), "recall")]
    printed, mean = published.MEANS["A", "adam"]["recall"], means[wrong[0]]
    return [f"Mean recall {printed:.2f}", f"{mean:.4f}", f"{mean:.2f}", f"up to {mean + 0.005:.4f}"]


def mean_f1() -> list[str]:
    means = []
    for optimizer in OPTIMIZERS:
        rows = [row for row in ROWS if row[:2] == ("A", optimizer)]
        lowest = [published.printed(row)[2] if published.implied(row).exact else f1_scores(row).min() for row in rows]
        means.append(np.mean(lowest))
    assert [f"{mean:.2f}" for mean in means] == ["0.82", "0.82"]
    return [f"at least {means[0]:.3f} with Adam and {means[1]:.3f} with RMSprop"]


def formula_4() -> list[str]:
    recall, precision, f1 = np.array([published.printed(row) for row in ROWS]).T
    lowest, highest = (2 * r * p / (r + p) for r, p in
                       ((recall - 0.005, precision - 0.005), (recall + 0.005, precision + 0.005)))  # fmt: skip
    outside = (lowest > f1 + 0.005 + 1e-9) | (highest < f1 - 0.005 - 1e-9)
    return [f"{outside.sum()} of {len(ROWS)} rows"]


def vgg16_superior() -> list[str]:
    behind = {
        (optimizer, epochs, metric): (first, second)
        for optimizer in OPTIMIZERS
        for metric in METRICS
        for epochs, first, second in zip(EPOCHS, TEST["A", optimizer][metric], TEST["B", optimizer][metric],
                                         strict=True)
        if first <= second
    }  # fmt: skip
    assert len(behind) == 4
    lower = [f"{first:.2f} against {second:.2f}" for first, second in behind.values() if first < second]
    return [*lower, *(f"({first:.2f})" for first, second in behind.values() if first == second)]


def averages() -> list[str]:
    recall = np.concatenate([TEST["A", optimizer]["recall"] for optimizer in OPTIMIZERS])
    assert 100 * recall.max() + 0.5 < STATED_RANGES["A"][0]
    ranges = [
        100 * np.array([published.implied(row, size).hem_recall for row in ROWS if row[0] == network
                        for size in (STRATIFIED_ALL, *FITTING_ALL)])
        for network in "AB"
    ]  # fmt: skip
    stated = "{} to {}%".format(*STATED_RANGES["A"])
    return [span(recall), stated, f"{span(ranges[0], 0)}% (VGG16)", f"{span(ranges[1], 0)}% (ResNet50)"]


def vgg16_accuracy() -> list[str]:
    shares = [f"{100 * count / TEST_IMAGES:.2f}" for count in range(TEST_IMAGES + 1)]
    assert "87.00" not in shares
    return [f"{count:,} are {shares[count]}%" for count in (1_855, 1_856)]


def stated(row: Row, half: float) -> Callable[[], list[str]]:
    def numbers() -> list[str]:
        assert not allows(accuracy(row), STATED[row], half)
        return [f"{span(accuracy(row))}%", thousands(sizes_that_fit(row, STATED[row], half))]

    return numbers


def stated_ranges() -> list[str]:
    def lowest_and_highest(network: str, size: int) -> list[np.ndarray]:
        ranges = np.concatenate([accuracies((network, optimizer), size) for optimizer in OPTIMIZERS])
        return [ranges.min(0), ranges.max(0)]

    def fits(network: str, size: int) -> list[bool]:
        ranges = zip(lowest_and_highest(network, size), STATED_RANGES[network], strict=True)
        return [allows(found, percent, 0.5) for found, percent in ranges]

    assert fits("B", STRATIFIED_ALL) == [True, True]
    assert fits("A", STRATIFIED_ALL) == [False, True]
    assert fits("A", FITTING_ALL[0]) == fits("A", FITTING_ALL[-1]) == [True, True]
    return ["{} to {}%".format(*STATED_RANGES["A"]), f"{span(lowest_and_highest('A', STRATIFIED_ALL)[0])}%"]


def size_of_test_set() -> list[str]:
    fitting = set.intersection(*({*sizes_that_fit(row, percent, 0.5)} for row, percent in STATED.items()))
    assert fitting == set(FITTING_ALL)
    off = [(size - STRATIFIED_ALL) / SD for size in (min(fitting), max(fitting))]
    return [f"{len(STATED)} test accuracies", f"{STRATIFIED_ALL:,} ALL", thousands([*fitting]), span(off, 1)]


def stability() -> list[str]:
    for size in (STRATIFIED_ALL, *FITTING_ALL):
        certain = {
            optimizer: [EPOCHS[row] for row in range(1, 8) if ranges[row, 1] < ranges[row - 1, 0]]
            for optimizer in OPTIMIZERS
            for ranges in [accuracies(("A", optimizer), size)]
        }
        assert certain == {"adam": [40, 60], "rmsprop": [40]}
    return ["2 times with Adam (at 40 and 60 epochs)", "1 time with RMSprop (at 40 epochs)"]


def more_epochs_test() -> list[str]:
    for size in (STRATIFIED_ALL, *FITTING_ALL):
        for optimizer, late in (("adam", []), ("rmsprop", [100])):
            ranges = accuracies(("B", optimizer), size)
            reached = np.maximum.accumulate(ranges[:, 0])
            assert [EPOCHS[row] for row in range(8) if ranges[row, 1] < reached[row]] == late
    first, last = (published.printed(("B", "rmsprop", epochs)) for epochs in (40, 100))
    return [f"recall decreases from {first[0]:.2f} to {last[0]:.2f}", f"F1 from {first[2]:.2f} to {last[2]:.2f}"]


def no_intervals() -> list[str]:
    middles = np.array([accuracies(key).mean(1) for key in KEYS]) / 100
    differences = np.concatenate([np.diff(middles, axis=1).ravel(), (middles[0::2] - middles[1::2]).ravel()])
    error = np.sqrt(middles * (1 - middles) / TEST_IMAGES)
    needed = 1.96 * math.sqrt(2) * error.mean()
    large = (np.abs(differences) > needed).sum()
    return [f"{span(100 * error)} percentage points", f"{len(differences)} differences", f"{large} exceeds",
            f"{100 * needed:.1f} points"]  # fmt: skip


def validation() -> list[str]:
    assert published.TRAINING_IMAGES + TEST_IMAGES == published.IMAGES
    counts = (published.TRAINING_IMAGES, TEST_IMAGES, published.IMAGES)
    return [*(f"{count:,}" for count in counts), "no third set is described"]


def learning_rate() -> list[str]:
    steps = math.ceil(published.TRAINING_IMAGES / 32)
    rates = {epochs: 1e-4 * 0.95 ** (steps * epochs / 900) for epochs in (10, 50, 100)}
    return [f"{rate:.2e} after {epochs}" for epochs, rate in rates.items()]


def table_7() -> dict[str, list[str]]:
    """Returns the numbers of the statements about other studies, by ``where``."""
    accuracies = {row.study: f"{row.accuracy:.2f}%" for row in reversed(TABLE_7)}
    best = max(TABLE_7, key=lambda row: row.accuracy)
    (malaria,) = (row for row in TABLE_7 if row.dataset == "Malaria Cell")
    assert not {"[8]", "[21]"} & accuracies.keys()
    assert accuracies["[10]"] < accuracies["Proposed"] < "87.90%"
    return {
        "Introduction and Table 7: [10]": [f"{accuracies['[10]']} in Table 7", accuracies["Proposed"]],
        "Section 3.2, Table 7: highest": [f"{best.accuracy:.2f}% ({best.study}, {best.dataset})"],
        "Section 3.2, Table 7: [21]": ["no row for [21]"],
        "Section 3.2, Table 7: datasets": [f"{malaria.study} is on malaria cells ({malaria.images:,} images)"],
        "Introduction and conclusion: datasets": [
            f"{len({row.dataset for row in TABLE_7 if row.study == 'Proposed'})} dataset was"
        ],
        "References [23] and [25], Table 7": [accuracies["[23]"], accuracies["[25]"]],
        "Section 2.3": ["1,000 classes"],
    }


CASES: dict[str, Callable[[], list[str]]] = {
    "Section 3.1, Table 2: best epochs": best_epochs,
    "Section 3.1, Table 1: more epochs": more_epochs_vgg16,
    "Section 3.1, Table 2: more epochs": more_epochs_resnet50,
    "Conclusion, Table 2": adam_superior,
    "Section 3.1, Table 2: learning speed": learning_speed,
    "Table 3, 30 epochs": impossible_f1(("A", "adam", 30)),
    "Table 4, 10 epochs": impossible_f1(("A", "rmsprop", 10)),
    "Table 5, 30 epochs": impossible_f1(("B", "adam", 30)),
    "Table 3, Totals": totals,
    "Section 3.2, Tables 3 and 4: mean F1": mean_f1,
    "Formula (4), Tables 3 to 6": formula_4,
    "Section 3.2, Tables 3 to 6": vgg16_superior,
    "Section 3.2: averages": averages,
    "Abstract, Table 7 and conclusion: VGG16": vgg16_accuracy,
    "Conclusion: ResNet50, RMSprop, 80 epochs": stated(("B", "rmsprop", 80), 0.005),
    "Section 3.2, Figure 9: VGG16, RMSprop, 10 epochs": stated(("A", "rmsprop", 10), 0.5),
    "Section 3.2, Figure 9: VGG16": stated_ranges,
    "Section 2.6, Figure 9 and conclusion": size_of_test_set,
    "Section 3.2, Figure 9: stability": stability,
    "Section 3.2, Figure 9: more epochs": more_epochs_test,
    "Tables 3 to 6, Figure 9 and conclusion": no_intervals,
    "Section 3.1, Figures 7 and 8": validation,
    "Abstract and Section 2.6": learning_rate,
}


def test_every_inconsistency_is_recomputed() -> None:
    text = resources.files("alljax.paper").joinpath("inconsistencies.csv").read_text(encoding="utf-8")
    rows = {row["where"]: row for row in csv.DictReader(text.splitlines())}
    expected = {where: numbers() for where, numbers in CASES.items()} | table_7()
    assert list(rows) == list(expected)
    for where, numbers in expected.items():
        text = f"{rows[where]['statement']} {rows[where]['contradiction']}"
        assert all(number in text for number in numbers), f"{where}: {numbers} are not in {text!r}"
    kinds = [row["kind"] for row in rows.values()]
    assert kinds.count("fits only if the split was not stratified") == 4
