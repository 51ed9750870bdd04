"""The report's sections on the settings that a study varies, its sources, and the trials that it combines."""

import itertools
from collections.abc import Sequence

import numpy as np

from alljax.evaluation.comparison import main_effect, signal_to_noise
from alljax.evaluation.intervals import Jackknife, summarize
from alljax.evaluation.metrics import METRICS
from alljax.report import plots
from alljax.report.setting_names import VariedSetting, varied_settings
from alljax.report.tables import Figure, Section, Table, Value, metric_value, number_value
from alljax.study.results import Study


def sections(study: Study) -> list[Section]:
    """Returns the sections on varied settings and combined trials, for which the predictions of all trials are read."""
    varied, more = varied_settings(study), [*array_section(study), *combined_section(study)]
    if not varied or len(study.metrics["trials"]) < 2:
        return more
    by = ", ".join(setting.name for setting in varied)
    figures = [_figure(study, varied, by)] if len(varied) <= 3 else []
    return [Section("effects", f"Effect of the settings: {by}", (), [*figures, _table(study, varied)]), *more]


def combined_section(study: Study) -> list[Section]:
    """Returns the section on combined trials, each compared with its best member; none where there are none."""
    trials, rows = study.metrics["trials"], []
    combined = [name for name in study.ranking.order if "members" in trials[name]]
    for name, metric in itertools.product(combined, (study.ranking.metric, "accuracy")):
        members = {member: trials[member][metric] for member in trials[name]["members"]}
        best = max(members, key=members.__getitem__)
        tests = [study.predictions(each).held_out for each in (name, best)]
        found = summarize(tests[0], study.level, [metric], minus=tests[1])
        values = metric_value(metric, trials[name]), Value(best), metric_value(metric, trials[best])
        texts = name, f"{trials[name]['rule']} of {len(members)}", METRICS[metric]
        rows.append((*map(Value, texts), *values, metric_value(metric, found, "+")))
    columns = ("model", "rule", "metric", "value", "best member", "its value", "difference")
    note = f"In brackets: {study.intervals}; differences are paired. The best member was selected on these images. "
    note += "The AUC of a vote is low, because its probabilities have few different values."
    table = Table("combined", "Combined models minus their best members", columns, rows, notes=(note,))
    return [Section("combined", "Combined models", (), (table,))] if rows else []


def source_section(study: Study) -> list[Section]:
    """Returns what models trained on some sources achieve on another; none where no trial has a protocol for that."""
    sources, metric, rows = sorted(name for name, *_ in study.config["data.sources"]), study.ranking.metric, []
    for name in study.ranking.order:
        protocol, predictions = study.settings(name)["split.protocol"], study.predictions(name)
        if protocol == "leave_one_source_out":
            trained = {"all other sources": np.ones(len(predictions.paths), bool)}
        elif protocol == "source_pairs":
            training = [one for one, _ in itertools.permutations(sources, 2)]  # per fold, see `protocols.source_pairs`
            of_image = np.array([training[int(fold.split()[1])] for fold in predictions.folds])
            trained = {source: of_image == source for source in sources}
        else:
            continue
        tested = np.array([path.partition("/")[0] for path in predictions.paths])
        for source, members in trained.items():
            parts = [predictions.held_out.take(members & (tested == other)) for other in sources]
            found = [summarize(part, study.level, [metric]) if len(part.labels) else {} for part in parts]
            rows.append((Value(name), Value(source), *(metric_value(metric, of_source) for of_source in found)))
    columns = "model", "trained on", *(f"tested on {source}" for source in sources)
    notes = (f"{METRICS[metric]}. In brackets: {study.intervals} of the tested source.",)
    table = Table("sources", f"{METRICS[metric]} by training and test source", columns, rows, notes=notes)
    return [Section("sources", "Sources", (), [table])] if rows else []


