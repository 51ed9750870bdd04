"""One page that says what a study found, how sure that is, and how to do it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from alljax import files
from alljax.paper import reproduction, variants
from alljax.report import ablation, page, tables, terminal
from alljax.report.tables import Section, Table
from alljax.study import results
from alljax.study.results import Study


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
    study = results.read_study(Path(folder))
    found = sections(study)
    text = page.render(study, found)
    for section in found:
        _write_parts(study.folder, section)
    path = study.folder / "report.html"
    files.write_text(path, text)
    return path


def sections(study: Study) -> list[Section]:
    """Returns what stands between the findings and the results: the paper's tables, variants or an ablation."""
    compared = {"": ablation, "paper": reproduction, "variants": variants}[study.config.get("study.compare", "")]
    return compared.sections(study)


def _write_parts(folder: Path, section: Section) -> None:
    """Writes ``tables/NAME.html``, ``.csv`` and ``.tex`` of tables, ``figures/NAME.svg`` and ``.png`` of figures."""
    for part in section.parts:
        if isinstance(part, Table):
            path = folder / "tables" / part.name
            files.write_text(path.with_suffix(".html"), page.table_document(part))
            files.write_text(path.with_suffix(".csv"), tables.to_csv(part))
            files.write_text(path.with_suffix(".tex"), tables.to_latex(part))
        else:
            files.write_text(folder / "figures" / f"{part.name}.svg", part.svg)
            files.write_bytes(folder / "figures" / f"{part.name}.png", part.png)


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
