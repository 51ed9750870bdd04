"""The page of a report: a study's results as one HTML file that needs no other file."""

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from alljax.evaluation.metrics import METRICS, most_confident_errors
from alljax.report import findings, plots, setting_names
from alljax.report.findings import BASELINES
from alljax.report.tables import Figure, Section, Table, Value, format_interval, format_value
from alljax.study.results import Study

DRAWN = 6
"""Models with figures on the page, the best ones."""

SUBJECTS = 200
"""Subjects in the table, those with most errors."""

MISCLASSIFIED = 24
"""Misclassified images on a contact sheet and in the table."""

COLORS = {
    plots.INK: "currentColor", plots.BLUE: "var(--blue)", plots.VERMILION: "var(--red)", plots.GREEN: "var(--green)",
    plots.PURPLE: "var(--purple)", plots.ORANGE: "var(--orange)", plots.SKY: "var(--sky)",
}  # fmt: skip
"""CSS colors of the page for those of figures; they are brighter on a dark page."""


def render(study: Study, sections: Sequence[Section], results: Table, inputs: str) -> str:
    """Returns the page; the same study gives the same bytes.

    Args:
        study: the study; histories and predictions of the models with figures are read.
        sections: shown between the findings and the results.
        results: from `results_table`.
        inputs: hash of what the page is made from, stored in its head.
    """
    ranking, best = study.ranking, study.ranking.best
    metrics = study.metrics["trials"]
    return _template().render(
        table=None,
        inputs=inputs,
        study=study,
        data=study.metrics["dataset"],
        title=findings.title(study),
        ranking=ranking,
        metric=METRICS[ranking.metric],
        level=f"{study.config['evaluation.level']:.0%}",
        unit=metrics[best]["interval_unit"],
        headline=findings.headline(study),
        auc_meaning=findings.auc_meaning(study),
        findings=findings.findings(study),
        warnings=findings.warnings(study),
        protocols=findings.protocols(study),
        varied=setting_names.varied_settings(study),
        classes=_classes(study),
        sections=sections,
        results=results,
        models=[_model(study, name) for name in ranking.order[:DRAWN]],
        values={name: format_value(ranking.metric, metrics[name][ranking.metric]) for name in ranking.order},
        misclassified=_misclassified(study),
        subjects=_subjects(study),
        details=[
            _pairs("weights", "Weights", _weights(study)),
            _pairs("settings", "Settings", _flatten(study.config)),
            _pairs("environment", "Environment", _flatten(study.environment)),
        ],
        **_assets(),
    )


def render_table(table: Table) -> str:
    """Returns a table as an HTML file that needs no other file."""
    return _template().render(table=table, title=table.title, inputs="", **_assets())


def results_table(study: Study) -> Table:
    """Returns the table of models, best first, with the baselines in the footer."""
    ranking, trials = study.ranking, study.metrics["trials"]
    several = len(findings.splits(study)) > 1
    recalls = [f"recall of {name}" for name in study.class_names] if len(study.classes) == 2 else []
    baselines = [
        (BASELINES[name], label, result)
        for label, split in findings.splits(study).items()
        for name, result in split["baselines"].items()
    ]
    results = [trials[name] for name in ranking.order] + [result for _, _, result in baselines]
    ends = [result[ranking.metric] for result in results if result.get(ranking.metric) is not None]
    ends += [end for result in results for end in result.get("intervals", {}).get(ranking.metric, [])]
    scale = math.floor(min(ends) * 20) / 20, max(math.ceil(max(ends) * 20) / 20, math.floor(min(ends) * 20) / 20 + 0.05)

    def row(name: Value, split: str, result: Mapping[str, Any]) -> tuple[Value, ...]:
        values = [
            Value(format_value(key, result[key]), result[key], format_interval(key, result) if place < 3 else "")
            for place, key in enumerate(METRICS)
        ]
        place = list(METRICS).index(ranking.metric)
        if (bounds := result.get("intervals", {}).get(ranking.metric)) and values[place].number is not None:
            low, high = scale
            bar = [(value - low) / (high - low) for value in (bounds[0], result[ranking.metric], bounds[1])]
            values[place] = Value(
                values[place].text, values[place].number, values[place].note, (bar[0], bar[1], bar[2])
            )
        values += [
            Value(f"{of_class['recall']:.3f}", of_class["recall"]) for of_class in result["per_class"] if recalls
        ]
        seconds = result.get("seconds")
        minutes = Value("") if seconds is None else Value(f"{seconds / 60:.1f}", seconds / 60)
        return (name, *([Value(split)] if several else []), *values, minutes)

    rows = []
    for place, name in enumerate(ranking.order):
        link = f"model-{place}" if place < DRAWN else ""
        note = "leaky test" if name in ranking.leaky else ""
        rows.append(row(Value(name, note=note, link=link), trials[name]["split"], trials[name]))
    columns = ("model", *(["split"] if several else []), *METRICS.values(), *recalls, "minutes")
    footer = tuple(row(Value(name), label, result) for name, label, result in baselines)
    level, unit = f"{study.config['evaluation.level']:.0%}", trials[ranking.best]["interval_unit"]
    note = (
        f"In brackets: {level} intervals over {unit}; those of the other metrics are in metrics.json. The minutes are "
        "those of training, without extracting features."
    )
    return Table("results", "Metrics over all held-out images", columns, tuple(rows), footer, (note,))


