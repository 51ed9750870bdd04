"""The page of a report, one HTML file that needs no other file, and the model card: the page as text."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from alljax import files
from alljax.data.dataset import Dataset
from alljax.data.duplicates import near_pairs, reduce
from alljax.data.images import load
from alljax.errors import plural
from alljax.report import curves, evaluation_sections, findings, model_tables, plots, tables
from alljax.report.setting_names import setting_name, setting_value, without_folders
from alljax.report.tables import Figure, Section, Table
from alljax.settings import SETTINGS
from alljax.study.results import Study

SOURCES = {"cnmc": "C-NMC 2019", "synthetic": "Generated cells"}  # others: the name of their folder or file
NAMES = ("text", "blue", "red", "green", "purple", "orange", "sky")  # of colors in CSS: brighter on a dark page
COLORS = {color: f"var(--{name})" for color, name in zip((plots.INK, *plots.PALETTE), NAMES, strict=True)}

SETUP = "train.mode model.backbone train.optimizer train.epochs train.learning_rate train.batch_size study.seeds"

OPEN = (
    "## Open topics\n\nThe authors have to add them. Robustness and a test on another source are open, too, unless "
    "sections above have them.",
    "CLAIM, update of 2024 (Radiology: Artificial Intelligence 6(4):e240300): title and summary; clinical role and "
    "aims; kind of study; inclusion of patients and images; removal of identity; image acquisition; missing data; "
    "definition of the classes, who labeled, and agreement of raters; planned sample size; explanation; implications "
    "for practice; registration, protocol, availability and funding.",
    "TRIPOD+AI (BMJ 2024;385:e078378): title and abstract; health context, intended use and known inequalities; "
    "objectives; setting, dates and eligibility; treatments; the outcome, its assessors and blinding; missing data; "
    "sample size; fairness; flow and characteristics of participants; interpretation; expertise of users; ethics "
    "approval, funding, conflicts of interest, protocol, registration and data availability; patient involvement.",
)
"""Topics in our words; the guidelines number and divide them differently."""


def sections(study: Study, effects: Sequence[Section]) -> list[Section]:
    """Returns the sections of the page in order; `effects` are those that compare trials."""
    results = "The last rows are baselines: what a model must exceed. A click on a heading sorts. Tables are also in "
    results += "tables/ (CSV, LaTeX, HTML), figures in figures/ (SVG, PNG)."
    all_results = model_tables.results_table(study), model_tables.class_metrics_table(study)
    result, names = study.metrics["trials"][study.ranking.best], study.class_names
    settings, sheet = study.settings(study.ranking.best), sheet_path(study)
    setup = ", ".join(f"{setting_name(key)} {setting_value(key, settings[key])}" for key in SETUP.split())
    if combined := result.get("members"):
        setup = f"{settings['study.combine'][0][1]} of {', '.join(combined)}"
    caption = f"Confusion matrix, mean over {plural(len(result['seeds']), 'seed')}"
    figures = [plots.confusion_matrix(caption, result["confusion"], names)]
    if result["auc"] is not None:
        figures += curves.class_curves(study.predictions(study.ranking.best).held_out, names)
    bands = "Curves are means over seeds, bands from the lowest to the highest seed."
    caption = "Misclassified images with the highest probability; the numbers are those of the list below"
    gallery = [plots.embed("misclassified", caption, sheet.read_bytes())] if sheet.is_file() else []
    return [
        Section("setup", "Setup", (f"Best model: {setup}.",), ()),
        model_tables.data_section(study),
        *effects,
        Section("baselines-of-best", "Baselines", (), (model_tables.baselines_table(study),)),
        Section("all-results", "Results", (results,), all_results),
        Section("confusion-of-best", "Confusion matrix", (bands,), figures),
        *evaluation_sections.sections(study),
        *_training(study),
        Section("errors", "Misclassified images", (), (*gallery, model_tables.misclassified_table(study))),
        _settings_section(study),
    ]


def _training(study: Study) -> Iterator[Section]:
    """Yields the section on the epochs of the best model; nothing of a classifier without epochs."""
    history, figures = study.history(study.ranking.best), []
    tested = "validation images" if study.settings(study.ranking.best)["split.validation"] else "held-out images"
    for quantity in ("accuracy", "loss") if len(history) else ():
        drawn, caption = {"": curves.learning_curves(history, quantity, tested)}, f"{quantity.capitalize()} in training"
        figures.append(curves.curve_figure(f"{quantity}-curve", caption, drawn, ("epoch", quantity)))
    if figures:
        text = "Curves are means over folds and seeds, bands one standard deviation."
        yield Section("training", "Training", (text,), figures)


def _settings_section(study: Study) -> Section:
    """Returns how to repeat the study: command, weights, settings other than the defaults, software."""
    environment = study.environment
    weights = dict.fromkeys(
        f"{used['backbone']}, {used['name'] or 'unknown source'}, license {used['license']}, SHA-256 {used['sha256']}"
        for used in (trial["weights"] for trial in study.metrics["trials"].values())
        if used
    )
    defaults = {key: json.dumps(setting.default) for key, setting in SETTINGS.items()}
    changed = [f"    {key}={study.config[key]}" for key in defaults if json.dumps(study.config[key]) != defaults[key]]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    paragraphs = (
        without_folders(f"    {environment['command']}"),
        "This command, with the paths of the data and weights and another --workdir, repeats the study. The same data, "
        "weights, versions and kind of CPU give bitwise equal predictions; on a GPU the last digits can differ.",
        "All settings are in config.json, those of each model in trials.json. Settings other than the defaults:",
        without_folders("\n".join(changed)),
        f"Weights: {'; '.join(weights) or 'none'}.",
        f"alljax {environment['alljax']} (Apache-2.0); {packages}; {', '.join(environment['devices'])}.",
    )
    return Section("settings", "Settings", paragraphs, ())


def sheet_path(study: Study) -> Path:
    """Returns the path of the contact sheet of the best model."""
    return study.folder / "figures" / f"misclassified-{study.ranking.best}.jpg"


def write_contact_sheet(study: Study, dataset: Dataset) -> None:
    """Writes the contact sheet of images that the best model misclassifies; near duplicates take one place."""
    rows, records = model_tables.misclassified(study), {record.path: record for record in dataset.records}
    paths = study.predictions(study.ranking.best).paths
    images = [load(dataset, records[paths[row]]) for row in rows]
    same = near_pairs([reduce(image) for image in images])[:, 1]
    different = [place for place in range(len(rows)) if place not in same]
    listed = [model_tables.misclassified_table(study).rows[place] for place in different]
    captions = [f"{true}\n→ {predicted}\n{number}: {share}" for number, share, true, predicted, *_ in listed]
    if rows:
        files.write_bytes(sheet_path(study), plots.contact_sheet([images[place] for place in different], captions))


def render(study: Study, sections: Sequence[Section], inputs: str) -> str:
    """Returns the page; `inputs`, a hash of what it is made from, is stored in its head."""
    names, data = study.class_names, study.metrics["dataset"]
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
    )


def render_table(table: Table) -> str:
    """Returns a table as an HTML file that needs no other file."""
    return _template().render(table=table, title=table.title, inputs="")


def inline(figure: Figure) -> Markup:
    """Returns a figure as an ``<svg>`` element in the colors of the page; its name makes the ids of elements unique."""
    svg = figure.svg[figure.svg.index("<svg") :]
    head = Markup('<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img"><title>{2}</title>').format(
        *figure.size, figure.caption
    )
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{figure.name}-", svg[svg.index(">") + 1 :].replace("xlink:", ""))
    return Markup(re.sub("|".join(COLORS), lambda color: COLORS[color[0]], head + Markup(body)))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["inline"] = inline
    return environment.get_template("report.html.j2")


def model_card(study: Study, sections: Sequence[Section]) -> str:
    """Returns the card: intended use, limitations, the report without figures, topics that a program cannot fill."""
    limits = [f"- {line}" for line in findings.warnings(study)] or ["None were found."]
    intended = "Intended use: research only. Not a medical device, and not tested in patient care."
    parts = ["# Model card", intended, "## Limitations found", "\n".join(limits)]
    parts += ["## What the numbers support", *findings.findings(study)]
    for section in sections:
        if not section.parts or any(isinstance(part, Table) for part in section.parts):
            parts += _markdown(section)
    return "\n\n".join([*parts, *OPEN]) + "\n"


def summary(study: Study, section: Section) -> str:
    """Returns a section and, below it, limitations and findings: short enough to be pasted into an issue."""
    lines = [f"- {line}" for line in (*findings.warnings(study), *findings.findings(study))]
    return "\n\n".join([*_markdown(section), "\n".join(lines)]) + "\n"


def _markdown(section: Section) -> list[str]:
    shown = [tables.to_markdown(part) for part in section.parts if isinstance(part, Table)]
    return [f"## {section.title}", *section.paragraphs, *shown]
