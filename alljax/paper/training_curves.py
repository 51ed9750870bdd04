"""The paper's figures with our numbers: curves while training, and test accuracy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from alljax.paper import published, tested_figures
from alljax.paper.matching import Place, Reproduction, Scenario
from alljax.report import plots
from alljax.report.findings import BASELINES
from alljax.report.plots import BLUE, DASHES, INK, VERMILION
from alljax.report.tables import Figure

POINTS = 100
"""Points a curve has at most: more than a figure can show, and the page stays light."""

COLORS = {"adam": BLUE, "rmsprop": VERMILION}
CURVES: dict[str, tuple[str, Any]] = {"train": ("training cells", DASHES[1]), "val": ("held-out cells", DASHES[0])}
QUANTITIES = ("accuracy", "loss")
FIGURE_OF = {"A": 7, "B": 8}
WIDE = 10.5
"""Inches of a figure that takes the page's whole width."""

Curve = Mapping[str, np.ndarray]


def all_pictures(found: Reproduction) -> list[Figure]:
    """Returns Figures 7 to 9, confusion matrices and ROC curves, those for which the study has a cell."""
    pictures: list[Figure] = []
    for scenario in found.scenarios:
        read = {
            place: mean_curves(found.study.history(name))
            for place, name in found.names.items()
            if place[0] == scenario.letter and found.result(place)
        }
        if read:
            pictures += [panels(found, scenario, read), overlaid(found, scenario, read)]
    if any(map(found.result, found.names)):
        pictures.append(bars(found))
        if len(found.study.classes) == 2:
            pictures += [tested_figures.confusions(found), tested_figures.rocs(found)]
    return pictures


def mean_curves(history: Curve) -> Curve:
    """Returns a cell's curves as means over folds and seeds, one value an epoch, at most `POINTS` epochs.

    Args:
        history: of `finished.read_history`.
    """
    epochs, inverse = np.unique(history["epoch"], return_inverse=True)
    count = np.bincount(inverse)
    kept = np.unique(np.linspace(0, len(epochs) - 1, min(POINTS, len(epochs))).round().astype(int))
    names = [f"{side}_{quantity}" for side in CURVES for quantity in QUANTITIES]
    return {"epoch": epochs[kept]} | {name: (np.bincount(inverse, history[name]) / count)[kept] for name in names}


def panels(found: Reproduction, scenario: Scenario, read: Mapping[Place, Curve]) -> Figure:
    """Returns Figure 7 or 8 as printed: a panel a budget, accuracy above loss, both optimizers in each.

    Args:
        found: the study beside the paper.
        scenario: whose figure.
        read: curves of the cells that are there.
    """
    budgets, across = list(found.budgets), min(4, len(found.budgets))
    rows = -(-len(budgets) // across)
    with plots.subplots(2 * rows, across, (max(2.65 * across, 4.4), 4.0 * rows + 0.6)) as (figure, axes):
        for row, column in np.ndindex(rows, across):
            pair = axes[2 * row : 2 * row + 2, column]
            if row * across + column >= len(budgets):
                for unused in pair:
                    unused.set_visible(False)
                continue
            budget = budgets[row * across + column]
            own = {one: read.get((scenario.letter, one, budget)) for one in published.OPTIMIZERS}
            pair[0].set_title(f"{found.budgets[budget]} epochs", fontsize=10.5)
            for quantity, one in zip(QUANTITIES, pair, strict=True):
                for optimizer, curve in own.items():
                    if curve is not None:
                        _draw(one, curve, quantity, optimizer, 1.4)
                one.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, steps=[1, 2, 5, 10]))
                one.grid(axis="y")
                one.tick_params(labelsize=8.5)
                if column == 0:
                    one.set_ylabel(quantity)
                else:
                    one.tick_params(labelleft=False)  # one scale for all
                if not any(own.values()):
                    one.set_xticks([])
            if absent := [published.OPTIMIZER_NAMES[one] for one, curve in own.items() if curve is None]:
                pair[0].text(0.5, 0.5, f"{' and '.join(absent)}:\nno cell", transform=pair[0].transAxes, ha="center",
                             va="center", fontsize=9)  # fmt: skip
        for place in (0, 1):
            _same_scale([one for one in axes[place::2].ravel() if one.get_visible()])
        for one in axes[-1]:
            one.set_xlabel("epoch" if one.lines else "")
        _legend(figure, 4 if across > 2 else 2)
        number = FIGURE_OF[scenario.letter]
        caption = (
            f"Figure {number}, one panel a budget as printed: {scenario.network} while training, accuracy above loss; "
            f"means over folds and seeds.{_set_aside(found)}"
        )
        return plots.save(f"figure-{number}", caption, figure, curves=True)


