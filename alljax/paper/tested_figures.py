"""The confusion matrices and ROC curves that the paper leaves out, as small multiples."""

import textwrap

import numpy as np
from matplotlib.patches import Rectangle
from sklearn.metrics import roc_curve

from alljax.paper import published
from alljax.paper.matching import Place, Reproduction
from alljax.report import plots
from alljax.report.plots import BLUE, DASHES, INK, VERMILION
from alljax.report.tables import Figure, format_interval, format_value

COLORS = {"adam": BLUE, "rmsprop": VERMILION}
POINTS = 101
"""False positive rates at which a ROC curve is drawn."""


def confusions(found: Reproduction) -> Figure:
    """Returns the confusion matrix of each network and optimizer after its longest budget; two classes."""
    places, classes = _longest(found), found.study.classes
    with plots.subplots(1, len(places), (0.5 + 2.5 * len(places), 2.7)) as (figure, axes):
        for place, one in zip(places, axes[0], strict=True):
            counts = np.asarray(found.study.metrics["trials"][found.names[place]]["confusion"], np.float64)
            shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            for row, column in np.ndindex(*counts.shape):
                box = Rectangle(
                    (column, row), 1, 1, facecolor=BLUE, alpha=0.04 + 0.5 * shares[row, column], linewidth=0
                )
                one.add_patch(box)
                text = f"{counts[row, column]:,.0f}\n{shares[row, column]:.0%}"
                one.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=9.5, linespacing=1.4)
            one.set_title(_title(found, place), fontsize=9.5)
            one.set_xticks([0.5, 1.5], classes, fontsize=9)
            one.set_yticks([0.5, 1.5], classes if one is axes[0, 0] else ["", ""], fontsize=9)
            one.set(xlim=(0, 2), ylim=(2, 0), xlabel="called", ylabel="truly" if one is axes[0, 0] else "")
            one.tick_params(length=0)
            one.spines[:].set_visible(False)
        caption = "Confusion matrices after the longest budget, which the paper leaves out; means over seeds."
        return plots.save("confusion-matrices", caption, figure)


def rocs(found: Reproduction) -> Figure:
    """Returns the ROC curves of each network and optimizer after its longest budget; two classes."""
    places, grid = _longest(found), np.linspace(0, 1, POINTS)
    with plots.subplots(1, len(places), (0.5 + 2.5 * len(places), 3.1)) as (figure, axes):
        for place, one in zip(places, axes[0], strict=True):
            tested, color = found.predictions(place), COLORS[place[1]]
            positive = tested.labels == 1
            one.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8, linestyle=DASHES[2])
            if 0 < positive.sum() < len(positive):
                curves = [roc_curve(positive, seed[:, 1])[:2] for seed in tested.probabilities]
                rates = np.stack([np.interp(grid, wrong, right) for wrong, right in curves])
                if 1 < len(rates) <= 10:
                    one.plot(grid, rates.T, color=color, alpha=0.3, linewidth=0.6)
                one.plot(np.append(0, grid), np.append(0, rates.mean(0)), color=color, linewidth=1.5,
                         label="true positive rate")  # fmt: skip
                called = tested.probabilities.argmax(2) == 1
                one.plot(called[:, ~positive].mean(), called[:, positive].mean(), "o", color=color, markersize=4.5)
            result = found.study.metrics["trials"][found.names[place]]
            area = " ".join(filter(None, (format_value("auc", result["auc"]), format_interval("auc", result))))
            one.text(0.98, 0.04, f"AUC {area}", ha="right", fontsize=8.5)
            one.set_title(_title(found, place), fontsize=9.5)
            one.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel="false positive rate", aspect="equal")
            one.set_ylabel("true positive rate" if one is axes[0, 0] else "")
            one.tick_params(labelsize=8.5)
            one.grid()
        caption = (
            f"ROC curves after the longest budget, “{found.study.classes[1]}” positive. The dot is where the likelier "
            "class is called; faint lines are seeds."
        )
        return plots.save("roc-curves", caption, figure, curves=True)


def _longest(found: Reproduction) -> list[Place]:
    """Returns each network and optimizer's longest budget that is there."""
    there = [place for place in found.names if found.result(place)]
    return [
        max((place for place in there if place[:2] == key), key=lambda place: place[2])
        for key in published.KEYS
        if any(place[:2] == key for place in there)
    ]


def _title(found: Reproduction, place: Place) -> str:
    scenario = next(one for one in found.scenarios if one.letter == place[0])
    name = "\n".join(textwrap.wrap(scenario.network, 28))
    return f"{name}\n{published.OPTIMIZER_NAMES[place[1]]}, {found.budgets[place[2]]} epochs"
