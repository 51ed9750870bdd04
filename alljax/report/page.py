"""The page of a report: a study's results as one HTML file that needs no other file."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from alljax.evaluation.metrics import METRICS, most_confident_errors
from alljax.report import findings, plots, setting_names
from alljax.report.tables import Figure, Section, Table, Value, format_value, metric_value
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
    trials = study.metrics["trials"]
    weights = {trial["weights"].get("name", name): trial["weights"] for name, trial in trials.items()}
    return _template().render(
        table=None,
        inputs=inputs,
        study=study,
        data=study.metrics["dataset"],
        title=findings.title(study),
        ranking=ranking,
        metric=METRICS[ranking.metric],
        level=f"{study.config['evaluation.level']:.0%}",
        unit=trials[best]["interval_unit"],
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
        values={name: format_value(ranking.metric, trials[name][ranking.metric]) for name in ranking.order},
        misclassified=_misclassified(study),
        subjects=subjects_table(study),
        details={"Weights": weights, "Settings": study.config, "Environment": study.environment},
        **_assets(),
    )


def render_table(table: Table) -> str:
    """Returns a table as an HTML file that needs no other file."""
    return _template().render(table=table, title=table.title, inputs="", **_assets())


def results_table(study: Study) -> Table:
    """Returns the table of models, best first, with the baselines in the footer."""
    ranking, trials, splits = study.ranking, study.metrics["trials"], study.metrics["splits"]
    recalls = [f"recall of {name}" for name in study.class_names] if len(study.classes) == 2 else []
    baselines = [
        (findings.BASELINES[name], split, result)
        for split, content in splits.items()
        for name, result in content["baselines"].items()
    ]
    bounds = [result["intervals"].get(ranking.metric, []) for result in (*trials.values(), *(b[2] for b in baselines))]
    ends = [end for interval in bounds for end in interval] or [0.0, 1.0]
    low, width = min(ends), max(ends) - min(ends) or 1.0

    def row(name: Value, split: str, result: Mapping[str, Any]) -> tuple[Value, ...]:
        values = [metric_value(key, result, interval=place < 3) for place, key in enumerate(METRICS)]
        if (interval := result["intervals"].get(ranking.metric)) and result[ranking.metric] is not None:
            start, middle, end = ((value - low) / width for value in (interval[0], result[ranking.metric], interval[1]))
            place = list(METRICS).index(ranking.metric)
            values[place] = replace(values[place], bar=(start, middle, end))
        values += [Value(f"{one['recall']:.3f}", one["recall"]) for one in result["per_class"] if recalls]
        minutes = Value(f"{result['seconds'] / 60:.1f}", result["seconds"] / 60) if "seconds" in result else Value("")
        return (name, *([Value(split)] if len(splits) > 1 else []), *values, minutes)

    rows = []
    for place, name in enumerate(ranking.order):
        link, note = f"model-{place}" if place < DRAWN else "", "leaky test" if name in ranking.leaky else ""
        rows.append(row(Value(name, note=note, link=link), trials[name]["split"], trials[name]))
    columns = ("model", *(["split"] if len(splits) > 1 else []), *METRICS.values(), *recalls, "minutes")
    footer = tuple(row(Value(name), split, result) for name, split, result in baselines)
    note = (
        f"In brackets: {study.config['evaluation.level']:.0%} intervals over {trials[ranking.best]['interval_unit']}; "
        "metrics.json has those of the other metrics. The minutes are those of training, without extracting features."
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
    history, tested, names = study.history(name), study.predictions(name), study.class_names
    validation = "validation images" if study.settings(name)["split.validation"] else "held-out images"
    confusion, draw, curves = study.metrics["trials"][name]["confusion"], plots.draw_single, plots.draw_learning_curves
    entries = [
        f"{true} predicted as {predicted}: {count:,.0f}"
        for true, row in zip(names, confusion, strict=True)
        for predicted, count in zip(names, row, strict=True)
    ]
    matrix = draw("confusion", "Confusion matrix", plots.draw_confusion_matrix, confusion, names)
    figures = [
        draw("accuracy", "Accuracy during training", curves, history, "accuracy", validation),
        draw("loss", "Loss during training", curves, history, "loss", validation),
        replace(matrix, description="Confusion matrix; " + ", ".join(entries[:25])),
        draw("roc", "ROC curve", plots.draw_roc_curves, tested.labels, tested.probabilities, names),
    ]
    path, sheet = study.folder / "figures" / f"misclassified-{name}.jpg", None
    if path.is_file():
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            sheet = base64.b64encode(content).decode(), image.width // 2, image.height // 2
    return {"name": name, "figures": figures, "sheet": sheet}


def _classes(study: Study) -> Table:
    data = study.metrics["dataset"]
    columns = ("class", "images", "share", "subject names")[: 4 if data["subjects"] else 3]

    def row(name: str, images: int, subjects: int) -> tuple[Value, ...]:
        share = images / data["images"]
        values = Value(f"{images:,}", images), Value(f"{share:.1%}", share), Value(f"{subjects:,}", subjects)
        return (Value(name), *values)[: len(columns)]

    counts = [data["by_class"][label] for label in study.classes]
    rows = [row(name, one["images"], one["subjects"]) for name, one in zip(study.class_names, counts, strict=True)]
    total = row("total", data["images"], data["subject_names"])
    return Table("classes", "Images by class", columns, tuple(rows), (total,))


def _misclassified(study: Study) -> Table:
    predictions = study.predictions(study.ranking.best)
    mean, names = predictions.probabilities.mean(0), study.class_names
    rows = []
    for row in most_confident_errors(predictions.labels, predictions.probabilities, MISCLASSIFIED):
        probability = float(mean[row].max())
        true, predicted = names[predictions.labels[row]], names[mean[row].argmax()]
        subject, path = str(predictions.subject_names[row]) or "–", str(predictions.paths[row])
        shown = Value(f"{probability:.1%}", probability)
        rows.append((Value(true), Value(predicted), shown, Value(subject), Value(path)))
    columns = ("true class", "predicted class", "probability", "subject", "file")
    return Table("misclassified", "Misclassified images with the highest probability", columns, tuple(rows))


def subjects_table(study: Study) -> Table | None:
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
