"""One page that says what a study found, how sure that is, and how to do it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from alljax import files
from alljax.paper import reproduction, variants
from alljax.report import ablation, page, tables, terminal
from alljax.report.sections import Section
from alljax.study import finished
from alljax.study.finished import Study


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` from what a study has left in its folder, and reads nothing else.

    The tables and pictures of its sections are written beside it, into ``tables/`` and ``figures/``.

    Args:
        folder: the working directory of a finished study.

    Returns:
        The report's path.

    Raises:
        WorkdirError: a file of the study is missing or cut off, or the folder cannot be written.
    """
    study = finished.read_study(Path(folder))
    found = sections(study)
    text = page.render(study, found)
    for section in found:
        tables.write(study.folder, section)
    path = study.folder / "report.html"
    files.write_text(path, text)
    return path


def sections(study: Study) -> list[Section]:
    """Returns what stands between the findings and the results: the paper's tables, variants or an ablation."""
    compared = {"": ablation, "paper": reproduction, "variants": variants}[study.config.get("study.compare", "")]
    return compared.sections(study)


def show(metrics: Mapping[str, Any]) -> None:
    """Prints the results on standard output as a table that fits, and which of two classes is the positive one.

    Args:
        metrics: what metrics.json holds.
    """
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    console.print(terminal.table(metrics, console.width))
    for line in terminal.notes(metrics):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