def overlaid(found: Reproduction, scenario: Scenario, read: Mapping[Place, Curve]) -> Figure:
    """Returns all budgets of Figure 7 or 8 in one panel: the longest run, and what differs from its beginning.

    Args:
        found: the study beside the paper.
        scenario: whose figure.
        read: curves of the cells that are there.
    """
    apart = 0
    with plots.subplots(1, 2, (WIDE, 3.9)) as (figure, axes):
        for optimizer, color in COLORS.items():
            runs = [read[place] for place in found.names if place in read and place[:2] == (scenario.letter, optimizer)]
            runs.sort(key=lambda curve: -curve["epoch"][-1])
            for run in runs:
                longest = run is runs[0]
                repeats = not longest and _begins(runs[0], run)
                apart += not longest and not repeats
                for quantity, one in zip(QUANTITIES, axes[0], strict=True):
                    if not repeats:
                        _draw(one, run, quantity, optimizer, 1.6 if longest else 0.7, labeled=longest)
                    one.plot(run["epoch"][-1], run[f"val_{quantity}"][-1], "o", color=color, markersize=4)
        for quantity, one in zip(QUANTITIES, axes[0], strict=True):
            one.set(xlabel="epoch", ylabel=quantity)
            one.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
            one.grid(axis="y")
        _legend(figure, 4)
        number = FIGURE_OF[scenario.letter]
        how = (
            "The thin lines are the shorter budgets, runs of their own."
            if apart
            else "Every budget is the beginning of one run."
        )
        caption = (
            f"Figure {number} overlaid: {scenario.network}. A dot is where a budget ends. {how}{_set_aside(found)}"
        )
        return plots.save(f"figure-{number}-overlaid", caption, figure, curves=True)


