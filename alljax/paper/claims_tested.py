"""What the paper says of its test accuracies, checked against the confusion matrices that Tables 3-6 imply."""

import math
from collections.abc import Iterator

import numpy as np

from alljax.errors import plural
from alljax.paper import published as published
from alljax.paper.published import BUDGETS, KEYS, OPTIMIZER_NAMES, SCENARIOS, TESTED, Check, Paper

STATED: dict[str, tuple[str, str, int]] = {
    "VGG16 test accuracy": ("A", "adam", 100),
    "ResNet50 test accuracy": ("B", "rmsprop", 80),
    "VGG16 adam 10": ("A", "adam", 10),
    "VGG16 rmsprop 10": ("A", "rmsprop", 10),
    "VGG16 adam 20": ("A", "adam", 20),
    "VGG16 rmsprop 20": ("A", "rmsprop", 20),
}
"""The cells whose test accuracy the text states, by the names of the claims."""

_COUNTED = (
    f"every confusion matrix of {published.TESTED_ALL:,} ALL and {published.TESTED_HEM:,} HEM cells "
    "(a stratified split) that rounds to the row"
)


def averages(paper: Paper) -> Check:
    """Looks which average the tables can be: weighted by class, the recall would be the accuracy."""
    recall = np.concatenate([paper.tested["A", optimizer]["recall"] for optimizer in published.OPTIMIZERS])
    low, high = (paper.claims[f"VGG16 {end}"] for end in ("lowest", "highest"))
    return Check(
        "Section 3.2, “average recall value, precision and f1-score”",
        f"which average is not said; VGG16's test accuracy is {low:.0f}–{high:.0f} %",
        f"VGG16's recall is {recall.min():.2f}–{recall.max():.2f}, less than the accuracy, which it would be if "
        "weighted by class; so plain means over both classes, which hide how few HEM cells are recognized: "
        f"{_percent(_hem_recall(paper, 'A'), 0)} (VGG16), {_percent(_hem_recall(paper, 'B'), 0)} (ResNet50)",
        f"recall weighted by class equals accuracy; HEM recall from {_COUNTED}",
        bool(100 * recall.max() + 0.5 >= low),
    )


def headline(paper: Paper) -> Check:
    """Looks whether VGG16's test accuracy can be a share of the cells tested, to the decimals printed."""
    stated = paper.claims["VGG16 test accuracy"]
    below = math.floor(stated / 100 * TESTED)
    found = published.implied("A", "adam", 100, paper).accuracy
    possible = any(f"{100 * count / TESTED:.2f}" == f"{stated:.2f}" for count in (below, below + 1))
    return Check(
        "Abstract, Table 7, conclusion: VGG16, Adam, 100 epochs",
        f"test accuracy {stated:.2f} %",
        f"Table 3 implies {_percent(found)}; {below:,} right of {TESTED:,} are {below / TESTED:.2%}, "
        f"{below + 1:,} are {(below + 1) / TESTED:.2%}" + ("" if possible else ": the two decimals were not measured"),
        f"shares of {TESTED:,}; {_COUNTED}",
        possible and _allows(found, stated, 0.005),
    )


def best_resnet(paper: Paper) -> Check:
    """Looks which optimizer's row has the test accuracy that the conclusion gives for ResNet50."""
    stated = paper.claims["ResNet50 test accuracy"]
    found = {key[1]: published.implied(*key, 80, paper).accuracy for key in KEYS if key[0] == "B"}
    sizes = _sizes("B", "rmsprop", 80, stated, 0.005, paper)
    holds = _allows(found["rmsprop"], stated, 0.005)
    return Check(
        "Conclusion: ResNet50, RMSprop, 80 epochs",
        f"test accuracy {stated:.2f} %",
        "; ".join(f"{OPTIMIZER_NAMES[optimizer]} {_percent(range_)}" for optimizer, range_ in found.items()),
        _COUNTED + ("" if holds else _if_random(sizes, "RMSprop would fit")),
        holds,
    )


