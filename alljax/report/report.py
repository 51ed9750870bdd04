"""The report of a study: a page, and its tables and figures as files."""

import functools
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

SHEETS = 3
"""Models with a contact sheet of misclassified images, the best ones."""


def write_report(folder: Path, sections: "Callable[[Study], list[Section]] | None" = None) -> Path:
    """Writes ``report.html``, ``tables/`` and ``figures/`` of a study; nothing if its files have not changed.

    Args:
        folder: the working directory of a study.
        sections: returns the sections between setup and results where ``study.compare`` is set; else the ablation.

    Returns:
        The path of the page.

    Raises:
        WorkdirError: a file of the study is missing or damaged, or the folder cannot be written.
    """
    path, inputs = folder / "report.html", _inputs(folder)
    if path.is_file() and f'content="{inputs}"' in path.read_text(encoding="utf-8")[:2000]:
        logging.info(f"{path} is up to date")
        return path

    from alljax.report import ablation, model_tables, page, tables  # here, so that an unchanged report is found quickly
    from alljax.study.results import read_study

    study = read_study(folder)
    found = sections(study) if sections and study.config["study.compare"] else ablation.sections(study)
    found = [*found, model_tables.results_section(study)]
    text = page.render(study, found, inputs)
    for part in (part for section in found for part in section.parts):
        if isinstance(part, tables.Table):
            files.write_text(folder / "tables" / f"{part.name}.html", page.render_table(part))
            files.write_text(folder / "tables" / f"{part.name}.csv", tables.to_csv(part))
            files.write_text(folder / "tables" / f"{part.name}.tex", tables.to_latex(part))
        else:
            files.write_text(folder / "figures" / f"{part.name}.svg", part.svg)
            files.write_bytes(folder / "figures" / f"{part.name}.png", part.png)
    files.write_text(path, text)
    return path


def write_contact_sheets(folder: Path, read_dataset: "Callable[[], Dataset]") -> None:
    """Writes ``figures/misclassified-NAME.jpg`` of the best models; a sheet newer than the predictions is kept.

    The images are read only if a sheet is written.
    """
    from alljax.study.results import read_study

    study, read = read_study(folder), functools.cache(read_dataset)
    for name in study.ranking.order[:SHEETS]:
        path = folder / "figures" / f"misclassified-{name}.jpg"
        predicted = (folder / "trials" / name / "predictions.csv").stat().st_mtime
        if path.is_file() and path.stat().st_mtime > predicted:
            continue  # before the slow import of Matplotlib

        from alljax.data.images import load
        from alljax.report import plots
        from alljax.report.model_tables import misclassified_table

        if rows := misclassified_table(study, name).rows:
            record_of = {record.path: record for record in read().records}
            images = [load(read(), record_of[file.text]) for *_, file in rows]
            captions = [
                f"{true.text}\n→ {predicted.text}\n{probability.text} · {subject.text}"
                for true, predicted, probability, subject, _ in rows
            ]
            files.write_bytes(path, plots.contact_sheet(images, captions))


def _inputs(folder: Path) -> str:
    """Returns a hash of what the page is made from: the study's files, its contact sheets and the code."""
    paths = [*folder.glob("*.json"), *folder.glob("*.csv"), *folder.glob("trials/*/*.csv")]
    paths += folder.glob("figures/misclassified-*.jpg")
    paths += [path for path in Path(alljax.__file__).parent.rglob("*.*") if path.suffix != ".pyc"]
    return hashlib.sha256("".join(f"{path} {files.sha256(path)}\n" for path in sorted(paths)).encode()).hexdigest()
