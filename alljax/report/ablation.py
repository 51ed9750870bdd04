"""The report's section on the settings that a study varies: a figure and a table with paired differences."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from alljax.errors import plural
from alljax.evaluation.metrics import METRICS
from alljax.report import findings, plots, setting_names
from alljax.report.setting_names import VariedSetting
from alljax.report.tables import (
    Figure,
    Section,
    Table,
    Value,
    format_difference,
    format_difference_bounds,
    metric_value,
)
from alljax.study.results import Study

WIDE = 20.0
"""Numbers that span more than this factor are drawn on a logarithmic axis."""

MOST_LINES, MOST_PANELS = 12, 9
"""Values of the second and third setting above which no figure is drawn."""

MARKERS = "osD^vP"


def sections(study: Study) -> list[Section]:
    """Returns the section; empty where no setting differs between models.

    Args:
        study: the study; the predictions of all its trials are read.
    """
    varied = setting_names.varied_settings(study)
    if not varied or len(study.metrics["trials"]) < 2:
        return []
    ranking = study.ranking
    best = ranking.best
    value = metric_value(ranking.metric, study.metrics["trials"][best])
    described = setting_names.describe(varied, study.settings(best))
    paragraphs = [f"Best: {described}; {METRICS[ranking.metric]} {value.text} {value.note}."]
    if ranking.order[1] not in ranking.leaky:
        paragraphs.append(findings.lead(study, ranking.order[1]))
    unpaired = sum(not ranking.differences[name].paired for name in ranking.order[1:] if name not in ranking.leaky)
    if unpaired:
        paragraphs.append(
            f"{plural(unpaired, 'model')} tested on other images than the best one: only the models' own intervals can "
            "be compared, which is less sensitive."
        )
    parts: list[Table | Figure] = [_table(study, varied)]
    if figure := _figure(study, varied):
        parts.insert(0, figure)
    else:
        paragraphs.append("No figure: too many settings or values.")
    names = ", ".join(setting.name for setting in varied)
    return [Section("effects", f"Effect of the settings: {names}", tuple(paragraphs), tuple(parts))]


def _table(study: Study, varied: Sequence[VariedSetting]) -> Table:
    trials, ranking = study.metrics["trials"], study.ranking
    metrics = list(dict.fromkeys([ranking.metric, "accuracy", "macro_f1"]))
    rows = []
    for name in ranking.order:
        settings, result = study.settings(name), trials[name]
        row = [_setting(setting, settings) for setting in varied]
        if name in ranking.leaky:
            row[0] = Value(row[0].text, row[0].number, "leaky test")
        scores = [metric_value(key, result) for key in metrics]
        deviation = result["std"][ranking.metric]
        spread = Value("–" if deviation is None else _unsigned(ranking.metric, deviation), deviation)
        rows.append((*row, scores[0], spread, *scores[1:], *_difference(study, name)))
    labels = [METRICS[key] for key in metrics]
    columns = (*(setting.name for setting in varied), labels[0], "sd over seeds", *labels[1:], "difference", "verdict")
    unit, level = trials[ranking.best]["interval_unit"], f"{study.config['evaluation.level']:.0%}"
    notes = (
        f"In brackets: {level} intervals over {unit}. Difference: {labels[0]} minus that of the best model, paired "
        f"bootstrap over {unit}; its intervals are simultaneous for all pairs (max-T), because the best model was "
        "selected from all.",
    )
    return Table("ablation", f"All models, sorted by {labels[0]}", columns, tuple(rows), notes=notes)


def _setting(setting: VariedSetting, settings: Any) -> Value:
    index = setting.index(settings)
    number = setting.numbers[index] if setting.numbers and index is not None else None
    return Value(setting.label(settings), number)


def _unsigned(metric: str, value: float) -> str:
    return format_difference(metric, value, unit=True).lstrip("+")


def _difference(study: Study, name: str) -> tuple[Value, Value]:
    """Returns the difference to the best model and the verdict."""
    ranking = study.ranking
    if name == ranking.best:
        return Value(""), Value("best")
    difference = ranking.differences[name]
    interval = difference.interval
    bounds = format_difference_bounds(ranking.metric, interval) if interval else ""
    number = Value(format_difference(ranking.metric, difference.value, unit=True), difference.value, bounds)
    if name in ranking.leaky:
        return number, Value("leaky test: not ranked")
    if not difference.paired:
        words = {True: "own intervals disjoint", False: "own intervals overlap", None: "no interval"}
        return number, Value(words[difference.disjoint], note="tested on other images")
    if interval is None:
        return number, Value("no interval")
    return number, Value("significantly worse" if difference.below else "not distinguishable")


def _figure(study: Study, varied: Sequence[VariedSetting]) -> Figure | None:
    """Returns points with intervals: one setting along the axis, the second as colors, the third as panels.

    A numeric setting that spans more than a factor of `WIDE` is on the axis; otherwise the first setting is.
    """
    axis, *rest = sorted(varied, key=lambda setting: not _logarithmic(setting))
    lines, panels = (rest[place].labels if len(rest) > place else ("",) for place in (0, 1))
    if len(rest) > 2 or len(lines) > MOST_LINES or len(panels) > MOST_PANELS:
        return None
    metric, ranking = METRICS[study.ranking.metric], study.ranking
    values = np.full((len(axis.rows), len(lines), len(panels), 3), np.nan)  # value, low, high
    leaky = np.zeros(values.shape[:3], bool)
    for name, result in study.metrics["trials"].items():
        indices = [setting.index(study.settings(name)) for setting in (axis, *rest)]
        if None not in indices:
            place = (*indices, 0, 0)[:3]
            value = result[ranking.metric]
            values[place] = value, *result.get("intervals", {}).get(ranking.metric, (value, value))
            leaky[place] = name in ranking.leaky
    upright, columns = _logarithmic(axis), min(len(panels), 3)
    rows = -(-len(panels) // columns)
    height = 3.6 if upright else max(1.7, 0.9 + len(axis.rows) * (0.16 + 0.19 * len(lines)))
    size = (6.4 if columns == 1 else 1.4 + 2.9 * columns, 0.5 + rows * height)
    with plots.subplots(rows, columns, size, share=True) as (figure, grid):
        for panel, axes in enumerate(grid.flat):
            if panel >= len(panels):
                axes.set_visible(False)
                continue
            for line in range(len(lines)):
                _draw(axes, axis, values[:, line, panel], leaky[:, line, panel], line, lines)
            axes.set_title(f"{rest[1].name} {panels[panel]}" if len(rest) > 1 else "", fontsize=10.5, loc="left")
            axes.tick_params(labelbottom=True)
        figure.supxlabel(axis.name if upright else metric, fontsize=10.5)
        figure.supylabel(metric if upright else axis.name, fontsize=10.5)
        _legend(figure, rest[0].name if rest else "", lines, bool(leaky.any()))
        by = ", ".join(setting.name for setting in varied)
        caption = f"{metric} with {study.config['evaluation.level']:.0%} intervals by {by}"
        return plots.save("ablation", caption, figure, curves=upright)


def _logarithmic(setting: VariedSetting) -> bool:
    numbers = setting.numbers
    return numbers is not None and all(number > 0 for number in numbers) and max(numbers) > WIDE * min(numbers)


def _draw(axes: Axes, axis: VariedSetting, points: Any, leaky: np.ndarray, line: int, labels: Sequence[str]) -> None:
    """Draws the points of a line: upright against numbers on a logarithmic axis and connected, else one row each."""
    color, dashes, marker = _look(line)
    offset, upright = line - (len(labels) - 1) / 2, _logarithmic(axis)
    values, low, high = points.T
    if upright:
        numbers = np.array(axis.numbers)
        order = np.argsort(numbers)
        at = numbers * (numbers.max() / numbers.min()) ** (0.012 * offset)
        axes.set_xscale("log")
        axes.vlines(at, low, high, color=color, linewidth=1.4, alpha=0.75)
        look = {"color": color, "linestyle": dashes, "label": labels[line] or axis.name}
        axes.plot(numbers[order], values[order], linewidth=1.3, **look)
        if len(numbers) <= 8:
            axes.set_xticks(numbers, axis.labels)
            axes.minorticks_off()
    else:
        at = np.arange(len(values)) + offset * 0.74 / len(labels)
        axes.hlines(at, low, high, color=color, linewidth=1.4, alpha=0.75)
        names = ["\n".join(textwrap.wrap(plots.shorten(name, 66), 24)) for name in axis.labels]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="y" if upright else "x")
    x, y = (at, values) if upright else (values, at)
    for rows, face in ((~leaky, color), (leaky, "none")):
        axes.plot(x[rows], y[rows], marker, color=color, markerfacecolor=face, markersize=5)


def _look(line: int) -> tuple[str, Any, str]:
    """Returns color, dashes and marker of a line; no two lines have all three in common."""
    colors, dashes = len(plots.PALETTE), len(plots.DASHES)
    dash = plots.DASHES[(line + line // colors) % dashes]
    return plots.PALETTE[line % colors], dash, MARKERS[line % len(MARKERS)]


def _legend(figure: Any, title: str, labels: Sequence[str], leaky: bool) -> None:
    looks: list[Any] = [(label, *_look(line), None) for line, label in enumerate(labels) if len(labels) > 1]
    looks += [("leaky test", plots.INK, "", "o", "none")] if leaky else []
    handles = [
        Line2D([], [], color=color, linestyle=dashes, marker=marker, markerfacecolor=face, markersize=5, label=label)
        for label, color, dashes, marker, face in looks
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)), title=title or None,
                      alignment="left", fontsize=9, title_fontsize=9)  # fmt: skip