def stated_accuracies(paper: Paper) -> Iterator[Check]:
    """Checks the whole percents that the text gives for 10 and 20 epochs."""
    for name, (scenario, optimizer, budget) in STATED.items():
        if name.endswith("accuracy"):
            continue
        found = published.implied(scenario, optimizer, budget, paper)
        sizes = _sizes(scenario, optimizer, budget, paper.claims[name], 0.5, paper)
        holds = _allows(found.accuracy, paper.claims[name], 0.5)
        caveat = "" if found.exact else " (from recall and precision: the F1 of this row is impossible)"
        yield Check(
            f"Section 3.2, Figure 9: {SCENARIOS[scenario]}, {OPTIMIZER_NAMES[optimizer]}, {budget} epochs",
            f"test accuracy {paper.claims[name]:.0f} %",
            f"{_percent(found.accuracy)}{caveat}",
            _COUNTED + ("" if holds else _if_random(sizes, "the stated percent would fit")),
            holds,
        )


def stated_ranges(paper: Paper) -> Iterator[Check]:
    """Checks the ranges of test accuracy that the text gives for the two networks."""
    for scenario, network in SCENARIOS.items():
        ranges = np.array([_accuracy(paper, scenario, optimizer) for optimizer in published.OPTIMIZERS]).reshape(-1, 2)
        stated = [paper.claims[f"{network} {end}"] for end in ("lowest", "highest")]
        ends = ranges.min(0), ranges.max(0)
        yield Check(
            f"Section 3.2, Figure 9: {network}",
            f"test accuracy {stated[0]:.0f}–{stated[1]:.0f} %",
            f"lowest {_percent(ends[0])}, highest {_percent(ends[1])}",
            f"{_COUNTED}, over {len(ranges)} rows",
            all(_allows(tuple(end), value, 0.5) for end, value in zip(ends, stated, strict=True)),
        )


def test_set(paper: Paper) -> Check:
    """Finds how many ALL cells among those tested all stated accuracies and tables allow."""
    sizes = set.intersection(*({*_sizes(*trial, paper.claims[name], 0.5, paper)} for name, trial in STATED.items()))
    spread = published.spread_all()
    found = "no number of ALL cells allows all of them"
    if sizes:
        off = [(size - published.TESTED_ALL) / spread for size in (min(sizes), max(sizes))]
        found = (
            f"together possible with {min(sizes):,} to {max(sizes):,} ALL cells of {TESTED:,}: {off[0]:+.1f} to "
            f"{off[1]:+.1f} standard deviations from the {published.TESTED_ALL:,} of a stratified split"
        )
    return Check(
        "Section 2.6: 20 % for the test data; Figure 9 and conclusion",
        f"{len(STATED)} test accuracies in whole percents; whether the split was stratified is not said",
        found,
        f"the matrices of Tables 3–6 for each number of ALL cells within three standard "
        f"deviations ({spread:.1f} cells each, hypergeometric) of a random split",
        published.TESTED_ALL in sizes,
    )


def ups_and_downs(paper: Paper) -> Check:
    """Compares how often the test accuracy of VGG16 certainly fell from one budget to the next."""
    falls = {optimizer: _falls(_accuracy(paper, "A", optimizer)) for optimizer in published.OPTIMIZERS}
    listed = [
        f"{OPTIMIZER_NAMES[name]}: {plural(len(where), 'certain fall')}" + _within(where)
        for name, where in falls.items()
    ]
    return Check(
        "Section 3.2, Figure 9",
        "RMSprop often goes up and down, Adam tends to be stable (VGG16)",
        "; ".join(listed),
        f"{_COUNTED}; a fall is certain where the two ranges do not meet",
        len(falls["rmsprop"]) > len(falls["adam"]),
    )


