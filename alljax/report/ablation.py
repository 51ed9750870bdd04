"""The report's section on the settings that a study varies: a figure and a table with paired differences."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from alljax.evaluation.comparison import Ranking
from alljax.evaluation.metrics import METRICS
from alljax.report import plots, setting_names
from alljax.report.setting_names import VariedSetting
from alljax.report.tables import Figure, Section, Table, Value, difference_value, format_value, metric_value
from alljax.study.results import Study

WIDE = 20.0
"""Numbers that span more than this factor are drawn on a logarithmic axis."""

MOST_LINES, MOST_PANELS = 12, 9
"""Values of the second and third setting above which no figure is drawn."""


def sections(study: Study) -> list[Section]:
    """Returns the section, for which the predictions of all trials are read; none where no setting differs."""
    varied = setting_names.varied_settings(study)
    if not varied or len(study.metrics["trials"]) < 2:
        return []
    figure, table = _figure(study, varied), _table(study, varied)
    title = f"Effect of the settings: {', '.join(setting.name for setting in varied)}"
    return [Section("effects", title, (), (figure, table) if figure else (table,))]


def _table(study: Study, varied: Sequence[VariedSetting]) -> Table:
    trials, ranking = study.metrics["trials"], study.ranking
    metrics = list(dict.fromkeys([ranking.metric, "accuracy", "macro_f1"]))
    rows = []
    for name in ranking.order:
        settings, result = study.settings(name), trials[name]
        values = []
        for setting in varied:
            index = setting.index(settings)
            values.append(Value(setting.labels[index], setting.numbers[index] if setting.numbers else None))
        scores = [metric_value(key, result) for key in metrics]
        deviation = result["std"][ranking.metric]
        spread = Value(format_value(ranking.metric, deviation), deviation)
        other = ranking.differences.get(name)
        difference = difference_value(ranking.metric, other.value, other.interval) if other else Value("")
        rows.append((*values, scores[0], spread, *scores[1:], difference, Value(_verdict(study.ranking, name))))
    labels = [METRICS[key] for key in metrics]
    columns = (*(setting.name for setting in varied), labels[0], "sd over seeds", *labels[1:], "difference", "verdict")
    unit, level = trials[ranking.best]["interval_unit"], f"{study.config['evaluation.level']:.0%}"
    notes = (
        f"In brackets: {level} intervals over {unit}. Difference: {labels[0]} minus that of the best model (accuracies "
        f"in percentage points), paired bootstrap over {unit}; its intervals are simultaneous for all pairs (max-T), "
        "because the best model was selected from all.",
    )
    return Table("ablation", f"All models, sorted by {labels[0]}", columns, tuple(rows), notes=notes)


def _verdict(ranking: Ranking, name: str) -> str:
    if name == ranking.best:
        return "best"
    if name in ranking.leaky:
        return "leaky test: not ranked"
    if ranking.differences[name].interval is None:
        return "tested on other images"
    return "significantly worse" if ranking.differences[name].below else "not distinguishable"


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
    for name, result in study.metrics["trials"].items():
        place = (*(setting.index(study.settings(name)) for setting in (axis, *rest)), 0, 0)[:3]
        value = result[ranking.metric]
        values[place] = value, *result["intervals"].get(ranking.metric, (value, value))
    log, columns = _logarithmic(axis), min(len(panels), 3)
    rows = -(-len(panels) // columns)
    height = 3.6 if log else max(1.7, 0.9 + len(axis.rows) * (0.16 + 0.19 * len(lines)))
    size = (6.4 if columns == 1 else 1.4 + 2.9 * columns, 0.5 + rows * height)
    names = [textwrap.fill(plots.shorten(name, 66), 24) for name in axis.labels]
    with plots.subplots(rows, columns, size, share=True) as (figure, grid):
        for panel, (axes, title) in enumerate(zip(grid.flat, panels, strict=False)):
            series = {label or axis.name: values[:, line, panel] for line, label in enumerate(lines)}
            if log:
                _draw_curves(axes, axis, series)
            else:
                plots.draw_intervals(axes, names, series)
            axes.set_title(f"{rest[1].name} {title}" if title else "", fontsize=10.5, loc="left")
            axes.tick_params(labelbottom=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        figure.supxlabel(axis.name if log else metric, fontsize=10.5)
        figure.supylabel(metric if log else axis.name, fontsize=10.5)
        if rest:
            labeled = grid[0, 0].get_legend_handles_labels()
            figure.legend(*labeled, loc="outside upper left", ncols=min(4, len(lines)), title=rest[0].name,
                          alignment="left")  # fmt: skip
        by = ", ".join(setting.name for setting in varied)
        caption = f"{metric} with {study.config['evaluation.level']:.0%} intervals by {by}"
        return plots.save("ablation", caption, figure, curves=log)


def _logarithmic(setting: VariedSetting) -> bool:
    numbers = setting.numbers
    return numbers is not None and all(number > 0 for number in numbers) and max(numbers) > WIDE * min(numbers)


def _draw_curves(axes: Axes, axis: VariedSetting, series: Mapping[str, np.ndarray]) -> None:
    """Draws each series, values with low and high ends (N, 3), against the numbers of the setting."""
    numbers = np.array(axis.numbers)
    order = np.argsort(numbers)
    axes.set_xscale("log")
    for number, (label, points) in enumerate(series.items()):
        color, marker = plots.PALETTE[number % len(plots.PALETTE)], plots.MARKERS[number % len(plots.MARKERS)]
        values, low, high = points[order].T
        axes.plot(numbers[order], values, marker=marker, markersize=5, color=color, linewidth=1.3, label=label)
        offset = (max(numbers) / min(numbers)) ** (0.02 * ((number + 0.5) / len(series) - 0.5))
        axes.vlines(numbers[order] * offset, low, high, color=color, linewidth=1.4)
    if len(numbers) <= 8:  # more labels would overlap
        axes.set_xticks(numbers, axis.labels)
        axes.minorticks_off()
    axes.grid(visible=True, axis="y")