def bars(found: Reproduction) -> Figure:
    """Returns Figure 9: test accuracy with intervals, beside the range that the paper's tables imply."""
    budgets, rules, dotted = list(found.budgets), found.baselines(), list[Any](DASHES[1:])
    lowest = [rule["accuracy"] for rule in rules.values()]
    with plots.subplots(len(found.scenarios), 1, (WIDE, 3.3 * len(found.scenarios) + 0.5)) as (figure, axes):
        for scenario, one in zip(found.scenarios, axes[:, 0], strict=True):
            for (group, budget), (side, optimizer) in (
                (group, side) for group in enumerate(budgets) for side in enumerate(published.OPTIMIZERS)
            ):
                place, color, left = (
                    (scenario.letter, optimizer, budget),
                    COLORS[optimizer],
                    group + 0.42 * side - 0.4,
                )
                low, high = published.implied(*place).accuracy
                one.bar(left + 0.27, (low + high) / 2, 0.13, fill=False, edgecolor=color, hatch="////", linewidth=0.6,
                        alpha=0.55)  # fmt: skip
                height = max(high - low, 0.0015)  # a range of one confusion matrix is a line still
                one.bar(left + 0.27, height, 0.13, bottom=(low + high - height) / 2, color=INK, linewidth=0)
                lowest.append(low)
                if (result := found.result(place)) is None:
                    one.text(left + 0.1, 0.2, "no cell", transform=one.get_xaxis_transform(), rotation=90, ha="center",
                             fontsize=8)  # fmt: skip
                    continue
                value, bounds = result["accuracy"], result.get("intervals", {}).get("accuracy")
                one.bar(left + 0.1, value, 0.2, color=color, alpha=0.75, linewidth=0)
                if bounds:
                    one.plot([left + 0.1] * 2, bounds, color=INK, linewidth=1.1)
                lowest.append(min([value, *(bounds or ())]))
            for rule, dashes in zip(rules, dotted, strict=False):
                one.axhline(rules[rule]["accuracy"], color=INK, linewidth=1, linestyle=dashes, alpha=0.7)
            title = f"{scenario.network}" + (f", in the part of {scenario.plays}" if scenario.stands_in else "")
            one.set_title(title, fontsize=10.5)
            one.set_xticks(range(len(budgets)), [str(found.budgets[budget]) for budget in budgets])
            one.set(ylabel="test accuracy", xlim=(-0.55, len(budgets) - 0.45))
            one.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            one.grid(axis="y")
            one.set_axisbelow(True)
        floor = max(math.floor(20 * min(lowest) - 0.2) / 20, 0.0)
        tops = [patch.get_y() + patch.get_height() for one in axes[:, 0] for patch in one.patches]
        tops += [line.get_ydata()[-1] for one in axes[:, 0] for line in one.lines]
        for one in axes[:, 0]:
            one.set_ylim(floor, min(1.0, math.ceil(20 * max(tops) + 0.1) / 20))
        axes[-1, 0].set_xlabel("epochs")
        handles: list[Any] = [
            Patch(color=color, alpha=0.75, linewidth=0, label=f"{published.OPTIMIZER_NAMES[name]}, ours, with interval")
            for name, color in COLORS.items()
        ]
        handles.append(Patch(fill=False, edgecolor=INK, hatch="////", linewidth=0.6, label="published: implied range"))
        handles += [
            Line2D([], [], color=INK, linewidth=1, linestyle=dashes, alpha=0.7, label=BASELINES.get(rule, rule))
            for rule, dashes in zip(rules, dotted, strict=False)
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=9)
        caption = (
            f"Figure 9: test accuracy. The bars begin at {floor:.0%}. Hatched: the paper's, whose numbers are not "
            "printed; the thick end is the range that Tables 3 to 6 leave."
        )
        return plots.save("figure-9", caption, figure)


def _draw(axes: Axes, curve: Curve, quantity: str, optimizer: str, width: float, labeled: bool = True) -> None:
    """Draws a cell's two curves; the page reads out those that are labeled."""
    for side, (label, dashes) in CURVES.items():
        marker, name = "o" if len(curve["epoch"]) == 1 else "", f"{published.OPTIMIZER_NAMES[optimizer]}, {label}"
        axes.plot(curve["epoch"], curve[f"{side}_{quantity}"], color=COLORS[optimizer], linestyle=dashes,
                  linewidth=width, marker=marker, markersize=3, label=name if labeled else None)  # fmt: skip


def _set_aside(found: Reproduction) -> str:
    """Says whose curves the held-out ones are, where they are not those of the tested cells."""
    aside = any(found.study.settings(name)["split.validation"] for name in found.names.values())
    return " The held-out cells of the curves were set aside for validation; none of them is tested." if aside else ""


def _begins(longest: Curve, other: Curve) -> bool:
    """Says whether a curve is the beginning of another, where both have the same epochs drawn."""
    shared = np.isin(longest["epoch"], other["epoch"])
    own = np.isin(other["epoch"], longest["epoch"])
    return all(np.allclose(longest[key][shared], other[key][own], rtol=1e-6, equal_nan=True) for key in other)


def _same_scale(axes: Sequence[Axes]) -> None:
    ends = np.array([one.get_ylim() for one in axes if one.lines])
    if len(ends):
        for one in axes:
            one.set_ylim(ends[:, 0].min(), ends[:, 1].max())


def _legend(figure: Any, columns: int) -> None:
    handles = [
        Line2D([], [], color=color, linestyle=dashes, label=f"{published.OPTIMIZER_NAMES[optimizer]}, {label}")
        for optimizer, color in COLORS.items()
        for label, dashes in CURVES.values()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=9)
