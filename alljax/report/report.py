"""The report of a study: a page that says what was found and how certain it is, with tables and figures beside it."""

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
        sections: returns the sections between findings and results where ``study.compare`` is set; else the ablation.

    Returns:
        The path of the page.

    Raises:
        WorkdirError: a file of the study is missing or damaged, or the folder cannot be written.
    """
    path, inputs = folder / "report.html", _inputs(folder)
    if path.is_file() and f'content="{inputs}"' in path.read_text(encoding="utf-8")[:2000]:
        logging.info(f"{path} is up to date")
        return path

    from alljax.report import ablation, page, tables  # here, so that an unchanged report is found quickly
    from alljax.study.results import read_study

    study = read_study(folder)
    found = sections(study) if sections and study.config["study.compare"] else ablation.sections(study)
    results = page.results_table(study)
    text = page.render(study, found, results, inputs)
    for part in (results, *(part for section in found for part in section.parts)):
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

    Args:
        folder: the working directory of a study.
        read_dataset: returns the study's images; called only if a sheet is written.
    """
    from alljax.study.results import read_study

    study, dataset = read_study(folder), None
    for name in study.ranking.order[:SHEETS]:
        path = folder / "figures" / f"misclassified-{name}.jpg"
        predicted = (folder / "trials" / name / "predictions.csv").stat().st_mtime
        if path.is_file() and path.stat().st_mtime > predicted:
            continue
        dataset = dataset or read_dataset()
        files.write_bytes(path, _contact_sheet(study, name, dataset))


def _contact_sheet(study: "Study", name: str, dataset: "Dataset") -> bytes:
    from PIL import Image

    from alljax.data.images import load
    from alljax.evaluation.metrics import most_confident_errors
    from alljax.report import page, plots

    predictions, names = study.predictions(name), study.class_names
    mean = predictions.probabilities.mean(0)
    record_of = {record.path: record for record in dataset.records}
    images, captions = [], []
    for row in most_confident_errors(predictions.labels, predictions.probabilities, page.MISCLASSIFIED):
        record = record_of[str(predictions.paths[row])]
        images.append(Image.fromarray(load(dataset, record)))
        predicted = f"→ {mean[row].max():.0%} {names[mean[row].argmax()]}"
        captions.append(f"{names[record.label]}\n{predicted}\n{record.subject or record.path.rpartition('/')[2]}")
    return plots.contact_sheet(images, captions)


def _inputs(folder: Path) -> str:
    """Returns a hash of what the page is made from: the study's files, its contact sheets and the code."""
    paths = [*folder.glob("*.json"), *folder.glob("*.csv"), *folder.glob("trials/*/*.csv")]
    paths += folder.glob("figures/misclassified-*.jpg")
    paths += [path for path in Path(alljax.__file__).parent.rglob("*.*") if path.suffix != ".pyc"]
    return hashlib.sha256("".join(f"{path} {files.sha256(path)}\n" for path in sorted(paths)).encode()).hexdigest()