def inline(figure: Figure, prefix: str) -> Markup:
    """Returns a figure as an ``<svg>`` element in the colors of the page, with element ids that start with `prefix`."""
    svg = figure.svg[figure.svg.index("<svg") :]
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    curves = Markup(' data-curves="{}"').format(figure.curves) if figure.curves else ""
    head = Markup('<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img"{}><title>{}</title>').format(
        width, height, width, height, curves, figure.description
    )
    unique = re.sub(r"[^A-Za-z0-9]", "-", prefix)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{unique}-", svg[svg.index(">") + 1 :].replace("xlink:", ""))
    return Markup(re.sub("|".join(COLORS), lambda color: COLORS[color[0]], head + Markup(body)))


def _model(study: Study, name: str) -> dict[str, Any]:
    """Returns the figures of a model and its contact sheet as a data URL with the size it is displayed at."""
    history, predictions = study.history(name), study.predictions(name)
    validation = "validation images" if study.settings(name)["split.validation"] else "held-out images"
    figures = [
        plots.learning_curves(history, "accuracy", validation),
        plots.learning_curves(history, "loss", validation),
        plots.confusion_matrix(study.metrics["trials"][name]["confusion"], study.class_names),
        plots.roc_curves(predictions.labels, predictions.probabilities, study.class_names),
    ]
    path, sheet = study.folder / "figures" / f"misclassified-{name}.jpg", None
    if path.is_file():
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            sheet = base64.b64encode(content).decode(), image.width // 2, image.height // 2
    return {"name": name, "figures": figures, "sheet": sheet}


def _classes(study: Study) -> Table:
    data = study.metrics["dataset"]
    known = data["subjects"] > 0

    def row(name: str, images: int, subjects: int) -> tuple[Value, ...]:
        share = images / data["images"]
        values = Value(f"{images:,}", images), Value(f"{share:.1%}", share), Value(f"{subjects:,}", subjects)
        return (Value(name), *values[: 3 if known else 2])

    rows = tuple(
        row(name, data["by_class"][label]["images"], data["by_class"][label]["subjects"])
        for label, name in zip(study.classes, study.class_names, strict=True)
    )
    columns = ("class", "images", "share", "subject names")[: 4 if known else 3]
    total = row("total", data["images"], data["subject_names"])
    return Table("classes", "Images by class", columns, rows, (total,))


def _misclassified(study: Study) -> Table:
    predictions = study.predictions(study.ranking.best)
    mean, names = predictions.probabilities.mean(0), study.class_names
    rows = []
    for row in most_confident_errors(predictions.labels, predictions.probabilities, MISCLASSIFIED):
        probability = float(mean[row].max())
        words = names[predictions.labels[row]], names[mean[row].argmax()]
        subject, path = str(predictions.subject_names[row]) or "–", str(predictions.paths[row])
        rows.append(
            (*map(Value, words), Value(f"{probability:.1%}", probability), *map(Value, (subject, path)))
        )  # fmt: skip
    columns = ("true class", "predicted class", "probability", "subject", "file")
    return Table("misclassified", "Misclassified images with the highest probability", columns, tuple(rows))


def _subjects(study: Study) -> Table | None:
    """Returns the accuracy of the best model per subject, lowest first; None where subjects are unknown."""
    predictions = study.predictions(study.ranking.best)
    if not study.metrics["dataset"]["subjects"]:
        return None
    correct = (predictions.probabilities.argmax(2) == predictions.labels).mean(0)
    names, owner = np.unique(predictions.subjects, return_inverse=True)
    count = np.bincount(owner)
    share = np.bincount(owner, correct) / count
    rows = []
    for subject in np.lexsort((-count, share))[:SUBJECTS]:
        labels = sorted(set(predictions.labels[owner == subject].tolist()))
        accuracy = float(share[subject])
        rows.append((
            Value(str(names[subject])), Value(", ".join(study.class_names[label] for label in labels)),
            Value(f"{count[subject]:,}", int(count[subject])),
            Value(f"{accuracy:.0%}", accuracy, bar=(0.0, accuracy, accuracy)),
        ))  # fmt: skip
    notes = [f"More than half of the images are correct for {(share > 0.5).sum():,} of {len(names):,} subjects."]
    if len(names) > SUBJECTS:
        notes.append(f"The first {SUBJECTS} are shown; predictions.csv of the model has all.")
    columns = ("subject", "true class", "images", "accuracy")
    return Table("subjects", "Accuracy per subject, lowest first", columns, tuple(rows), notes=tuple(notes))


def _pairs(name: str, title: str, pairs: Mapping[str, str]) -> Table:
    rows = tuple((Value(key), Value(value or "–")) for key, value in pairs.items())
    return Table(name, title, ("name", "value"), rows)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns nested values as dotted keys and texts."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat


def _weights(study: Study) -> dict[str, str]:
    """Returns the description of each weight file once, however many trials used it."""
    different: list[Mapping[str, Any]] = []
    for trial in study.metrics["trials"].values():
        if trial["weights"] not in different:
            different.append(trial["weights"])
    numbers = ("" if len(different) == 1 else f"{number}. " for number in range(1, len(different) + 1))
    return {key: value for prefix, one in zip(numbers, different, strict=True)
            for key, value in _flatten(one, prefix).items()}  # fmt: skip


def _assets() -> dict[str, Markup]:
    return {"style": Markup(_read("report.css")), "script": Markup(_read("report.js"))}


def _read(name: str) -> str:
    return resources.files("alljax.report").joinpath(name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["breakable"] = lambda name: Markup(re.sub(r"([-=_])", r"\1<wbr>", str(escape(name))))
    environment.filters["inline"] = inline
    return environment.from_string(_read("report.html.j2"))
