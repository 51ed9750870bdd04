"""The report's section on a study with an orthogonal array: main effects of its settings and the best combination."""

from collections.abc import Sequence

import numpy as np

from alljax.evaluation.intervals import Jackknife
from alljax.evaluation.main_effects import main_effects, signal_to_noise
from alljax.evaluation.metrics import METRICS
from alljax.report import plots
from alljax.report.setting_names import VariedSetting
from alljax.report.tables import Section, Table, Value, metric_value, number_value
from alljax.study.results import Study


def sections(study: Study, varied: Sequence[VariedSetting]) -> list[Section]:
    """Returns the section on the split of the best model; none without ``study.design`` or where trials are missing."""
    trials, metric = study.metrics["trials"], study.ranking.metric
    factors = [setting for setting in varied if not setting.keys[0].startswith("split.")]
    if not study.config["study.design"] or not factors or study.metrics["missing"] or study.metrics["failed"]:
        return []
    split = trials[study.ranking.best]["split"]
    names = [name for name in trials if trials[name]["split"] == split and "members" not in trials[name]]
    tests, rows, drawn = [study.predictions(name).held_out for name in names], [], dict[str, list[float]]()
    ratios = np.stack([signal_to_noise(test, metric) for test in tests])
    levels = np.array([[factor.index(study.settings(name)) for factor in factors] for name in names])
    found, jackknife = main_effects(levels, ratios), Jackknife.of(tests[0])
    for factor, effects, share, best in zip(factors, found.effects, found.shares, found.best, strict=True):
        for level, (value, effect) in enumerate(zip(factor.values, effects, strict=True)):
            interval = jackknife.interval(effect, study.level, None)
            drawn[f"{factor.name}={value.text}"] = [effect[0], *(interval or (effect[0], effect[0]))]
            ratio = number_value("ratio", effect[0] + ratios[:, 0].mean())
            last = number_value("accuracy", share) if level == best else Value("")
            rows.append((Value(factor.name), value, ratio, number_value("ratio", effect[0], interval, "+"), last))
    columns = ("setting", "value", "S/N in dB", "minus the mean", "share of the variance (best value)")
    note = f"S/N: −10 log₁₀ mean(1/y²) over seeds and folds, y: {METRICS[metric]}. In brackets: {study.intervals}."
    table = Table("main-effects", "Main effects of the settings", columns, rows, notes=(note,))
    caption, points = f"Main effects, with {study.intervals}", {"": {"": np.array([*drawn.values()])}}
    figure = plots.interval_figure("main-effects", caption, [*drawn], points, "S/N in dB minus the mean")
    ratio = number_value("ratio", found.predicted[0], jackknife.interval(found.predicted, study.level, None))
    text = f"S/N predicted for the best values, without interactions: {ratio} dB. "
    if [*found.best] in levels.tolist():
        name = names[levels.tolist().index([*found.best])]
        text += f"Model {name} has them: {METRICS[metric]} {metric_value(metric, trials[name])}."
    else:
        pairs = [zip(of.keys, of.rows[level], strict=True) for of, level in zip(factors, found.best, strict=True)]
        options = " ".join(f"--config.{key}={value}" for pair in pairs for key, value in pair)
        text += f"No model has them; to confirm it, train one with `alljax train`, this study's --config and {options}."
    title = f"Main effects: {study.config['study.design']} of {split}"
    return [Section("main-effects", title, (text,), (figure, table))]
