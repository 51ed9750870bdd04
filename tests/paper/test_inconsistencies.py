"""Every number in inconsistencies.csv follows from the published numbers."""

import itertools
import math
from collections.abc import Iterable

import numpy as np

from alljax.paper import published
from alljax.paper.published import EPOCHS, FITTING_ALL, KEYS, OPTIMIZERS, PRINTED, ROWS, STATED, STRATIFIED_ALL, Row

TESTED = published.TEST_IMAGES
SHARE = published.IMAGES_ALL / published.IMAGES
SD = math.sqrt(TESTED * SHARE * (1 - SHARE) * (published.IMAGES - TESTED) / (published.IMAGES - 1))
"""Standard deviation of the number of ALL test images in a random split (hypergeometric)."""
LIKELY = range(STRATIFIED_ALL - int(3 * SD), STRATIFIED_ALL + int(3 * SD) + 1)
"""The numbers of ALL test images that a random split is likely to have."""
SIZES = (STRATIFIED_ALL, *FITTING_ALL)
STATED_RANGES = {"A": (84, 87), "B": (80, 82)}
"""Lowest and highest test accuracy in whole percents, as Section 3.2 states them."""


def accuracies(rows: Iterable[Row], size: int = STRATIFIED_ALL) -> np.ndarray:
    """Returns lowest and highest implied test accuracy of each row in percent, (N, 2)."""
    return 100 * np.array([published.implied_ranges(row, [size])[0] for row in rows])


def f1_scores(row: Row, sizes: Iterable[int]) -> np.ndarray:
    """Returns the macro F1 of the confusion matrices that fit a row."""
    tp, fn, fp, tn = np.concatenate([published.implied(row, size)[0] for size in sizes]).T
    return tp / (2 * tp + fn + fp) + tn / (2 * tn + fn + fp)


def sizes_that_fit(row: Row, half: float) -> list[int]:
    """Returns the likely numbers of ALL test images for which a row allows its stated accuracy."""
    ranges = np.array([accuracies([row], size)[0] for size in LIKELY])
    allowed = (ranges[:, 0] <= STATED[row] + half + 1e-9) & (ranges[:, 1] >= STATED[row] - half - 1e-9)
    return np.array(LIKELY)[allowed].tolist()


def span(values: np.ndarray | list[float], decimals: int = 2) -> str:
    return f"{np.min(values):.{decimals}f} to {np.max(values):.{decimals}f}"


def training() -> dict[str, list[str]]:
    adam, rmsprop = (np.array(PRINTED["B", optimizer]["training_accuracy"]) for optimizer in OPTIMIZERS)
    assert adam.argmax() == 7
    assert (rmsprop > adam)[:2].all()
    falls = {}  # where more epochs give a lower training accuracy
    for key in KEYS:
        column = PRINTED[key]["training_accuracy"]
        pairs = zip(EPOCHS[1:], column, column[1:], strict=False)
        falls[key] = {epochs: f"{before:.2f} → {after:.2f}" for epochs, before, after in pairs if after < before}
    assert [[*falls["A", optimizer]] for optimizer in OPTIMIZERS] == [[40], [40, 60]]
    at = {optimizer: ", ".join(map(str, falls["B", optimizer])) for optimizer in OPTIMIZERS}
    steps = math.ceil(published.TRAINING_IMAGES / 32)
    rates = {epochs: 1e-4 * 0.95 ** (steps * epochs / 900) for epochs in (10, 50, 100)}
    return {
        "Section 3.1, Table 2: best epochs": [
            f"{rmsprop.max():.2f}% after {EPOCHS[rmsprop.argmax()]}", f"{rmsprop[-1]:.2f}% after {EPOCHS[-1]}",
        ],
        "Section 3.1, Table 1: more epochs": [falls["A", "adam"][40], falls["A", "rmsprop"][60]],
        "Section 3.1, Table 2: more epochs": [
            f"3 times with RMSprop (at {at['rmsprop']} epochs)", f"1 time with Adam (at {at['adam']} epochs)",
        ],
        "Conclusion, Table 2": [
            f"{(rmsprop > adam).sum()} of {len(EPOCHS)} rows", f"{rmsprop.max():.2f}% against {adam.max():.2f}%",
        ],
        "Section 3.1, Table 2: learning speed": [
            f"{EPOCHS[row]} epochs ({rmsprop[row]:.2f}% against {adam[row]:.2f}%)" for row in (0, 1)
        ],
        "Abstract and Section 2.6": [f"{rate:.2e} after {epochs}" for epochs, rate in rates.items()],
    }  # fmt: skip


