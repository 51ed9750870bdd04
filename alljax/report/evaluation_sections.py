"""Sections of the report on the best model beyond its metrics, from evaluation.json, robustness.json and external/."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alljax.errors import WorkdirError, first_few, plural
from alljax.evaluation.metrics import METRICS
from alljax.report import curves
from alljax.report.model_tables import external_names, metric_names
from alljax.report.setting_names import display_name, display_note
from alljax.report.tables import Figure, Section, Table, Value, count_value, metric_value, number_value
from alljax.study import workdir
from alljax.study.results import Study

Numbers = Mapping[str, Any]  # metrics with ``intervals``, as in evaluation.json
Parts = tuple[str, list[Table | Figure]]  # the text of a section, and its tables and figures

CALIBRATION = {
    "slope": "calibration slope (ideal: 1)",
    "intercept": "calibration intercept (0)",
    "ece": "expected calibration error (0)",
    "brier": "Brier score (0)",
    "brier_scaled": "scaled Brier score (1)",
}
EXTERNAL = "The ensemble of all heads on images that are not of the study. Change: from the held-out images."


def sections(study: Study) -> list[Section]:
    """Returns the sections on the best model whose numbers the study has, and that on its external tests."""
    best = study.ranking.best
    found = study.evaluation["trials"][best] | {"robustness": study.robustness(best)}
    made, tests = [], list[Table | Figure]()
    makers: Mapping[str, Callable[[Study, Any], Parts]] = {
        "subjects": _subjects,
        "calibration": _calibration,
        "operating_points": _operating_points,
        "subgroups": _subgroups,
        "beyond_size": _beyond_size,
        "robustness": _robustness,
    }
    for key in (key for key in makers if found.get(key)):
        text, parts = makers[key](study, found[key])
        anchor, title = f"{key.replace('_', '-')}-of-best", key.replace("_", " ").capitalize()
        made.append(Section(anchor, title, [text] if text else [], parts))
    for path in sorted(study.folder.glob("external/*/metrics.json")):
        table, parts = external_test(study, path.parent)
        tests += [replace(part, name=f"external-{path.parent.name}-{part.name}") for part in (table, *parts)]
    return [*made, Section("external", "External test", (EXTERNAL,), tests)] if tests else made


def _table(study: Study, name: str, title: str, columns: Sequence[str], rows: Any, note: str = "") -> Table:
    return Table(name, title, columns, rows, notes=(f"{note} In brackets: {study.intervals}.".strip(),))


def _columns(names: Mapping[str, str], groups: Mapping[str, Numbers]) -> list[Sequence[Value]]:
    """Returns the rows of a table with one metric per row and one column per group; changes have a sign."""
    signed = [(group, "+" if title.startswith("change") else "") for title, group in groups.items()]
    return [(Value(name), *(metric_value(key, *group) for group in signed)) for key, name in names.items()]


def _subjects(study: Study, found: Numbers) -> Parts:
    best, names = study.ranking.best, metric_names(study)
    groups = {
        "images, mean over seeds": study.metrics["trials"][best],
        "images, all heads together": study.evaluation["trials"][best].get("ensemble", {}),
        "images, subjects weighted equally": found.get("weighted", {}),
        "subjects": found,
    }
    note = "All heads together: the mean over those not trained on the image. Subjects: mean log-odds of their images."
    if study.split_of(best)["protocol"]["name"] == "leave_one_subject_out":
        note += " The AUC of subjects is corrected by the class shares of the training images; some bias remains."
    columns, rows = ("metric", *groups), _columns(names, groups)
    metrics = _table(study, "subject-metrics", "Metrics over images and over subjects", columns, rows, note)
    types = {"trial": str, "subject": str, "label": str, "images": int, "accuracy": float, "predicted": str}
    types |= {f"log_odds_{label}": float for label in study.classes}
    table = workdir.read_csv(study.folder, workdir.SUBJECTS, types)
    table = table[table["trial"] == best].copy()
    table["wrong"] = (table["images"] * (1 - table["accuracy"])).round()
    table["odds"] = [row[f"log_odds_{row['label']}"] for _, row in table.iterrows()]
    names, rows = dict(zip(study.classes, study.class_names, strict=True)), []
    for row in table.sort_values(["wrong", "odds"], ascending=[False, True]).itertuples():
        share, odds = number_value("accuracy", row.wrong / max(1, table["wrong"].sum())), number_value("odds", row.odds)
        counts = count_value(row.images), count_value(int(row.wrong))
        subject, label, guess = display_name(study, row.subject), names[row.label], names[row.predicted]
        rows.append((Value(subject), Value(label), *counts, share, odds, Value(guess)))
    columns = ("subject", "true class", "images", "misclassified", "share", "log-odds", "prediction")
    note = "By all heads together. Share: of all misclassified images. Log-odds: of the true class, mean over images."
    right = (table["predicted"] == table["label"]).groupby(table["label"])
    counted = [f"{right.sum()[of]} of {right.size()[of]} subjects of {names[of]}" for of in right.groups]
    title = "Subjects with most misclassified images first"
    return f"Correct: {', '.join(counted)}.", [metrics, Table("subjects", title, columns, rows, notes=(note,))]


def _calibration(study: Study, found: Numbers) -> Parts:
    groups, note = {"as trained": found}, ""
    if after := found.get("after_temperature"):
        groups["after temperature scaling"] = after
        note = f"The temperature is from {study.metrics['trials'][study.ranking.best]['tuned_on']}."
    columns, rows = ("number", *groups), _columns(CALIBRATION, groups)
    table = _table(study, "calibration", "Calibration of the probabilities", columns, rows, note)
    text = f"Calibration slope {metric_value('slope', found)}; below 1 probabilities are too close to 0 and 1. "
    text += f"Brier score {metric_value('brier', found)}"
    if found["brier_scaled"] is not None:
        always = number_value("brier", found["brier"] / (1 - found["brier_scaled"]))
        text += f"; always predicting the prevalence gives {always}"
    shown = study.class_names[1] if len(study.classes) == 2 else "the predicted class"
    return f"{text}.", [curves.reliability_diagram(groups, f"probability of {shown}"), table]


def _operating_points(study: Study, found: Sequence[Numbers]) -> Parts:
    points, rows, terms = {}, [], ("sensitivity", "specificity")
    for point in found:
        name = f"{point['target']} ≥ {point['value']:g}"
        points[name] = point["ppv_npv"]
        thresholds = Value(f"{min(point['thresholds']):.3f} to {max(point['thresholds']):.3f}")
        rows.append((Value(name), *(metric_value(term, point) for term in terms), thresholds))
    tuned_on = study.metrics["trials"][study.ranking.best]["tuned_on"]
    note = f"The thresholds are from {tuned_on}, so that they can miss the target."
    title, columns = "What thresholds for a target reach", ("target", *terms, "thresholds")
    table = _table(study, "operating-points", title, columns, rows, note)
    return "", [table, curves.predictive_values(points, study.class_names[1])]


def _subgroups(study: Study, found: Mapping[str, Sequence[Numbers]]) -> Parts:
    metrics, rows = metric_names(study), []
    for group, one in ((group, one) for group, members in found.items() for one in members):
        counts = count_value(one["images"]), count_value(one["subjects"])
        rows.append((Value(group), Value(str(one["name"])), *counts, *(metric_value(key, one) for key in metrics)))
    columns = ("group", "images with", "images", "subjects", *metrics.values())
    note = "No AUC where a fold has only one class of the subgroup; no interval where a class has one subject."
    return "", [_table(study, "subgroups", "Metrics in subgroups", columns, rows, note)]


def _beyond_size(study: Study, found: Numbers) -> Parts:
    value, strata = number_value("auc", found["auc"], found["interval"]), found["strata"]
    rows = [
        (number_value("accuracy", one["area"]), count_value(one["images"]), metric_value("auc", one)) for one in strata
    ]
    columns = ("mean cell size, share of the image", "images", METRICS["auc"])
    text = f"AUC over pairs of cells of similar size: {value}. It would be about 0.5 if the model used the size only."
    return text, [Table("beyond-size", "AUC among cells of similar size", columns, rows)]


def _robustness(study: Study, found: Sequence[Numbers]) -> Parts:
    metrics = {name: METRICS[name] for name in found[-1]["differences"] if name in METRICS}
    first, rows, worse = next(iter(metrics)), [], dict[str, str]()
    for row in found[1:]:
        name, strength, change = row["perturbation"], f"{row['strength']:g}", row["differences"]
        differences = [metric_value(key, change, "+") for key in metrics]
        rows.append((Value(name, note=row["unit"]), Value(strength, row["strength"]), *differences))
        if change["intervals"].get(first, (0, 0))[1] < 0:
            worse.setdefault(name, f"{name} from {strength}")
    note = f"{found[0]['images']:,} images, each by the heads that were not trained on it; paired differences."
    columns, title = ("perturbation", "strength", *metrics.values()), "Metrics minus those of the unperturbed images"
    table = _table(study, "robustness", title, columns, rows, note)
    text = f"{metrics[first]} significantly lower than on unperturbed images: {', '.join(worse.values()) or 'nowhere'}."
    drawn = {name: label for name, label in metrics.items() if name != "accuracy"} or metrics
    return text, [curves.robustness_curves(found, drawn), table]


def external_test(study: Study, place: Path) -> tuple[Table, list[Table | Figure]]:
    """Returns the metrics of an external test with their change from the held-out images, and its other parts."""
    path = place / "metrics.json"
    try:
        found = json.loads(path.read_bytes())
        ensemble, subjects = found["ensemble"], found.get("subjects", {})
        groups = {"ensemble": ensemble, "change": ensemble["change"], "subjects": subjects}
        groups |= {"change over subjects": subjects.get("change", {}), "single heads": found["heads"]}
        names = METRICS | external_names(study) | metric_names(study)
        rows = _columns({key: label for key, label in names.items() if key in ensemble}, groups)
        notes = [display_note(study, note) for note in _notes(study, found)]
        table = Table("metrics", f"{found['trial']} on {found['source']}", ("metric", *groups), rows, notes=notes)
        parts = _calibration(study, found["calibration"])[1]
        if found["operating_points"]:
            parts += _operating_points(study, found["operating_points"])[1]
        return table, parts
    except (OSError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        reason = f"damaged, or not written by this version of alljax ({type(error).__name__}: {error})"
        fix = f"repeat its `alljax evaluate --source`, or remove {place}"
        raise WorkdirError(f"{path}: {' '.join(reason.split())}; {fix}") from error


def _notes(study: Study, found: Mapping[str, Any]) -> Iterator[str]:
    """Yields what was tested, what was left out, and what cannot be computed."""
    unit = "subject" if found["subject_names"] else "image"
    yield f"{study.level:.0%} intervals over {unit}s."
    if unit == "image":
        yield "The subjects are unknown: intervals are too narrow if subjects have several images."
    for name, images, units in zip(study.class_names, found["images"], found["subjects_by_class"], strict=True):
        if not images:
            yield f"No image of {name}: AUC, calibration slope and means over classes cannot be computed."
        elif units == 1:
            yield f"One {unit} of {name}: intervals cannot be computed; at least two {unit}s of each class are needed."
        else:
            yield f"{name}: {plural(images, 'image')}, {plural(units, 'independent ' + unit)}."
    if paths := found["left_out"]:
        yield f"Left out {plural(len(paths), 'image')} of the study: {first_few(Path(path).name for path in paths)}."
    if names := found["same_subject_names"]:
        yield f"Subject names of the study, too (if these are the same subjects, the test leaks): {first_few(names)}."
    yield "Accuracy, precision, PR-AUC and Brier score depend on the share of each class, which differs by source."
    yield from found["notes"]
