"""The page of a report: a study's results as one HTML file that needs no other file."""

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
from alljax.data.duplicates import near_pairs, reduce
from alljax.data.images import load
from alljax.evaluation.metrics import METRICS
from alljax.report import findings, model_tables, plots, setting_names, sharing
from alljax.report.tables import Figure, Section, Table, metric_value
from alljax.study.results import Study

SHEETS, PLACES = 3, 24
"""Models with a contact sheet of misclassified images, the best ones, and the number of images on it."""

SOURCES = {"cnmc": "C-NMC 2019", "synthetic": "Generated cells"}
"""Display names of data sets; others are displayed by the name of their folder or file."""

VARIABLES = [f"var(--{name})" for name in ("text", "blue", "red", "green", "purple", "orange", "sky")]
COLORS = dict(zip((plots.INK, *plots.PALETTE), VARIABLES, strict=True))
"""CSS colors of the page for those of figures; they are brighter on a dark page."""


def sections(study: Study, effects: Sequence[Section], more: Sequence[Section]) -> list[Section]:
    """Returns the sections of the page in order: `effects` of settings come before the results, `more` after them."""
    best, varied = study.ranking.best, setting_names.varied_settings(study)
    differing = [f"{one.name} ({'; '.join(value.text for value in one.values)})" for one in varied]
    setup = [_describe(study), *([f"Settings that differ: {', '.join(differing)}."] if varied else [])]
    accuracy, loss, *tested = _figures(study, best, png=True)
    sheet = [tested.pop()] if tested[-1].name == "misclassified" else []
    dots = "The dot on a curve is the prediction of the most probable class; faint lines are the seeds."
    training = "Curves are means over folds and seeds, bands one standard deviation."
    return [
        Section("setup", "Setup", setup, ()),
        model_tables.data_section(study),
        *effects,
        model_tables.baselines_section(study),
        model_tables.results_section(study),
        Section("confusion-of-best", "Confusion matrix", (dots,), tested),
        *more,
        Section("training", "Training", (training,), (accuracy, loss)),
        Section("errors", "Misclassified images", (), (*sheet, model_tables.misclassified_table(study, best))),
    ]


def render(study: Study, sections: Sequence[Section], inputs: str) -> str:
    """Returns the page; `inputs`, a hash of what it is made from, is stored in its head."""
    names, data, shared = study.class_names, study.metrics["dataset"], sharing.without_folders
    weights = {json.dumps(trial["weights"]): trial["weights"] for trial in study.metrics["trials"].values()}
    details = {"Weights": [*weights.values()], "Settings": study.config, "Environment": study.environment}
    source = SOURCES.get(data["name"]) or Path(data["source"]).stem
    return _template().render(
        table=None,
        inputs=inputs,
        study=study,
        title=f"{source}: {' and '.join(names) if len(names) <= 4 else f'{len(names)} classes'}",
        headline=findings.headline(study),
        findings=findings.findings(study),
        warnings=list(findings.warnings(study)),
        sections=sections,
        models=[_model(study, name) for name in study.ranking.order[1 : model_tables.DRAWN]],
        command=shared(study.environment["command"]),
        details={name: shared(json.dumps(value, indent=1, ensure_ascii=False)) for name, value in details.items()},
    )


def _describe(study: Study) -> str:
    """Returns one sentence about how the best model was trained."""
    shown = {key: setting_names.setting_value(key, value) for key, value in study.settings(study.ranking.best).items()}
    frozen = "a head on features of the frozen" if shown["train.mode"] == "frozen" else "fine-tuning of the"
    return (
        f"Best model: {frozen} backbone {shown['model.backbone']}; optimizer {shown['train.optimizer']}, epochs "
        f"{shown['train.epochs']}, learning rate {shown['train.learning_rate']}, batch size "
        f"{shown['train.batch_size']}, seeds {shown['study.seeds']}."
    )


def render_table(table: Table) -> str:
    """Returns a table as an HTML file that needs no other file."""
    return _template().render(table=table, title=table.title, inputs="")