def tables() -> dict[str, list[str]]:
    impossible = [row for row in ROWS if not any(published.implied(row, size)[1] for size in LIKELY)]
    found = {}
    for row in impossible:
        recall, precision, f1 = (published.printed(row, metric) for metric in published.METRICS.values())
        found[f"Table {3 + KEYS.index(row[:2])}, {row[2]} epochs"] = [
            f"Recall {recall:.2f}, precision {precision:.2f}, F1 {f1:.2f}", span(f1_scores(row, LIKELY), 3)
        ]  # fmt: skip
    means = {at: np.mean(PRINTED[at[0]][at[1]][:-1]) for at in itertools.product(KEYS, published.METRICS.values())}
    (wrong,) = (at for at, mean in means.items() if abs(mean - PRINTED[at[0]][at[1]][-1]) > 0.005 + 1e-9)
    assert wrong == (("A", "adam"), "macro_recall")
    mean = means[wrong]
    possible = []
    for optimizer in OPTIMIZERS:
        rows = [("A", optimizer, epochs) for epochs in EPOCHS]
        exact = [published.implied(row)[1] for row in rows]
        lowest = [f1_scores(row, [STRATIFIED_ALL]).min() for row in rows]
        possible.append(np.where(exact, PRINTED["A", optimizer]["macro_f1"][:-1], lowest).mean())
    assert [f"{mean:.2f}" for mean in possible] == ["0.82", "0.82"]
    printed = [[published.printed(row, metric) for row in ROWS] for metric in published.METRICS.values()]
    recall, precision, f1 = np.array(printed)
    low, high = (2 * (recall + d) * (precision + d) / (recall + precision + 2 * d) for d in (-0.005, 0.005))
    outside = (low > f1 + 0.005 + 1e-9) | (high < f1 - 0.005 - 1e-9)
    behind = [
        (first, second)
        for optimizer, metric in itertools.product(OPTIMIZERS, published.METRICS.values())
        for first, second in zip(*(PRINTED[network, optimizer][metric][:-1] for network in "AB"), strict=True)
        if first <= second
    ]
    assert len(behind) == 4
    recalls = {
        network: [published.implied_ranges(row, SIZES)[1] for row in ROWS if row[0] == network] for network in "AB"
    }
    vgg = recall[:16]
    assert 100 * vgg.max() + 0.5 < STATED_RANGES["A"][0]
    return found | {
        "Table 3, Totals": ["Mean recall 0.81", f"{mean:.4f}", f"{mean:.2f}", f"up to {mean + 0.005:.4f}"],
        "Section 3.2, Tables 3 and 4: mean F1": [
            f"at least {possible[0]:.3f} with Adam and {possible[1]:.3f} with RMSprop"
        ],
        "Formula (4), Tables 3 to 6": [f"{outside.sum()} of {len(ROWS)} rows"],
        "Section 3.2, Tables 3 to 6": [
            f"{first:.2f} against {second:.2f}" if first < second else f"({first:.2f})" for first, second in behind
        ],
        "Section 3.2: averages": [
            span(vgg), "{} to {}%".format(*STATED_RANGES["A"]), f"{span(100 * np.array(recalls['A']), 0)}% (VGG16)",
            f"{span(100 * np.array(recalls['B']), 0)}% (ResNet50)",
        ],
    }  # fmt: skip


