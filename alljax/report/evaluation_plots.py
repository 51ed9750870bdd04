"""Figures of calibration, predictive values and robustness."""

from collections.abc import Mapping, Sequence
from typing import Any

from pandas import DataFrame

from alljax.report.plots import BLUE, DASHES, INK, PALETTE, VERMILION, save, subplots
from alljax.report.tables import Figure

IDEAL: dict[str, Any] = {"color": INK, "alpha": 0.35, "linewidth": 0.8, "linestyle": DASHES[2]}


def reliability_diagram(calibration: Mapping[str, Any], probability: str) -> Figure:
    """Returns the observed share over the predicted probability, before and after temperature scaling.

    Args:
        calibration: from evaluation.json.
        probability: of what, for the axis.
    """
    curves = {"as trained": (calibration, VERMILION, "o-")}
    if after := calibration.get("after_temperature"):
        curves["after temperature scaling"] = after, BLUE, "s--"
    sizes = sorted({round(one["count"]) for one in calibration["bins"]})
    images = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    with subplots() as (figure, grid):
        axes = grid[0, 0]
        axes.plot([0, 1], [0, 1], **IDEAL)
        for label, (found, color, style) in curves.items():
            means, observed = ([one[key] for one in found["bins"]] for key in ("mean", "observed"))
            axes.plot(means, observed, style, color=color, label=label, markersize=5)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=probability, ylabel="observed share")
        axes.grid()
        axes.legend(loc="upper left", fontsize=9)
        return save("calibration", f"Reliability diagram; each point is the mean of {images} images", figure)


def predictive_values(points: Mapping[str, Mapping[str, Sequence[float]]], positive: str) -> Figure:
    """Returns PPV and NPV over the prevalence of the positive class, one line per operating point by its name."""
    with subplots(1, 2, (9.6, 4.2)) as (figure, grid):
        for axes, key in zip(grid[0], ("ppv", "npv"), strict=True):
            for number, (label, values) in enumerate(points.items()):
                color, dashes = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
                axes.plot(values["prevalence"], values[key], label=label, color=color, linestyle=dashes)
            axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=f"prevalence of {positive}", ylabel=key.upper())
            axes.grid()
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=9)
        return save("predictive-values", "Predictive values over the prevalence, by operating point", figure)


def robustness_curves(table: DataFrame, metrics: Mapping[str, str]) -> Figure:
    """Returns the differences to the unperturbed images over the strength, with their intervals.

    Args:
        table: robustness.csv.
        metrics: display names of the metrics that are drawn.
    """
    groups = list(table[table["severity"] > 0].groupby(["perturbation", "unit"], sort=False))
    columns = 4
    rows = -(-len(groups) // columns)
    with subplots(rows, columns, (2.9 * columns, 2.7 * rows + 0.4)) as (figure, grid):
        for axes in grid.flat[len(groups) :]:
            axes.set_visible(False)
        for axes, ((name, unit), group) in zip(grid.flat, groups, strict=False):
            axes.sharey(grid[0, 0])
            axes.axhline(0, **IDEAL)
            for number, (metric, label) in enumerate(metrics.items()):
                value, low, high = (group[f"{metric}_difference{end}"] for end in ("", "_low", "_high"))
                look = {"color": PALETTE[number], "marker": "os^"[number], "markersize": 5, "label": label}
                axes.errorbar(group["severity"] + 0.12 * number, value, (value - low, high - value), **look)
            axes.set_xticks(group["severity"], [f"{strength:g}" for strength in group["strength"]])
            axes.set_title(name, fontsize=10.5, loc="left")
            axes.set_xlabel(unit, fontsize=9)
            axes.grid(axis="y")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=len(metrics))
        caption = "Metrics minus those of the same images unperturbed, over the strength of the perturbation"
        return save("robustness", caption, figure)
