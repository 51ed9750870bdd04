"""The report's page: what stands on it, and how much of it fits."""

import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from alljax.evaluation.metrics import METRICS, most_confident_errors
from alljax.report import cautions, findings, plots, setting_names, sheets
from alljax.report.findings import BASELINES
from alljax.report.tables import Figure, Section, Table, format_interval, format_value
from alljax.study.results import Predictions, Study

PAGE = 4_400_000
"""Characters that figures and sheets of wrong cells may take: sections, then figures, the best models' first."""

ROW = 3_000
"""Characters that a model's row in the table of results takes at most, about."""

PEOPLE = 200
"""People listed at most, worst first."""

MANY, DRAWN = 12, 6
"""With more models than the first, only as many as the second have figures of their own."""

VALUES = 12
"""Values of a varied setting that are listed at most."""

COLORS = {
    plots.BLUE: "var(--blue)",
    plots.VERMILION: "var(--red)",
    plots.GREEN: "var(--green)",
    plots.PURPLE: "var(--purple)",
    plots.ORANGE: "var(--orange)",
    plots.SKY: "var(--sky)",
    plots.INK: "currentColor",
}
"""What the page calls the colors of figures; they are brighter on a dark page."""


def render(study: Study, found: Sequence[Section]) -> str:
    """Returns the page as HTML; the same study gives the same bytes.

    Args:
        study: the study; curves and predictions of the models that are drawn are read.
        found: the sections between the findings and the results.

    Raises:
        WorkdirError: a file of the study is missing or cut off.
    """
    trials, order = study.metrics["trials"], study.ranking.order
    by, leaky = study.ranking.metric, study.ranking.leaky
    predictions = [study.predictions(name) for name in order[:2]]
    shown_sections, room = _sections(found, PAGE - ROW * max(0, len(order) - MANY))
    drawn = order[: DRAWN if len(order) > MANY else None]
    return _template().render(
        document=None,
        study=study,
        data=study.metrics["dataset"],
        title=findings.title(study),
        count=len(order),
        headline=findings.headline(study, order, predictions[0]),
        findings=findings.findings(study, order),
        warnings=cautions.warnings(study, order[0], predictions[0]),
        failures=cautions.failures(study),
        protocols=cautions.protocols(study),
        varied=_varied(study),
        rules=_rules(study),
        sections=shown_sections,
        rows=_rows(study, order, drawn),
        columns=METRICS,
        ranked_by=METRICS[by],
        leaky=leaky,
        recalls=study.classes if len(study.classes) == 2 else [],
        models=_models(study, drawn, predictions, room),
        people=_people(study, predictions[0]),
        wrong=_most_wrong(study, predictions[0]),
        rows_by_name={name: format_value(by, trials[name][by]) for name in order},
        weights=_weights(study),
        settings=_flat(study.config),
        environment=_flat(study.environment),
        command=study.environment.get("command", ""),
        version=study.environment.get("alljax", ""),
        style=_asset("report.css"),
        script=_asset("report.js"),
    )


def _sections(found: Sequence[Section], room: int) -> tuple[list[dict[str, Any]], int]:
    """Returns the sections as the page shows them, and the room they leave for the models' figures."""
    shown_sections = []
    for section in found:
        parts: list[dict[str, Any]] = []
        for part in section.parts:
            if isinstance(part, Table):
                parts.append({"table": part})
                room -= 150 * len(part.columns) * len(part.rows)
                continue
            svg = inline(part, f"{section.anchor}-{part.name}-")
            fits = len(part.svg) <= room
            room -= len(part.svg) if fits else 0
            parts.append({"picture": part, "svg": svg if fits else None, "width": round(_width(part) * 1.27)})
        shown_sections.append({"section": section, "parts": parts})
    return shown_sections, room


def _width(picture: Figure) -> float:
    """Returns the width of a picture's viewBox; shown 1.27 times as wide its letters are of the page's size."""
    return float((re.search(r'viewBox="0 0 ([\d.]+)', picture.svg) or ["", "0"])[1])


def _models(study: Study, drawn: Sequence[str], predictions: Sequence[Predictions], room: int) -> list[dict[str, Any]]:
    """Returns the models that have figures of their own, best first, with what of it fits."""
    models: list[dict[str, Any]] = []
    for place, name in enumerate(drawn):
        own = predictions[place] if place < len(predictions) else study.predictions(name)
        made = _figures(study, name, own)
        size = sum(len(svg) for _, svg in made)
        models.append({"name": name, "figures": made if size <= room else []})
        room -= size if size <= room else 0
    for model in models:
        model |= sheets.shown(study, model["name"], room)
        room -= len(model["sheet"] or "")
    return models


def _varied(study: Study) -> list[tuple[str, str]]:
    """Returns the settings that differ between the models, and their values."""
    told = []
    for factor in setting_names.varied(study):
        more = f" and {len(factor.labels) - VALUES} more" if len(factor.labels) > VALUES else ""
        between = "; " if any("," in label for label in factor.labels) else ", "
        told.append((factor.name, between.join(factor.labels[:VALUES]) + more))
    return told


def _rules(study: Study) -> list[dict[str, Any]]:
    """Returns the rows of the table of baselines: each rule in each split setting."""
    return [
        {
            "name": BASELINES.get(name, name),
            "split": label,
            "result": rule,
            "values": [
                (format_value(key, rule.get(key)), format_interval(key, rule), rule.get(key)) for key in METRICS
            ],
        }
        for label, split in cautions.splits(study).items()
        for name, rule in split["baselines"].items()
    ]


