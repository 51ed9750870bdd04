"""Sections of the report on the best model beyond its metrics, from evaluation.json and robustness.csv."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pandas import DataFrame

from alljax.errors import plural
from alljax.evaluation.metrics import METRICS
from alljax.evaluation.subjects import by_subject, ensemble
from alljax.report import evaluation_plots
from alljax.report.sharing import display_name
from alljax.report.tables import Section, Table, Value, number_value
from alljax.study.results import Study

SUBJECTS = 200
"""Rows of the table of subjects, those with most misclassified images."""

Numbers = Mapping[str, Any]
"""Metrics with ``intervals``, as in evaluation.json."""


def sections(study: Study) -> list[Section]:
    """Returns the sections on the best model whose numbers the study has."""
    best, evaluation = study.ranking.best, study.evaluation
    found = evaluation["trials"][best] | {
        "selection": evaluation.get("selection"),
        "robustness": study.robustness(best),
    }
    return [make(study, found[key]) for key, make in SECTIONS.items() if found.get(key) is not None]


def _cells(found: Numbers, metrics: Iterable[str]) -> list[Value]:
    """Returns metrics with their intervals; a dash for those that are missing."""
    recalls = {f"recall_{label}": one["recall"] for label, one in enumerate(found.get("per_class", ()))}
    values, intervals = recalls | {**found}, found.get("intervals", {})
    return [number_value(name, values.get(name), intervals.get(name)) for name in metrics]


def _columns(names: Mapping[str, str], groups: Mapping[str, Numbers]) -> list[Sequence[Value]]:
    """Returns the rows of a table with one metric per row and one column per group."""
    columns = [_cells(group, names) for group in groups.values()]
    return [(Value(name), *values) for name, *values in zip(names.values(), *columns, strict=True)]


def _metrics(study: Study) -> dict[str, str]:
    """Returns the display names of the metrics of a group of images or subjects."""
    shown = {name: METRICS[name] for name in ("auc", "accuracy", "macro_recall")}
    recalls = {f"recall_{label}": f"recall of {name}" for label, name in enumerate(study.class_names)}
    if len(recalls) > 2:
        return shown | recalls
    return shown | {f"recall_{label}": f"{term}: {recalls[f'recall_{label}']}" for label, term in TERMS.items()}


def _counts(*counts: int) -> list[Value]:
    return [Value(f"{count:,}", int(count)) for count in counts]


def _subjects(study: Study, found: Numbers) -> Section:
    best, names = study.ranking.best, _metrics(study)
    groups = {
        "images, mean over seeds": study.metrics["trials"][best],
        "images, all heads together": study.evaluation["trials"][best].get("ensemble", {}),
        "images, subjects weighted equally": found.get("weighted", {}),
        "subjects": found,
    }
    notes = (
        "All heads together: the mean of their probabilities, as in alljax predict, here of the heads that were not "
        f"trained on the image. Subjects: by the mean log-odds of their images. In brackets: {study.intervals}.",
    )
    title = "Metrics over images and over subjects"
    table = Table("subject-metrics", title, ("metric", *groups), _columns(names, groups), notes=notes)
    sentence, subjects = subject_table(study)
    return Section("by-subject", "Subjects", (sentence,), (table, subjects))


def subject_table(study: Study) -> tuple[str, Table]:
    """Returns what the predictions of the subjects show, and the subjects with most misclassified images."""
    predictions, names = study.predictions(study.ranking.best), study.class_names
    test = replace(ensemble(predictions.held_out, predictions.paths), folds=None)
    found = by_subject(test)
    labels, predicted = found.labels, found.probabilities[0].argmax(1)
    odds, owner = found.ranking[0, np.arange(len(labels)), labels], np.searchsorted(found.subjects, test.subjects)
    images, wrong = np.bincount(owner), np.bincount(owner, test.probabilities[0].argmax(1) != test.labels)
    order, share, rows = np.lexsort((odds, -wrong)), wrong / max(wrong.sum(), 1), []
    for row in order[:SUBJECTS]:
        values = number_value("accuracy", share[row]), number_value("accuracy", 1 - wrong[row] / images[row])
        true, guess = Value(names[labels[row]]), Value(names[predicted[row]])
        subject, counts = Value(display_name(study, str(found.subjects[row]))), _counts(images[row], int(wrong[row]))
        rows.append((subject, true, *counts, *values, number_value("log_odds", odds[row]), guess))
    columns = ("subject", "true class", "images", "misclassified", "share", "accuracy", "log-odds", "prediction")
    notes = (
        f"{len(rows):,} of {len(order):,} subjects, by all heads together. Share: of all misclassified images. "
        "Log-odds: of the true class, mean over images.",
    )
    right = (
        f"{(predicted[labels == label] == label).sum()} of {(labels == label).sum()} of {name}"
        for label, name in enumerate(names)
    )
    half = plural(1 + int(np.searchsorted(np.cumsum(share[order]), 0.5)), "subject")
    sentence = f"Subjects classified correctly: {', '.join(right)}. Half of the misclassified images are of {half}."
    return sentence, Table("subjects", "Subjects with most misclassified images", columns, rows, notes=notes)


def _calibration(study: Study, found: Numbers) -> Section:
    groups, notes = {"as trained": found}, [f"In brackets: {study.intervals}."]
    if after := found.get("after_temperature"):
        groups["after temperature scaling"] = after
        notes.append("The temperature of each fold is from inner folds of its training subjects.")
    rows = _columns(CALIBRATION, groups)
    table = Table("calibration", "Calibration of the probabilities", ("number", *groups), rows, notes=notes)
    sentence = f"{_verdict(found)}Brier score {_cells(found, ['brier'])[0]}"
    if found["brier_scaled"] is not None:
        always = number_value("brier", found["brier"] / (1 - found["brier_scaled"]))
        sentence += f"; always predicting the prevalence gives {always}"
    shown = study.class_names[1] if len(study.classes) == 2 else "the predicted class"
    figure = evaluation_plots.reliability_diagram(found, f"probability of {shown}")
    return Section("calibration-of-best", "Calibration", (f"{sentence}.",), (figure, table))


def _verdict(found: Numbers) -> str:
    """Returns whether the probabilities are too extreme; empty for more than two classes."""
    low, high = found["intervals"].get("slope", (0.0, np.inf))
    if found["slope"] is None:
        return ""
    verdict = "Overconfident: the probabilities are too close to 0 and 1"
    if low <= 1 <= high:
        verdict = "Not shown that the probabilities are too extreme or too moderate"
    elif found["slope"] > 1:
        verdict = "Underconfident: the probabilities are too moderate"
    return f"{verdict} (calibration slope {_cells(found, ['slope'])[0]}, ideal 1). "


def _operating_points(study: Study, found: Sequence[Numbers]) -> Section:
    points = {f"{point['target']} ≥ {point['value']:g}": point for point in found}
    rows = [
        (
            Value(name),
            *_cells(point, TERMS.values()),
            Value(f"{min(point['thresholds']):.3f} to {max(point['thresholds']):.3f}"),
        )
        for name, point in points.items()
    ]
    notes = (
        "The threshold of each fold is from inner folds of its training subjects, so held-out images can miss the "
        f"target. In brackets: {study.intervals}.",
    )
    columns = ("target", *TERMS.values(), "thresholds of the folds")
    table = Table(
        "operating-points", "Sensitivity and specificity at thresholds for a target", columns, rows, notes=notes
    )
    figure = evaluation_plots.predictive_values(
        {name: point["ppv_npv"] for name, point in points.items()}, study.class_names[1]
    )
    return Section("operating-points-of-best", "Operating points", (), (table, figure))


def _subgroups(study: Study, found: Mapping[str, Sequence[Numbers]]) -> Section:
    metrics = _metrics(study)
    rows = [
        (Value(group), Value(str(one["name"])), *_counts(one["images"], one["subjects"]), *_cells(one, metrics))
        for group, members in found.items()
        for one in members
    ]
    columns = ("group", "images with", "images", "subjects", *metrics.values())
    notes = (f"In brackets: {study.intervals}.",)
    return Section(
        "subgroups-of-best", "Subgroups", (), (Table("subgroups", "Metrics in subgroups", columns, rows, notes=notes),)
    )


def _beyond_size(study: Study, found: Numbers) -> Section:
    value = number_value("auc", found["auc"], found["interval"])
    rows = [
        (number_value("accuracy", one["area"]), *_counts(one["images"]), *_cells(one, ["auc"]))
        for one in found["strata"]
    ]
    title = "AUC among cells of similar size"
    table = Table("beyond-size", title, ("mean cell size, share of the image", "images", METRICS["auc"]), rows)
    sentence = (
        f"AUC over pairs of cells of similar size: {value}. It would be about 0.5 if the model used the size only."
    )
    return Section("beyond-size-of-best", "Beyond size", (sentence,), (table,))


def _selection(study: Study, found: Numbers) -> Section:
    metric, models = found["metric"], len(study.metrics["trials"])
    best, nested = number_value(metric, found["value"]), number_value(metric, found["nested"], found["interval"])
    chosen = [f"{trial} in {plural(count, 'fold')}" for trial, count in Counter[str](found["chosen"]).most_common()]
    sentence = (
        f"{METRICS[metric]} of the best of {models} models, selected on the images that it is tested on: {best}. "
        f"Selected for each fold on the other folds: {nested} ({', '.join(chosen)})."
    )
    return Section("selection-of-best", "Selection", (sentence,), ())


def _robustness(study: Study, found: DataFrame) -> Section:
    metrics = {name: METRICS[name] for name in ("auc", "accuracy", "macro_recall") if found[name].notna().all()}
    first, *_ = metrics
    rows = []
    for row in found.to_dict("records"):
        values = [Value(row["perturbation"], note=row["unit"]), Value(f"{row['strength']:g}", row["strength"])]
        for name in metrics:
            for key, sign in ((name, ""), (f"{name}_difference", "+")):
                bounds = [row[f"{key}_low"], row[f"{key}_high"]]
                values.append(number_value(name, row[key], bounds if np.isfinite(bounds).all() else None, sign))
        rows.append(values)
    lower = found[found[f"{first}_difference_high"] < 0].drop_duplicates("perturbation")
    worse = [f"{row.perturbation} from {row.strength:g}" for row in lower.itertuples()]
    sentence = f"{metrics[first]} significantly lower than on unperturbed images: {', '.join(worse) or 'nowhere'}."
    columns = (
        "perturbation",
        "strength",
        *(text for name in metrics.values() for text in (name, "difference")),
    )
    notes = (
        f"{found['images'][0]:,} images, each classified by the heads that were not trained on it. In brackets: "
        f"{study.intervals}; those of differences are paired.",
    )
    table = Table("robustness", "Metrics on perturbed images", columns, rows, notes=notes)
    drawn = {name: label for name, label in metrics.items() if name != "accuracy"}
    return Section(
        "robustness-of-best", "Robustness", (sentence,), (evaluation_plots.robustness_curves(found, drawn), table)
    )


TERMS = {1: "sensitivity", 0: "specificity"}
"""Names of the recalls of two classes."""

CALIBRATION = {
    "slope": "calibration slope (ideal: 1)",
    "intercept": "calibration intercept (0)",
    "ece": "expected calibration error (0)",
    "brier": "Brier score (0)",
    "brier_scaled": "scaled Brier score (1)",
}
"""Display names of the numbers of calibration, with their ideal values."""

SECTIONS: Mapping[str, Callable[[Study, Any], Section]] = {
    "subjects": _subjects, "calibration": _calibration, "operating_points": _operating_points, "subgroups": _subgroups,
    "beyond_size": _beyond_size, "selection": _selection, "robustness": _robustness,
}  # fmt: skip
"""By the keys of what they show."""
