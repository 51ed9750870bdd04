"""Figures of calibration, predictive values and robustness."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alljax.report.plots import DASHES, INK, PALETTE, save, subplots
from alljax.report.tables import Figure

IDEAL: dict[str, Any] = {"color": INK, "alpha": 0.35, "linewidth": 0.8, "linestyle": DASHES[2]}


def reliability_diagram(curves: Mapping[str, Mapping[str, Any]], probability: str) -> Figure:
    """Returns the observed share over the predicted probability; `curves` are those of ``calibration`` by label."""
    sizes = sorted({round(one["count"]) for curve in curves.values() for one in curve["bins"]})
    images = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    with subplots() as (figure, grid):
        axes = grid[0, 0]
        axes.plot([0, 1], [0, 1], **IDEAL)
        for (label, curve), color, marker in zip(curves.items(), PALETTE, "osD^vP", strict=False):
            means, observed = ([one[key] for one in curve["bins"]] for key in ("mean", "observed"))
            axes.plot(means, observed, marker=marker, color=color, label=label, markersize=5)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=probability, ylabel="observed share")
        axes.grid()
        axes.legend(loc="upper left", fontsize=9)
        return save("calibration", f"Reliability diagram; each point is the mean of {images} images", figure)


def predictive_values(points: Mapping[str, Mapping[str, Any]], positive: str) -> Figure:
    """Returns PPV and NPV over the prevalence of the positive class; `points` are ``ppv_npv`` by operating point."""
    with subplots(1, 2, (9.6, 4.2)) as (figure, grid):
        for axes, key in zip(grid[0], ("ppv", "npv"), strict=True):
            for (label, values), color, dashes in zip(points.items(), PALETTE, itertools.cycle(DASHES), strict=False):
                at, bounds = values["prevalence"], [pair or (np.nan, np.nan) for pair in values["intervals"][key]]
                axes.plot(at, np.array(values[key], float), label=label, color=color, linestyle=dashes)
                axes.fill_between(at, *np.transpose(bounds), color=color, alpha=0.1, linewidth=0)
            axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=f"prevalence of {positive}", ylabel=key.upper())
            axes.grid()
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=9)
        return save(
            "predictive-values", "Predictive values with intervals over the prevalence, by operating point", figure
        )


def robustness_curves(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, str]) -> Figure:
    """Returns the ``differences`` of robustness.json over the strength of each perturbation, with their intervals."""
    groups = [list(group) for _, group in itertools.groupby(rows[1:], lambda row: row["perturbation"])]
    with subplots(-(-len(groups) // 4), 4, (11.6, 0.4 + 2.7 * -(-len(groups) // 4))) as (figure, grid):
        for axes in grid.flat[len(groups) :]:
            axes.set_visible(False)
        for axes, group in zip(grid.flat, groups, strict=False):
            axes.sharey(grid[0, 0])
            axes.axhline(0, **IDEAL)
            found, at = [row["differences"] for row in group], np.arange(len(group))
            for number, (metric, label) in enumerate(metrics.items()):
                values = np.array([one[metric] for one in found])
                ends = np.array([one["intervals"].get(metric, (one[metric], one[metric])) for one in found]).T
                look = {"color": PALETTE[number], "marker": "os"[number], "markersize": 5, "label": label}
                axes.errorbar(at + 0.12 * number, values, np.abs(ends - values), **look)
            axes.set_xticks(at, [f"{row['strength']:g}" for row in group])
            axes.set_title(group[0]["perturbation"], fontsize=10.5, loc="left")
            axes.set_xlabel(group[0]["unit"], fontsize=9)
            axes.grid(axis="y")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=len(metrics))
        caption = "Metrics minus those of the same images unperturbed, over the strength of the perturbation"
        return save("robustness", caption, figure)
