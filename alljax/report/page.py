"""The page of a report: a study's results as one HTML file that needs no other file."""

import base64
import functools
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from alljax import files
from alljax.data.dataset import Dataset
from alljax.data.images import load
from alljax.evaluation.metrics import METRICS
from alljax.report import findings, model_tables, plots, setting_names
from alljax.report.tables import Figure, Section, Table, metric_value
from alljax.study.results import Study

SHEETS = 3
"""Models with a contact sheet of misclassified images, the best ones."""

VARIABLES = [f"var(--{name})" for name in ("text", "blue", "red", "green", "purple", "orange", "sky")]
COLORS = dict(zip((plots.INK, *plots.PALETTE), VARIABLES, strict=True))
"""CSS colors of the page for those of figures; they are brighter on a dark page."""


def render(study: Study, sections: Sequence[Section], inputs: str) -> str:
    """Returns the page; `inputs`, a hash of what it is made from, is stored in its head."""
    names, data = study.class_names, study.metrics["dataset"]
    weights = {json.dumps(trial["weights"]): trial["weights"] for trial in study.metrics["trials"].values()}
    return _template().render(
        table=None,
        inputs=inputs,
        study=study,
        data=data,
        title=f"{' vs. '.join(names) if len(names) <= 4 else f'{len(names)} classes'} · {data['name']}",
        headline=findings.headline(study),
        findings=findings.findings(study),
        warnings=list(findings.warnings(study)),
        protocols=findings.protocols(study),
        varied=setting_names.varied_settings(study),
        classes=model_tables.classes_table(study),
        sections=sections,
        models=[_model(study, name) for name in study.ranking.order[: model_tables.DRAWN]],
        misclassified=model_tables.misclassified_table(study, study.ranking.best),
        details={"Weights": [*weights.values()], "Settings": study.config, "Environment": study.environment},
    )


def render_table(table: Table) -> str:
    """Returns a table as an HTML file that needs no other file."""
    return _template().render(table=table, title=table.title, inputs="")


def write_contact_sheets(study: Study, read_dataset: Callable[[], Dataset]) -> None:
    """Writes a contact sheet of misclassified images of each of the best models, unless it is newer than the trial."""
    read = functools.cache(read_dataset)
    for name in study.ranking.order[:SHEETS]:
        path = study.folder / "figures" / f"misclassified-{name}.jpg"
        predictions = study.folder / "trials" / name / "predictions.csv"
        rows = model_tables.misclassified_table(study, name).rows
        if rows and (not path.is_file() or path.stat().st_mtime <= predictions.stat().st_mtime):
            record_of = {record.path: record for record in read().records}
            images = [load(read(), record_of[file.text]) for *_, file in rows]
            captions = [
                f"{true.text}\n→ {predicted.text}\n{probability.text} · {subject.text}"
                for true, predicted, probability, subject, _ in rows
            ]
            files.write_bytes(path, plots.contact_sheet(images, captions))


def inline(figure: Figure, prefix: str) -> Markup:
    """Returns a figure as an ``<svg>`` element in the colors of the page, with element ids that start with `prefix`."""
    svg = figure.svg[figure.svg.index("<svg") :]
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    head = Markup('<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img"><title>{}</title>').format(
        width, height, width, height, figure.description or figure.caption
    )
    unique = re.sub(r"[^A-Za-z0-9]", "-", prefix)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{unique}-", svg[svg.index(">") + 1 :].replace("xlink:", ""))
    return Markup(re.sub("|".join(COLORS), lambda color: COLORS[color[0]], head + Markup(body)))


def _model(study: Study, name: str) -> dict[str, Any]:
    """Returns the figures of a model and its contact sheet in base64, empty if it has none."""
    history, tested, names = study.history(name), study.predictions(name).held_out, study.class_names
    validation = "validation images" if study.settings(name)["split.validation"] else "held-out images"
    result, draw, curves = study.metrics["trials"][name], plots.draw_single, plots.draw_learning_curves
    pairs = zip(itertools.product(names, names), np.ravel(result["confusion"]), strict=True)
    entries = [f"{true} predicted as {predicted}: {count:,.0f}" for (true, predicted), count in pairs]
    matrix = draw("confusion", "Confusion matrix", plots.draw_confusion_matrix, result["confusion"], names)
    figures = [
        draw("accuracy", "Accuracy during training", curves, history, "accuracy", validation),
        draw("loss", "Loss during training", curves, history, "loss", validation),
        replace(matrix, description="Confusion matrix; " + ", ".join(entries[:25])),
        draw("roc", "ROC curve", plots.draw_roc_curves, tested, names),
    ]
    path, metric = study.folder / "figures" / f"misclassified-{name}.jpg", study.ranking.metric
    sheet = base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""
    value = f"{METRICS[metric]} {metric_value(metric, result, interval=False)}"
    return {"name": name, "value": value, "figures": figures, "sheet": sheet}


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["breakable"] = lambda name: Markup(re.sub(r"([-=_])", r"\1<wbr>", str(escape(name))))
    environment.filters["inline"] = inline
    return environment.get_template("report.html.j2")
