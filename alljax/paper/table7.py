"""Table 7 under one protocol: the methods behind its rows, beside the printed numbers and what their sources say.

Trials belong to a method by ``model.label``; ``table7_open.csv`` has the settings that the sources leave open.
"""

import re
from collections.abc import Iterator

from alljax.evaluation.intervals import Jackknife
from alljax.paper import leakage, published
from alljax.report.model_tables import BASELINES
from alljax.report.setting_names import setting_value, skipped_trials
from alljax.report.tables import Section, Table, Value, count_value, metric_value, number_value
from alljax.study.results import Study

NONE = Value("–")
COLUMNS = (
    "study", "our reading", "split by image", "subjects held out", "difference", "AUC, held out", "minus cell size",
    "parameters", "seconds", "printed", "in its source",
)  # fmt: skip

Configuration = dict[bool, str]  # trials that differ in the split only: whether subjects are on both sides → trial


def methods() -> list[dict[str, str]]:
    """Returns table7.csv, a row per method that Table 7 or the introduction cites, in the order of the references.

    ``study`` and ``model`` are those of `published.TABLE_7`, if there; ``labels`` those of our trials, that of the
    method's result first; ``printed`` the paper's numbers, those of Table 7 first; ``read`` what was read.
    """
    return published.read_rows("table7.csv")


def sections(study: Study) -> list[Section]:
    """Returns the section that ``study.compare=table7`` asks for."""
    text = (
        "Each row is our reading of a method, trained on the images of this study; its number says nothing about the "
        "authors' own system. Below is what the sources say, and which settings they leave open."
    )
    columns = "study", "model", "printed", "read", "the source says", "the printed number"
    rows = [[Value(method[column]) for column in columns] for method in methods()]
    sources = Table("table-7-sources", "The printed numbers and their sources", columns, rows)
    parts = methods_table(study), sources, open_settings(study)
    return [Section("table-7", "Table 7 under one protocol", (text,), [table for table in parts if table.rows])]


def methods_table(study: Study) -> Table:
    """Returns both accuracies of each method, their difference, its cost, the printed number and the source."""
    rows, sides, of_label = [], Configuration(), configurations(study)
    for method in methods():
        percent, labels = method["printed"].partition("%")[0], method["labels"].split()
        source = [Value(f"{percent}%", float(percent) / 100), Value(method["in_short"])]
        found = [configuration for label in labels for configuration in of_label.get(label, [])]
        for configuration in found:
            sides |= configuration
            rows.append([Value(method["study"]), *_values(study, configuration), *source])
            source = [Value(""), Value("")]
        if not found:
            absent = any(_label(study, name) in labels for name in study.metrics["skipped"])
            name = Value(method["model"], note="skipped, see below" if absent else "not in this study")
            rows.append([Value(method["study"]), name, *[NONE] * 7, *source])
    rules, footer = {leaky: study.split_of(name)["baselines"] for leaky, name in sides.items()}, []
    for rule, label in BASELINES.items():
        accuracies = [metric_value("accuracy", rules.get(leaky, {}).get(rule, {})) for leaky in (True, False)]
        auc = metric_value("auc", rules.get(False, {}).get(rule, {}))
        footer.append([Value(""), Value(label), *accuracies, Value(""), auc, *[Value("")] * 5])
    notes = (
        f"Accuracies; in brackets {study.intervals}. Differences are in percentage points.",
        "AUC: with subjects held out. Minus cell size: so, too, the accuracy minus that of a threshold on the size.",
        "Seconds: of training, without features; those of trials that are trained together, and the sum of members.",
        *skipped_trials(study),
    )
    return Table("table-7-methods", "Methods on the same images", COLUMNS, rows, footer, notes)


def configurations(study: Study) -> dict[str, list[Configuration]]:
    """Returns `leakage.configurations` by the label of their trials."""
    found: dict[str, list[Configuration]] = {}
    for configuration in leakage.configurations(study):
        found.setdefault(_label(study, next(iter(configuration.values()))), []).append(configuration)
    return found


def _label(study: Study, name: str) -> str:
    """Returns the label of a trial, or the name of a combined one, whose other settings are its first member's."""
    settings = study.settings(name)
    return str(settings["study.combine"][0][0] if settings["study.combine"] else settings["model.label"])


def open_settings(study: Study) -> Table:
    """Returns the settings that the sources leave open, with our choice where a trial of the study has them."""
    studies = {label: method["study"] for method in methods() for label in method["labels"].split()}
    rules, rows = {name: rule for name, rule, *_ in study.config["study.combine"]}, []
    of_label = configurations(study)
    for left_open in published.read_rows("table7_open.csv"):
        label, keys, note = left_open.values()
        settings = [study.settings(name) for trials in of_label.get(label, ()) for name in trials.values()]
        for key in keys.split() if settings else ():
            values = dict.fromkeys(setting_value(key, of_trial[key]) for of_trial in settings)
            choice = rules.get(label, "") if key == "study.combine" else ", ".join(values)
            rows.append([*map(Value, (studies[label], label, key, choice, note))])
    columns = "study", "our reading", "setting", "our choice", "note"
    return Table("table-7-settings", "Settings that the sources leave open", columns, rows)


def _values(study: Study, configuration: Configuration) -> Iterator[Value]:
    """Yields the name of a configuration, its accuracies, their difference, the one to the cell size, and its cost."""
    results = {leaky: study.metrics["trials"][name] for leaky, name in configuration.items()}
    leaky, held_out = False not in configuration, results.get(False, {})
    name, result, settings = configuration[leaky], results[leaky], study.settings(configuration[leaky])
    notes = []
    if settings["weights.name"] == "random" and settings["train.mode"] == "finetune":
        notes.append("from scratch")
    elif settings["weights.name"] == "random" and "backbone" in settings["features.extractor"]:
        notes.append("random weights")
    if settings["features.select_scope"] == "all":
        notes.append("features selected on tested images, too")
    shown = _label(study, name) if "members" in result else re.sub(r"-(protocol|weights)=\w+", "", name)
    yield Value(shown, note=", ".join(notes))
    yield from (metric_value("accuracy", results.get(leaky, {})) for leaky in (True, False))
    if len(configuration) == 2:
        pair = configuration[True], configuration[False]
        jackknife = Jackknife.of(*(study.predictions(name).held_out for name in pair))
        differences = leakage.gap(study, pair, jackknife)["accuracy"][2]
        yield number_value("accuracy", differences[0], jackknife.interval(differences, study.level, limits=None), "+")
    else:
        yield NONE
    yield metric_value("auc", held_out)
    size = held_out.get("size_improvement", {}).get("accuracy", {})
    yield number_value("accuracy", size.get("value"), size.get("interval"), "+")
    yield count_value(result["parameters"])
    yield Value(f"{result['seconds']:,.0f}", result["seconds"])
