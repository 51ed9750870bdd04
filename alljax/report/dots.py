"""A metric with its interval against one, two or three settings."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from alljax.evaluation.metrics import METRICS
from alljax.report import plots
from alljax.report.setting_names import Factor
from alljax.report.tables import Figure
from alljax.study.results import Study

WIDE = 20.0
"""Numbers that span more than this factor stand on a logarithmic axis, joined by lines."""

MOST_LINES, MOST_PANELS, MOST_PLACES = 12, 9, 120
"""Values of the second and of the third setting, and dots in all, beyond which a figure cannot be read."""

MARKERS = "osD^vP"


@dataclass(frozen=True)
class _Dot:
    place: tuple[int, ...]
    value: float
    low: float
    high: float
    leaky: bool


def picture(study: Study, varied: Sequence[Factor]) -> Figure | None:
    """Returns dots with intervals: the first setting along the axis, the second as colors, the third as panels.

    A numeric setting that spans more than a factor of `WIDE` goes onto the axis, wherever it stands.

    Args:
        study: the study.
        varied: one to three settings.

    Returns:
        The picture; None where the settings have too many values.
    """
    varied = sorted(varied, key=lambda factor: not _logarithmic(factor))  # stable: else the first stays first
    axis, *rest = varied
    lines, panels = (rest[number].labels if len(rest) > number else ("",) for number in (0, 1))
    if len(lines) > MOST_LINES or len(panels) > MOST_PANELS or len(axis.rows) * len(lines) > MOST_PLACES:
        return None
    found = _dots(study, varied)
    draw = _against_numbers if _logarithmic(axis) else _against_names
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    height = 3.6 if _logarithmic(axis) else 0.9 + len(axis.rows) * (0.16 + 0.19 * len(lines))
    by = METRICS[study.ranking.metric]
    width = 6.4 if across == 1 else 1.4 + 2.9 * across
    with plots.subplots(down, across, (width, 0.5 + down * max(height, 1.7))) as (figure, grid):
        for number, axes in enumerate(grid.flat):
            if number >= len(panels):
                axes.set_visible(False)
                continue
            here = [dot for dot in found if len(dot.place) < 3 or dot.place[2] == number]
            draw(axes, axis, [[dot for dot in here if (*dot.place, 0)[1] == line] for line in range(len(lines))], lines)
            if len(rest) > 1:
                axes.set_title(f"{rest[1].name} {panels[number]}", fontsize=10.5, loc="left")
            if not _logarithmic(axis) and number % across:
                axes.set_yticklabels([])
        _share(grid.flat[: len(panels)], _logarithmic(axis))
        _name_axes(figure, axis, by)
        _legend(figure, rest[0].name if rest else "", lines, any(dot.leaky for dot in found))
        words = f"{by} with {study.config['evaluation.level']:.0%} intervals by " + ", ".join(
            factor.name for factor in varied
        )
        caption = f"{words[0].upper()}{words[1:]}"
        return plots.save("ablation", caption, figure, curves=_logarithmic(axis))


def _dots(study: Study, varied: Sequence[Factor]) -> list[_Dot]:
    trials = study.metrics["trials"]
    by, leaky = study.ranking.metric, study.ranking.leaky
    dots = []
    for name, result in trials.items():
        places = [factor.place(study.settings(name)) for factor in varied]
        place = tuple(one for one in places if one is not None)
        if len(place) == len(places):
            low, high = result.get("intervals", {}).get(by, (np.nan, np.nan))
            dots.append(_Dot(place, result[by], low, high, name in leaky))
    return dots


def _logarithmic(factor: Factor) -> bool:
    numbers = factor.numbers
    return numbers is not None and all(one > 0 for one in numbers) and max(numbers) > WIDE * min(numbers)


def _against_names(axes: Axes, axis: Factor, lines: list[list[_Dot]], labels: Sequence[str]) -> None:
    """Draws categories from top to bottom, one below the other, the lines of a category apart."""
    for line, dots in enumerate(lines):
        aside = (line - (len(lines) - 1) / 2) * 0.74 / max(1, len(lines))
        for dot in dots:
            _draw_dot(axes, dot, line, dot.place[0] + aside, upright=False)
    axes.set_yticks(
        range(len(axis.labels)), ["\n".join(textwrap.wrap(plots.shorten(label, 66), 24)) for label in axis.labels]
    )
    axes.set_ylim(len(axis.labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _against_numbers(axes: Axes, axis: Factor, lines: list[list[_Dot]], labels: Sequence[str]) -> None:
    """Draws numbers on a logarithmic axis, the dots of a line joined."""
    numbers = np.array(axis.numbers)
    axes.set_xscale("log")
    aside = (numbers.max() / numbers.min()) ** (0.012)
    for line, dots in enumerate(lines):
        dots = sorted(dots, key=lambda dot: numbers[dot.place[0]])
        shift = aside ** (line - (len(lines) - 1) / 2)
        at = [numbers[dot.place[0]] for dot in dots]
        for dot, where in zip(dots, at, strict=True):
            _draw_dot(axes, dot, line, where * shift, upright=True)
        color, dashes, _ = _look(line)
        label = labels[line] or axis.name
        axes.plot(at, [dot.value for dot in dots], color=color, linestyle=dashes, linewidth=1.3, label=label)
    if len(numbers) <= 8:
        ticks = np.argsort(numbers)
        axes.set_xticks(numbers[ticks], [axis.labels[place] for place in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")


def _draw_dot(axes: Axes, dot: _Dot, line: int, where: float, upright: bool) -> None:
    color, _, marker = _look(line)
    ends, at = [dot.low, dot.high], [where, where]
    axes.plot(*((at, ends) if upright else (ends, at)), color=color, linewidth=1.4, alpha=0.75)
    face = "none" if dot.leaky else color
    point = ([where], [dot.value]) if upright else ([dot.value], [where])
    axes.plot(*point, marker, color=color, markerfacecolor=face, markersize=5)


def _look(line: int) -> tuple[str, Any, str]:
    """Returns color, dashes and marker of a value of the second setting: no two lines have all three."""
    colors, dashes = len(plots.PALETTE), len(plots.DASHES)
    return (
        plots.PALETTE[line % colors],
        plots.DASHES[(line + line // colors) % dashes],
        MARKERS[line % len(MARKERS)],
    )


def _share(panels: Sequence[Axes], upright: bool) -> None:
    """Gives all panels the same limits of the metric."""
    limits = np.array([axes.get_ylim() if upright else axes.get_xlim() for axes in panels])
    for axes in panels:
        (axes.set_ylim if upright else axes.set_xlim)(limits[:, 0].min(), limits[:, 1].max())


def _name_axes(figure: Any, axis: Factor, metric: str) -> None:
    across, up = (axis.name, metric) if _logarithmic(axis) else (metric, axis.name)
    figure.supxlabel(across, fontsize=10.5)
    if len(axis.said) == 1:  # values of several settings say themselves which they are of
        figure.supylabel(up, fontsize=10.5)


def _legend(figure: Any, title: str, labels: Sequence[str], leaky: bool) -> None:
    handles = []
    for line, label in enumerate(labels):
        if len(labels) > 1:
            color, dashes, marker = _look(line)
            handles.append(Line2D([], [], color=color, linestyle=dashes, marker=marker, markersize=5, label=label))
    if leaky:
        handles.append(
            Line2D([], [], color=plots.INK, marker="o", markerfacecolor="none", linestyle="", label="its test leaks")
        )
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)), title=title or None,
                      alignment="left", fontsize=9, title_fontsize=9)  # fmt: skip
