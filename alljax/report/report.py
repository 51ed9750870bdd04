"""The report of a study: a page, and its tables and figures as files."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

import alljax
from alljax import files

if TYPE_CHECKING:
    from alljax.data.dataset import Dataset
    from alljax.report.tables import Section
    from alljax.study.results import Study


def write_report(
    folder: Path,
    sections: "Callable[[Study], list[Section]] | None" = None,
    read_dataset: "Callable[[], Dataset] | None" = None,
) -> Path:
    """Writes ``report.html``, ``model_card.md``, ``tables/`` and ``figures/`` of a study, unless they are up to date.

    `sections` returns those that ``study.compare`` asks for; one named ``summary`` is also written as ``summary.md``.
    `read_dataset` returns the images, to show misclassified ones.
    """
    path, card, images = folder / "report.html", folder / "model_card.md", " with images" if read_dataset else ""
    if path.is_file() and card.is_file() and _inputs(folder) + images in path.read_text("utf-8")[:2000]:
        logging.info(f"{path} is up to date")
        return path

    # Here, so that an unchanged report is found quickly.
    from alljax.report import ablation, page, tables
    from alljax.study.results import read_study

    study = read_study(folder)
    if not study.config["report.images"]:
        for sheet in folder.glob("figures/misclassified-*.jpg"):
            sheet.unlink()
    elif read_dataset:
        page.write_contact_sheet(study, read_dataset())
    effects = sections(study) if sections and study.config["study.compare"] else ablation.sections(study)
    effects = [*ablation.source_section(study), *effects]
    found = page.sections(study, effects)
    if summary := next((section for section in effects if section.anchor == "summary"), None):
        files.write_text(folder / "summary.md", page.summary(study, summary))
    text = page.render(study, found, _inputs(folder) + images)
    for part in (part for section in found for part in section.parts):
        if isinstance(part, tables.Table):
            files.write_text(folder / "tables" / f"{part.name}.html", page.render_table(part))
            files.write_text(folder / "tables" / f"{part.name}.csv", tables.to_csv(part))
            files.write_text(folder / "tables" / f"{part.name}.tex", tables.to_latex(part))
        elif part.png:  # not the contact sheet, which is there already
            files.write_text(folder / "figures" / f"{part.name}.svg", part.svg)
            files.write_bytes(folder / "figures" / f"{part.name}.png", part.png)
    files.write_text(card, page.model_card(study, found))
    files.write_text(path, text)
    return path


def _inputs(folder: Path) -> str:
    """Returns a hash of what the page is made from: the study's files and the code."""
    patterns = "*.json", "*.csv", "trials/*/*.csv", "trials/*/robustness.json", "external/*/*.json"
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    paths += [path for path in Path(alljax.__file__).parent.rglob("*.*") if "__pycache__" not in path.parts]
    return hashlib.sha256("".join(f"{path} {files.sha256(path)}\n" for path in sorted(paths)).encode()).hexdigest()
