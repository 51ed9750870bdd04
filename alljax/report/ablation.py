"""The report's section on the settings that a study varies: a figure and a table with paired differences."""

import textwrap
from collections.abc import Sequence

import numpy as np

from alljax.evaluation.comparison import Ranking
from alljax.evaluation.metrics import METRICS
from alljax.report import plots, setting_names
from alljax.report.setting_names import VariedSetting
from alljax.report.tables import Figure, Section, Table, Value, difference_value, format_value, metric_value
from alljax.study.results import Study

MOST_COLORS, MOST_PANELS = 12, 9
"""Values of the second and third setting above which no figure is drawn."""


def sections(study: Study) -> list[Section]:
    """Returns the section, for which the predictions of all trials are read; none where no setting differs."""
    varied = setting_names.varied_settings(study)
    if not varied or len(study.metrics["trials"]) < 2:
        return []
    parts = [part for part in (_figure(study, varied), _table(study, varied)) if part]
    return [Section("effects", f"Effect of the settings: {', '.join(setting.name for setting in varied)}", (), parts)]


def _table(study: Study, varied: Sequence[VariedSetting]) -> Table:
    trials, ranking = study.metrics["trials"], study.ranking
    metrics = list(dict.fromkeys([ranking.metric, "accuracy", "macro_f1"]))
    rows = []
    for name in ranking.order:
        result = trials[name]
        values = [setting.values[setting.index(study.settings(name))] for setting in varied]
        scores = [metric_value(key, result) for key in metrics]
        deviation = result["std"][ranking.metric]
        spread = Value(format_value(ranking.metric, deviation), deviation)
        other = ranking.differences.get(name)
        difference = difference_value(ranking.metric, other.value, other.interval) if other else Value("")
        rows.append((*values, scores[0], spread, *scores[1:], difference, Value(_verdict(study.ranking, name))))
    labels = [METRICS[key] for key in metrics]
    columns = (*(setting.name for setting in varied), labels[0], "sd over seeds", *labels[1:], "difference", "verdict")
    notes = (
        f"In brackets: {study.intervals}. Difference: {labels[0]} minus that of the best model (accuracies in "
        f"percentage points), paired bootstrap over {study.interval_unit}; its intervals hold for all pairs at once "
        "(max-T), because the best model was selected from all.",
    )
    return Table("ablation", f"All models, sorted by {labels[0]}", columns, rows, notes=notes)


def _verdict(ranking: Ranking, name: str) -> str:
    if name == ranking.best:
        return "best"
    if name in ranking.leaky:
        return "leaky test: not ranked"
    if ranking.differences[name].interval is None:
        return "tested on other images"
    return "significantly worse" if ranking.differences[name].below else "not distinguishable"


def _figure(study: Study, varied: Sequence[VariedSetting]) -> Figure | None:
    """Returns values with intervals: the first setting in rows, the second as colors, the third as panels."""
    labels = [[value.text for value in setting.values] for setting in varied]
    names, colors, panels, *_ = (*labels, [""], [""])
    if len(varied) > 3 or len(colors) > MOST_COLORS or len(panels) > MOST_PANELS:
        return None
    metric, ranking = METRICS[study.ranking.metric], study.ranking
    values = np.full((len(names), len(colors), len(panels), 3), np.nan)  # value, low, high
    for name, result in study.metrics["trials"].items():
        place = (*(setting.index(study.settings(name)) for setting in varied), 0, 0)[:3]
        value = result[ranking.metric]
        values[place] = value, *result["intervals"].get(ranking.metric, (value, value))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    height = max(1.7, 0.9 + len(names) * (0.16 + 0.19 * len(colors)))
    size = (6.4 if columns == 1 else 1.4 + 2.9 * columns, 0.5 + rows * height)
    names = [textwrap.fill(plots.shorten(name, 66), 24) for name in names]
    with plots.subplots(rows, columns, size, share=True) as (figure, grid):
        for panel, (axes, title) in enumerate(zip(grid.flat, panels, strict=False)):
            plots.draw_intervals(axes, names, {label: values[:, line, panel] for line, label in enumerate(colors)})
            axes.set_title(f"{varied[2].name} {title}" if title else "", fontsize=10.5, loc="left")
            axes.tick_params(labelbottom=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        figure.supxlabel(metric, fontsize=10.5)
        figure.supylabel(varied[0].name, fontsize=10.5)
        if len(varied) > 1:
            labeled = grid[0, 0].get_legend_handles_labels()
            figure.legend(*labeled, loc="outside upper left", ncols=min(4, len(colors)), title=varied[1].name,
                          alignment="left")  # fmt: skip
        by = ", ".join(setting.name for setting in varied)
        return plots.save("ablation", f"{metric} with {study.bootstrap.level:.0%} intervals by {by}", figure)