def rising(paper: Paper) -> Iterator[Check]:
    """Looks whether the test accuracy of ResNet50 can have risen with the epochs throughout."""
    for optimizer in published.OPTIMIZERS:
        ranges = _accuracy(paper, "B", optimizer)
        reached = np.maximum.accumulate(ranges[:, 0])
        late = [budget for budget, low, (_, high) in zip(BUDGETS, reached, ranges, strict=True) if high < low]
        first, last = (published.row(paper, ("B", optimizer), budget) for budget in (40, 100))
        yield Check(
            f"Section 3.2, Figure 9: ResNet50, {OPTIMIZER_NAMES[optimizer]}",
            "more epochs do not decrease the test accuracy, they increase it",
            (f"after {', '.join(map(str, late))} epochs it must be below an earlier one" if late else "possible")
            + f"; from 40 to 100 epochs recall goes {first[0]:.2f} → {last[0]:.2f}, F1 {first[2]:.2f} → {last[2]:.2f}",
            f"{_COUNTED}; whether any choice from the ranges never falls",
            not late,
        )


def noise(paper: Paper) -> Check:
    """Counts how many differences between neighboring cells of the tables exceed their standard error."""
    middles = np.array([_accuracy(paper, *key).mean(1) for key in KEYS])
    gaps = np.concatenate([np.diff(middles, axis=1).ravel(), (middles[0::2] - middles[1::2]).ravel()])
    error = np.sqrt(middles * (1 - middles) / TESTED)
    single = float(error.mean())
    beyond = int((np.abs(gaps) > single).sum()), int((np.abs(gaps) > 1.96 * math.sqrt(2) * single).sum())
    return Check(
        "Tables 3–6, Figure 9, conclusion",
        "epochs and optimizers are ranked by test results, without an interval",
        f"one accuracy has a standard error of {100 * error.min():.2f}–{100 * error.max():.2f} points; of {len(gaps)} "
        f"differences between neighboring epochs or the two optimizers {beyond[0]} exceed it, and {beyond[1]} exceed "
        f"{196 * math.sqrt(2) * single:.1f} points, as a difference of two independent accuracies would have to",
        f"binomial standard error at n = {TESTED:,}, middles of the implied ranges; cells taken as independent, which "
        "flatters the paper: they come from few people; pairing, which could narrow it, needs predictions",
        2 * beyond[1] > len(gaps),
    )


CHECKS = (
    averages, headline, best_resnet, stated_accuracies, stated_ranges, test_set, ups_and_downs, rising, noise,
)  # fmt: skip


def _accuracy(paper: Paper, scenario: str, optimizer: str) -> np.ndarray:
    """Returns the implied test accuracies, (8, 2): lowest and highest of each budget."""
    return np.array([published.implied(scenario, optimizer, budget, paper).accuracy for budget in BUDGETS])


def _hem_recall(paper: Paper, scenario: str) -> tuple[float, float]:
    ranges = [
        published.implied(*key, budget, paper).hem_recall for key in KEYS if key[0] == scenario for budget in BUDGETS
    ]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _within(places: list[str]) -> str:
    return f" ({', '.join(places)})" if places else ""


def _falls(ranges: np.ndarray) -> list[str]:
    return [
        f"{BUDGETS[place]} → {BUDGETS[place + 1]}"
        for place in range(len(BUDGETS) - 1)
        if ranges[place + 1, 1] < ranges[place, 0]
    ]


def _allows(found: tuple[float, ...], percent: float, half: float) -> bool:
    """Says whether a range of shares meets a percentage that was rounded to twice `half`."""
    return 100 * found[0] <= percent + half + 1e-9 and 100 * found[1] >= percent - half - 1e-9


def _sizes(scenario: str, optimizer: str, budget: int, percent: float, half: float, paper: Paper) -> list[int]:
    """Returns the likely numbers of ALL cells tested under which a row allows an accuracy."""
    return [
        size
        for size in published.likely_all()
        if _allows(published.implied(scenario, optimizer, budget, paper, size).accuracy, percent, half)
    ]


def _if_random(sizes: list[int], what: str) -> str:
    if not sizes:
        return f"; with no likely number of ALL cells {what}"
    return f"; if the split was not stratified, {what} with {min(sizes):,} to {max(sizes):,} ALL cells"


def _percent(found: tuple[float, ...] | np.ndarray, decimals: int = 2) -> str:
    return f"{100 * found[0]:.{decimals}f}–{100 * found[1]:.{decimals}f} %"