def stated_accuracies() -> dict[str, list[str]]:
    shares = [f"{100 * count / TESTED:.2f}" for count in range(TESTED + 1)]
    assert "87.00" not in shares
    found = {"Abstract, Table 7 and conclusion: VGG16": [f"{count:,} are {shares[count]}%" for count in (1_855, 1_856)]}
    for where, row, half in (
        ("Conclusion: ResNet50, RMSprop, 80 epochs", ("B", "rmsprop", 80), 0.005),
        ("Section 3.2, Figure 9: VGG16, RMSprop, 10 epochs", ("A", "rmsprop", 10), 0.5),
    ):
        sizes = sizes_that_fit(row, half)
        assert STRATIFIED_ALL not in sizes
        found[where] = [f"{span(accuracies([row]))}%", f"{min(sizes):,} to {max(sizes):,}"]
    for network, size, expected in (
        ("B", STRATIFIED_ALL, [True, True]), ("A", STRATIFIED_ALL, [False, True]),
        ("A", FITTING_ALL[0], [True, True]), ("A", FITTING_ALL[-1], [True, True]),
    ):  # fmt: skip
        ranges = accuracies([row for row in ROWS if row[0] == network], size)
        extremes = zip((ranges.min(0), ranges.max(0)), STATED_RANGES[network], strict=True)
        assert [low <= stated + 0.5 and high >= stated - 0.5 for (low, high), stated in extremes] == expected
    lowest = accuracies(row for row in ROWS if row[0] == "A").min(0)
    fitting = set.intersection(*({*sizes_that_fit(row, 0.5)} for row in STATED))
    assert fitting == set(FITTING_ALL)
    off = [(size - STRATIFIED_ALL) / SD for size in (min(fitting), max(fitting))]
    middles = accuracies(ROWS).mean(1).reshape(4, 8) / 100
    differences = np.concatenate([np.diff(middles, axis=1).ravel(), (middles[0::2] - middles[1::2]).ravel()])
    error = np.sqrt(middles * (1 - middles) / TESTED)
    needed = 1.96 * math.sqrt(2) * error.mean()
    return found | {
        "Section 3.2, Figure 9: VGG16": ["{} to {}%".format(*STATED_RANGES["A"]), f"{span(lowest)}%"],
        "Section 2.6, Figure 9 and conclusion": [
            f"{len(STATED)} test accuracies", f"{STRATIFIED_ALL:,} ALL", f"{min(fitting):,} to {max(fitting):,}",
            span(off, 1),
        ],
        "Tables 3 to 6, Figure 9 and conclusion": [
            f"{span(100 * error)} percentage points", f"{len(differences)} differences",
            f"{(np.abs(differences) > needed).sum()} exceeds", f"{100 * needed:.1f} points",
        ],
    }  # fmt: skip


def more_epochs() -> dict[str, list[str]]:
    for size, (network, optimizer) in itertools.product(SIZES, KEYS):
        low, high = accuracies([(network, optimizer, epochs) for epochs in EPOCHS], size).T
        below = high[1:] < (low[:-1] if network == "A" else np.maximum.accumulate(low)[:-1])
        expected = {("A", "adam"): [40, 60], ("A", "rmsprop"): [40], ("B", "adam"): [], ("B", "rmsprop"): [100]}
        assert np.array(EPOCHS[1:])[below].tolist() == expected[network, optimizer]
    first, last = (
        [published.printed(("B", "rmsprop", epochs), metric) for metric in ("macro_recall", "macro_f1")]
        for epochs in (40, 100)
    )
    return {
        "Section 3.2, Figure 9: stability": ["2 times with Adam (at 40 and 60", "1 time with RMSprop (at 40"],
        "Section 3.2, Figure 9: more epochs": [
            f"recall decreases from {first[0]:.2f} to {last[0]:.2f}", f"F1 from {first[1]:.2f} to {last[1]:.2f}",
        ],
    }  # fmt: skip


def other_studies() -> dict[str, list[str]]:
    accuracies = {study: f"{accuracy:.2f}%" for study, *_, accuracy in reversed(published.TABLE_7)}
    best = max(published.TABLE_7, key=lambda row: row[-1])
    (malaria,) = (row for row in published.TABLE_7 if row[2] == "Malaria Cell")
    assert not {"[8]", "[21]"} & accuracies.keys()
    assert len({row[2] for row in published.TABLE_7 if row[0] == "Proposed"}) == 1
    assert accuracies["[10]"] < accuracies["Proposed"] < "87.90%"
    return {
        "Section 3.1, Figures 7 and 8": ["8,528 training and 2,133 test images are all 10,661", "no third set"],
        "Introduction and Table 7: [10]": [f"{accuracies['[10]']} in Table 7", accuracies["Proposed"]],
        "Section 3.2, Table 7: highest": [f"{best[-1]:.2f}% ({best[0]}, {best[2]})"],
        "Section 3.2, Table 7: [21]": ["no row for [21]"],
        "Section 3.2, Table 7: datasets": [f"{malaria[0]} is on malaria cells ({malaria[3]:,} images)"],
        "Introduction and conclusion: datasets": ["1 dataset was"],
        "References [23] and [25], Table 7": [accuracies["[23]"], accuracies["[25]"]],
        "Section 2.3": ["1,000 classes"],
    }  # fmt: skip


def test_every_inconsistency_is_recomputed() -> None:
    rows = {row["where"]: row for row in published.read_rows("inconsistencies.csv")}
    # by the column ``where``: texts that must be in a row
    expected = training() | tables() | stated_accuracies() | more_epochs() | other_studies()
    assert rows.keys() == expected.keys()
    for where, numbers in expected.items():
        text = f"{rows[where]['the paper states']} {rows[where]['its numbers give']}"
        assert all(number in text for number in numbers), f"{where}: {numbers} are not in {text!r}"
    kinds = [row["verdict"] for row in rows.values()]
    assert kinds.count("fits only if the split was not stratified") == 4
