"""The report's section on the settings that a study varies: a figure and a table with paired differences."""

from collections.abc import Sequence

import numpy as np

from alljax.evaluation.comparison import Ranking
from alljax.evaluation.metrics import METRICS
from alljax.report import plots, setting_names
from alljax.report.setting_names import VariedSetting
from alljax.report.tables import Figure, Section, Table, Value, difference_value, metric_value, number_value
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
    ranking, metric, rows = study.ranking, study.ranking.metric, []
    for name in ranking.order:
        result, other = study.metrics["trials"][name], ranking.differences.get(name)
        values = [setting.values[setting.index(study.settings(name))] for setting in varied]
        spread = number_value(metric, result["std"][metric])
        difference = difference_value(metric, other.value, other.interval) if other else Value("")
        rows.append((*values, metric_value(metric, result), spread, difference, Value(_verdict(ranking, name))))
    columns = (*(setting.name for setting in varied), METRICS[metric], "sd over seeds", "difference", "verdict")
    notes = (
        f"In brackets: {study.intervals}. Difference: {METRICS[metric]} minus that of the best model (accuracies in "
        f"percentage points), paired bootstrap over {study.interval_unit}; its intervals hold for all pairs at once "
        "(max-T), because the best model was selected from all.",
    )
    return Table("ablation", f"All models, sorted by {METRICS[metric]}", columns, rows, notes=notes)


def _verdict(ranking: Ranking, name: str) -> str:
    if name == ranking.best:
        return "best"
    if mark := ranking.marks.get(name):
        return f"{mark}: not ranked"
    if ranking.differences[name].interval is None:
        return "tested on other images"
    return "significantly worse" if ranking.differences[name].below else "not distinguishable"


def _figure(study: Study, varied: Sequence[VariedSetting]) -> Figure | None:
    """Returns values with intervals: the first setting in rows, the second as colors, the third as panels."""
    labels = [[f"{setting.name}={value.text}" for value in setting.values] for setting in varied]
    names, colors, panels, *_ = (*labels, [""], [""])
    if len(varied) > 3 or len(colors) > MOST_COLORS or len(panels) > MOST_PANELS:
        return None
    metric, ranking = METRICS[study.ranking.metric], study.ranking
    values = np.full((len(names), len(colors), len(panels), 3), np.nan)  # value, low, high
    for name, result in study.metrics["trials"].items():
        place = (*(setting.index(study.settings(name)) for setting in varied), 0, 0)[:3]
        value = result[ranking.metric]
        values[place] = value, *result["intervals"].get(ranking.metric, (value, value))
    drawn = {
        title: {label: values[:, color, panel] for color, label in enumerate(colors)}
        for panel, title in enumerate(panels)
    }
    by = ", ".join(setting.name for setting in varied)
    caption = f"{metric} with {study.level:.0%} intervals by {by}"
    return plots.interval_figure("ablation", caption, names, drawn, metric)