def write_contact_sheets(study: Study, read_dataset: Callable[[], Dataset]) -> None:
    """Writes a contact sheet of misclassified images of each of the best models, unless it is newer than the trial.

    Images that look the same, which are of the same subject or identical, take one place.
    """
    read = functools.cache(read_dataset)
    for name in study.ranking.order[:SHEETS]:
        path, found = study.folder / "figures" / f"misclassified-{name}.jpg", model_tables.misclassified(study, name)
        trained = study.folder / "trials" / name / "predictions.csv"
        if found and (not path.is_file() or path.stat().st_mtime <= trained.stat().st_mtime):
            record_of = {record.path: record for record in read().records}
            records = [record_of[study.predictions(name).paths[row]] for row, *_ in found]
            same = near_pairs([reduce(load(read(), record)) for record in records])[:, 1]
            places = [place for place in range(len(found)) if place not in same][:PLACES]
            captions = [
                f"{found[place][1]}\n→ {found[place][2]}\n{place + 1}: {found[place][3]:.1%}" for place in places
            ]
            files.write_bytes(path, plots.contact_sheet([load(read(), records[place]) for place in places], captions))


def inline(figure: Figure, prefix: str) -> Markup:
    """Returns a figure as an ``<svg>`` element in the colors of the page, with element ids that start with `prefix`."""
    svg = figure.svg[figure.svg.index("<svg") :]
    head = Markup('<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img"><title>{2}</title>').format(
        *figure.size, figure.description or figure.caption
    )
    unique = re.sub(r"[^A-Za-z0-9]", "-", prefix)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{unique}-", svg[svg.index(">") + 1 :].replace("xlink:", ""))
    return Markup(re.sub("|".join(COLORS), lambda color: COLORS[color[0]], head + Markup(body)))


def _model(study: Study, name: str) -> dict[str, Any]:
    """Returns the name of a model, its main metric and its figures."""
    metric, mark = study.ranking.metric, study.ranking.marks.get(name)
    value = metric_value(metric, study.metrics["trials"][name], interval=False)
    return {
        "name": name,
        "value": f"{METRICS[metric]} {value}{f', {mark}' if mark else ''}",
        "figures": _figures(study, name),
    }


def _figures(study: Study, name: str, png: bool = False) -> list[Figure]:
    """Returns training curves, confusion matrix, ROC and precision-recall curves, and contact sheet of a model."""
    history, tested, names = study.history(name), study.predictions(name).held_out, study.class_names
    validation = "validation images" if study.settings(name)["split.validation"] else "held-out images"
    draw, curves = functools.partial(plots.draw_single, png=png), plots.draw_learning_curves
    result, sheet = study.metrics["trials"][name], study.folder / "figures" / f"misclassified-{name}.jpg"
    seeds = f", mean over {len(result['seeds'])} seeds" if len(result["seeds"]) > 1 else ""
    pairs = zip(itertools.product(names, names), np.ravel(result["confusion"]), strict=True)
    entries = [f"{true} predicted as {predicted}: {count:,.0f}" for (true, predicted), count in pairs]
    matrix = draw("confusion", f"Confusion matrix{seeds}", plots.draw_confusion_matrix, result["confusion"], names)
    figures = [
        draw("accuracy-curve", "Accuracy during training", curves, history, "accuracy", validation),
        draw("loss-curve", "Loss during training", curves, history, "loss", validation),
        replace(matrix, description=f"{matrix.caption}; {', '.join(entries[:25])}"),
    ]
    if result["auc"] is not None:
        figures.append(draw("roc", "ROC curve", plots.draw_roc_curves, tested, names))
        precision = plots.draw_precision_recall_curves
        figures.append(draw("precision-recall", "Precision-recall curve", precision, tested, names))
    if sheet.is_file():
        caption = "Misclassified images with the highest probability; the numbers are those of the list below"
        figures.append(plots.embed("misclassified", caption, sheet.read_bytes()))
    return figures


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["breakable"] = lambda name: Markup(re.sub(r"([-=_])", r"\1<wbr>", str(escape(name))))
    environment.filters["inline"] = inline
    return environment.get_template("report.html.j2")