def _rows(study: Study, order: Sequence[str], drawn: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of the results table: baselines, then models best first."""
    trials, by = study.metrics["trials"], study.ranking.metric
    results = [(rule["name"], rule["result"], True, rule["split"]) for rule in _rules(study)]
    results += [(name, trials[name], False, str(trials[name].get("split", ""))) for name in order]
    ends = [end for _, result, _, _ in results for end in result.get("intervals", {}).get(by, [])]
    ends += [result[by] for _, result, _, _ in results if result.get(by) is not None]
    low, high = math.floor(min(ends) * 20) / 20, math.ceil(max(ends) * 20) / 20
    high = high if high > low else low + 0.05

    def place(value: float) -> float:
        return float(round(100 * (value - low) / (high - low), 2))

    rows = []
    for name, result, is_rule, split in results:
        bounds = result.get("intervals", {}).get(by)
        rows.append(
            {
                "name": name,
                "anchor": "" if is_rule or name not in drawn else f"model-{order.index(name)}",
                "rule": is_rule,
                "first": name == order[0] and not is_rule and len(order) > 1,
                "split": split if len(cautions.splits(study)) > 1 else "",
                "values": [
                    (format_value(key, result.get(key)), format_interval(key, result), result.get(key))
                    for key in METRICS
                ],
                "recalls": [one["recall"] for one in result.get("per_class", [])],
                "seconds": result.get("seconds"),
                "dot": None if result.get(by) is None else place(result[by]),
                "bar": [place(end) for end in bounds] if bounds else None,
                "scale": (low, high),
            }
        )
    return rows


def _figures(study: Study, name: str, predictions: Predictions) -> list[tuple[str, Markup]]:
    """Returns a model's figures with their captions."""
    history = study.history(name)
    watched = "validation cells" if study.settings(name).get("split.validation") else "held-out cells"
    confusion = study.metrics["trials"][name]["confusion"]
    drawn = [
        plots.learning_curves(history, "accuracy", watched),
        plots.learning_curves(history, "loss", watched),
        plots.confusion_matrix(confusion, study.classes),
        plots.roc_curves(predictions.labels, predictions.probabilities, study.classes),
    ]
    return [(figure.caption, inline(figure, f"{name}-{figure.name}-")) for figure in drawn]


def inline(figure: Figure, prefix: str) -> Markup:
    """Returns a figure as an ``<svg>`` element in the colors of the page, with element ids that start with `prefix`."""
    svg = figure.svg[figure.svg.index("<svg") :]
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    curves = Markup(' data-curves="{}"').format(figure.curves) if figure.curves else ""
    head = Markup('<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img"{}><title>{}</title>').format(
        width, height, width, height, curves, figure.description
    )
    unique = re.sub(r"[^A-Za-z0-9]", "-", prefix)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{unique}", svg[svg.index(">") + 1 :].replace("xlink:href", "href"))
    text = head + Markup(body)
    return Markup(re.sub("|".join(COLORS), lambda color: COLORS[color[0]], text))


def _people(study: Study, predictions: Predictions) -> dict[str, Any]:
    """Returns the table of people, worst first, and in how many most cells are called right."""
    right = (predictions.probabilities.argmax(2) == predictions.labels).mean(0)
    names, owner = np.unique(predictions.subjects, return_inverse=True)
    count = np.bincount(owner)
    share = np.bincount(owner, right) / count
    labels = [sorted(set(predictions.labels[owner == person].tolist())) for person in range(len(names))]
    order = np.lexsort((-count, share))
    return {
        "known": bool(np.any(predictions.subject_names != "")),
        "count": len(names),
        "mostly_right": int((share > 0.5).sum()),
        "rows": [
            {
                "name": str(names[person]),
                "classes": ", ".join(study.classes[label] for label in labels[person]),
                "images": int(count[person]),
                "share": float(share[person]),
            }
            for person in order[:PEOPLE]
        ],
    }


def _most_wrong(study: Study, predictions: Predictions) -> list[dict[str, Any]]:
    """Returns the rows of the table beside the sheet."""
    mean = predictions.probabilities.mean(0)
    return [
        {
            "path": str(predictions.paths[row]),
            "subject": str(predictions.subject_names[row]),
            "label": study.classes[predictions.labels[row]],
            "called": study.classes[mean[row].argmax()],
            "probability": float(mean[row].max()),
        }
        for row in most_confident_errors(predictions.labels, predictions.probabilities, 24)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns nested settings as dotted keys and readable values."""
    flat: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return flat


def _weights(study: Study) -> list[tuple[str, str]]:
    """Returns each weight file's description once, however many cells used it."""
    different: list[Mapping[str, Any]] = []
    for trial in study.metrics["trials"].values():
        if (weights := trial.get("weights", {})) not in different:
            different.append(weights)
    if len(different) == 1:
        return _flat(different[0])
    return [pair for number, one in enumerate(different, 1) for pair in _flat(one, f"{number}. ")]


def table_document(table: Table) -> str:
    """Returns a table as an HTML file that needs no other file."""
    return _template().render(document=table, title=table.title, style=_asset("report.css"), script=_asset("report.js"))


def _asset(name: str) -> Markup:
    return Markup(resources.files("alljax.report").joinpath(name).read_text(encoding="utf-8"))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["breakable"] = lambda name: Markup(re.sub(r"([-=_])", r"\1<wbr>", str(escape(name))))
    return environment.from_string(_asset("report.html.j2"))