def array_section(study: Study) -> list[Section]:
    """Returns the section on the split of the best model; none without ``study.design`` or where trials are missing."""
    trials, metric = study.metrics["trials"], study.ranking.metric
    factors = [setting for setting in varied_settings(study) if not setting.keys[0].startswith("split.")]
    if not study.config["study.design"] or not factors or study.metrics["missing"] or study.metrics["failed"]:
        return []
    split = trials[study.ranking.best]["split"]
    names = [name for name in trials if trials[name]["split"] == split and "members" not in trials[name]]
    tests, rows, drawn = [study.predictions(name).held_out for name in names], [], dict[str, list[float]]()
    ratios = np.stack([signal_to_noise(test, metric) for test in tests])
    levels = np.array([[factor.index(study.settings(name)) for factor in factors] for name in names])
    jackknife, predicted, best = Jackknife.of(tests[0]), ratios.mean(0), []
    for factor, of_factor in zip(factors, levels.T, strict=True):
        effects, share = main_effect(of_factor, ratios)
        best.append(int(effects[:, 0].argmax()))
        predicted = predicted + effects[best[-1]]
        for level, (value, effect) in enumerate(zip(factor.values, effects, strict=True)):
            interval = jackknife.interval(effect, study.level, None)
            drawn[f"{factor.name}={value.text}"] = [effect[0], *(interval or (effect[0], effect[0]))]
            ratio, last = effect[0] + ratios[:, 0].mean(), "best" if level == best[-1] else ""
            shown = number_value("ratio", ratio), number_value("ratio", effect[0], interval, "+"), Value(last)
            rows.append((Value(factor.name), value, *shown, number_value("accuracy", share)))
    columns = ("setting", "value", "S/N in dB", "minus the mean", "", "share of the variance")
    note = f"S/N: −10 log₁₀ mean(1/y²) over seeds and folds, y: {METRICS[metric]}. In brackets: {study.intervals}."
    table = Table("main-effects", "Main effects of the settings", columns, rows, notes=(note,))
    caption, points = f"Main effects, with {study.intervals}", {"": {"": np.array([*drawn.values()])}}
    figure = plots.interval_figure("main-effects", caption, [*drawn], points, "S/N in dB minus the mean")
    expected = number_value("ratio", predicted[0], jackknife.interval(predicted, study.level, None))
    chosen = [zip(of.keys, of.rows[level], strict=True) for of, level in zip(factors, best, strict=True)]
    options = " ".join(f"--config.{key}={value}" for pair in chosen for key, value in pair)
    text = f"S/N predicted for the best values, without interactions: {expected} dB. "
    same = [name for name, of_trial in zip(names, levels.tolist(), strict=True) if of_trial == best]
    text += f"Model {same[0]} has them." if same else f"No model has them: confirm it by `alljax train` with {options}."
    title = f"Main effects: {study.config['study.design']} of {split}"
    return [Section("main-effects", title, (text,), (figure, table))]


def _table(study: Study, varied: Sequence[VariedSetting]) -> Table:
    ranking, metric, rows = study.ranking, study.ranking.metric, []
    for name in (name for name in ranking.order if "members" not in study.metrics["trials"][name]):
        result, other = study.metrics["trials"][name], ranking.differences.get(name)
        values = [setting.values[setting.index(study.settings(name))] for setting in varied]
        if other is None:
            verdict = "best"
        elif mark := ranking.marks.get(name):
            verdict = f"{mark}: not ranked"
        elif other.interval is None:
            verdict = "tested on other images"
        else:
            verdict = "significantly worse" if other.below else "not distinguishable"
        spread = number_value(metric, result["std"][metric])
        difference = number_value(metric, other.value, other.interval, "+") if other else Value("")
        rows.append((*values, metric_value(metric, result), spread, difference, Value(verdict)))
    columns = (*(setting.name for setting in varied), METRICS[metric], "sd over seeds", "difference", "verdict")
    note = f"In brackets: {study.intervals}. Difference: to the best model, paired; its intervals hold for all at once."
    return Table("ablation", f"All models, sorted by {METRICS[metric]}", columns, rows, notes=(note,))


def _figure(study: Study, varied: Sequence[VariedSetting], by: str) -> Figure:
    """Returns values with intervals: the first setting in rows, the second as colors, the third as panels."""
    labels = [[f"{setting.name}={value.text}" for value in setting.values] for setting in varied]
    names, colors, panels, *_ = (*labels, [""], [""])
    metric = study.ranking.metric
    values = np.full((len(panels), len(colors), len(names), 3), np.nan)  # value, low, high
    for name, result in study.metrics["trials"].items():
        if "members" in result:
            continue
        row, color, panel, *_ = (*(setting.index(study.settings(name)) for setting in varied), 0, 0)
        values[panel, color, row] = result[metric], *result["intervals"].get(metric, [result[metric]] * 2)
    shown = [number for number, of_panel in enumerate(values) if np.isfinite(of_panel).any()]  # others are skipped
    drawn = {panels[number]: dict(zip(colors, values[number], strict=True)) for number in shown}
    caption = f"{METRICS[metric]} by {by}, with {study.intervals}"
    return plots.interval_figure("ablation", caption, names, drawn, METRICS[metric])
