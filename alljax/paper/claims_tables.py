"""What the paper says of Tables 1-6, checked by arithmetic on them."""

import itertools
from collections.abc import Iterator

import numpy as np

from alljax.errors import plural
from alljax.paper import published as published
from alljax.paper.published import BUDGETS, KEYS, METRICS, OPTIMIZER_NAMES, OPTIMIZERS, SCENARIOS, Check, Key, Paper


def best_training(paper: Paper) -> Iterator[Check]:
    """Looks where ResNet50's training accuracy is highest."""
    for optimizer in OPTIMIZERS:
        column = paper.training["B", optimizer]
        best = BUDGETS[int(np.argmax(column))]
        yield Check(
            f"Section 3.1, Table 2, {OPTIMIZER_NAMES[optimizer]}",
            "the best training accuracy of ResNet50 is that at 100 epochs, with both optimizers",
            f"{max(column):.2f} % at {best} epochs; {column[-1]:.2f} % at {BUDGETS[-1]}",
            "largest number of the column",
            best == BUDGETS[-1],
        )


def training_falls(paper: Paper) -> Check:
    """Looks where VGG16's training accuracy falls with more epochs."""
    falls = {optimizer: _falls(paper.training["A", optimizer]) for optimizer in OPTIMIZERS}
    return Check(
        "Section 3.1, Table 1",
        "more epochs, higher training accuracy; the exception is RMSprop at 40 epochs",
        "it falls with " + _listed(falls),
        "differences between neighboring rows",
        list(falls["rmsprop"]) == [40] and not falls["adam"],
    )


def regular_training(paper: Paper) -> Check:
    """Looks with which optimizer ResNet50's training accuracy rises more regularly."""
    falls = {optimizer: _falls(paper.training["B", optimizer]) for optimizer in OPTIMIZERS}
    return Check(
        "Section 3.1, Table 2",
        "ResNet50's training accuracy rises regularly with RMSprop, compared to Adam",
        "it falls with " + _listed(falls),
        "differences between neighboring rows",
        len(falls["rmsprop"]) < len(falls["adam"]),
    )


def adam_superior(paper: Paper) -> Iterator[Check]:
    """Compares the optimizers' training accuracies, and their best, in each scenario."""
    for scenario, network in SCENARIOS.items():
        adam, rmsprop = (paper.training[scenario, optimizer] for optimizer in OPTIMIZERS)
        ahead = [budget for budget, one, other in zip(BUDGETS, adam, rmsprop, strict=True) if other > one]
        yield Check(
            f"Conclusion, Table {published.TRAINING_TABLES[scenario]}, {network}",
            "in each scenario the model with Adam is superior",
            f"RMSprop's training accuracy is higher in {len(ahead)} of {len(BUDGETS)} rows"
            + (f" ({', '.join(map(str, ahead))} epochs)" if ahead else "")
            + f"; best {max(adam):.2f} % with Adam, {max(rmsprop):.2f} % with RMSprop",
            "row by row, and the largest number of each column",
            2 * len(ahead) < len(BUDGETS) and max(adam) > max(rmsprop),
        )


def adam_faster(paper: Paper) -> Iterator[Check]:
    """Compares the training accuracies after few epochs."""
    for scenario, network in SCENARIOS.items():
        adam, rmsprop = (paper.training[scenario, optimizer][:2] for optimizer in OPTIMIZERS)
        yield Check(
            f"Section 3.1 and conclusion, Table {published.TRAINING_TABLES[scenario]}, {network}",
            "Adam learns faster than RMSprop",
            "; ".join(
                f"after {budget} epochs {one:.2f} % with Adam, {other:.2f} % with RMSprop"
                for budget, one, other in zip(BUDGETS, adam, rmsprop, strict=False)
            ),
            "training accuracy in the first two rows",
            all(one > other for one, other in zip(adam, rmsprop, strict=True)),
        )


def impossible_f1(paper: Paper) -> Iterator[Check]:
    """Yields the F1 that no confusion matrix has together with the recall and precision beside it."""
    for key, budget in itertools.product(KEYS, BUDGETS):
        found = published.implied(*key, budget, paper)
        if not found.exact:
            recall, precision, f1 = published.row(paper, key, budget)
            others = np.array([published.implied(*key, budget, paper, size).f1 for size in published.likely_all()])
            ends = others[:, 0].min(), others[:, 1].max()
            yield Check(
                f"Table {published.TESTED_TABLES[key]}, {budget} epochs",
                f"recall {recall:.2f}, precision {precision:.2f}, F1 {f1:.2f}",
                f"with this recall and precision F1 is {found.f1[0]:.3f} to {found.f1[1]:.3f}",
                f"all confusion matrices of {published.TESTED_ALL:,} ALL and {published.TESTED_HEM} HEM cells with "
                f"that macro recall and precision; {ends[0]:.3f} to {ends[1]:.3f} if the split was not stratified",
                False,
            )


def means(paper: Paper) -> Iterator[Check]:
    """Yields the "Totals" that are not the mean of their column."""
    for key, metric in itertools.product(KEYS, METRICS):
        printed = paper.means[key][metric]
        mean = float(np.mean(paper.tested[key][metric]))
        if abs(mean - printed) > 0.005 + 1e-9:
            yield Check(
                f"Table {published.TESTED_TABLES[key]}, Totals, {metric}",
                f"{printed:.2f}",
                f"{mean:.4f}, so {mean:.2f}",
                f"mean of the column; numbers rounded to two decimals allow {mean - 0.005:.4f} to {mean + 0.005:.4f}"
                + (", so the authors may have averaged unrounded ones" if abs(mean - printed) <= 0.010 + 1e-9 else ""),
                False,
            )


def corrected_f1(paper: Paper) -> Check:
    """Replaces impossible F1 by what they can be, and looks whether Adam still leads in the mean F1 of VGG16."""
    adam, rmsprop = (
        np.mean([_possible_f1(paper, ("A", optimizer), budget) for budget in BUDGETS], axis=0)
        for optimizer in OPTIMIZERS
    )
    printed = [paper.means["A", optimizer]["f1"] for optimizer in OPTIMIZERS]
    return Check(
        "Section 3.2, on Tables 3 and 4",
        f"mean F1 {printed[0]:.2f} with Adam and {printed[1]:.2f} with RMSprop",
        f"{adam[0]:.3f}–{adam[1]:.3f} with Adam and {rmsprop[0]:.3f}–{rmsprop[1]:.3f} with RMSprop",
        "means of the F1 as printed, those that are impossible replaced by the range they must lie in; rounding of the "
        "others moves a mean by 0.005 at most",
        all(
            low - 0.005 <= mean + 1e-9 and mean - 1e-9 <= high + 0.005
            for (low, high), mean in zip((adam, rmsprop), printed, strict=True)
        ),
    )


def harmonic_mean(paper: Paper) -> Check:
    """Compares formula (4), applied to the averaged precision and recall, with the averaged F1 of the tables."""
    rows = [published.row(paper, key, budget) for key, budget in itertools.product(KEYS, BUDGETS)]
    recall, precision, f1 = np.array(rows).T
    gap = _f1(recall, precision) - f1
    # Both grow with either, so rounding moves formula (4) at most this far.
    beyond = np.where(gap > 0, _f1(recall - 0.005, precision - 0.005) - f1, f1 - _f1(recall + 0.005, precision + 0.005))
    outside = int((beyond > 0.005 + 1e-9).sum())
    below = int((f1 < np.minimum(recall, precision)).sum())
    return Check(
        "Formula (4), Tables 3–6",
        "F1 = 2 · recall · precision / (recall + precision)",
        f"of the printed recall and precision this is {gap.mean():.3f} above the printed F1 on average and "
        f"{gap.max():.3f} at most; in {outside} of {len(rows)} rows rounding cannot explain it, in {below} F1 is below "
        "both",
        "formula (4) on each row; the tables hold means over both classes, and the mean of F1 is not the F1 of means",
        not outside,
    )


def superior(paper: Paper) -> Check:
    """Looks whether VGG16 is ahead of ResNet50 in every test, as Section 3.2 says."""
    behind = [
        f"{OPTIMIZER_NAMES[optimizer]}, {budget} epochs: {metric} {first:.2f} against {second:.2f}"
        for optimizer in OPTIMIZERS
        for metric in METRICS
        for budget, first, second in zip(
            BUDGETS, paper.tested["A", optimizer][metric], paper.tested["B", optimizer][metric], strict=True
        )
        if first <= second
    ]
    return Check(
        "Section 3.2",
        "all model tests of VGG16 get superior results to ResNet50's",
        "; ".join(behind) or "so it is in all rows",
        "Tables 3 and 5, 4 and 6, row by row",
        not behind,
    )


CHECKS = (
    best_training, training_falls, regular_training, adam_superior, adam_faster, impossible_f1, means, corrected_f1,
    harmonic_mean, superior,
)  # fmt: skip


def _falls(column: tuple[float, ...]) -> dict[int, tuple[float, float]]:
    """Returns where a column falls: the later number of epochs, and both numbers."""
    pairs = zip(BUDGETS[1:], column, column[1:], strict=False)
    return {budget: (before, after) for budget, before, after in pairs if after < before}


def _listed(falls: dict[str, dict[int, tuple[float, float]]]) -> str:
    return "; with ".join(
        f"{OPTIMIZER_NAMES[name]} {plural(len(where), 'time')}"
        + (": " if where else "")
        + ", ".join(f"at {budget} ({before:.2f} → {after:.2f})" for budget, (before, after) in where.items())
        for name, where in falls.items()
    )


def _f1(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    mean: np.ndarray = 2 * recall * precision / (recall + precision)
    return mean


def _possible_f1(paper: Paper, key: Key, budget: int) -> tuple[float, float]:
    found, f1 = published.implied(*key, budget, paper), published.row(paper, key, budget)[2]
    return (f1, f1) if found.exact else found.f1
