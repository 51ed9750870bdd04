"""Tables, figures and sections of a report, and tables as CSV and LaTeX."""

import html
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pandas
import rich.table
from rich import box
from rich.console import Console

from alljax.files import csv_text

PERCENT = {"accuracy": 1, "recall_": 1, "sensitivity": 1, "specificity": 1, "training_accuracy": 2}
"""Starts of the names of metrics written in percent, and their number of decimals."""

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&",
        "_": r"\_\allowbreak{}", "=": r"=\allowbreak{}",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", "-": "{-}", "−": "$-$", "×": r"$\times$",
        "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "→": r"$\to$", "√": r"$\surd$",
        "\n": " ",
    }
)  # fmt: skip
"""Brackets, stars and hyphens too: after the end of a row, or doubled, LaTeX would read them as commands."""


@dataclass(frozen=True)
class Value:
    """One entry of a table."""

    text: str  # as it is displayed
    number: float | None = None  # that the column is sorted by and that the CSV holds; None for words
    note: str = ""  # a second, smaller line, usually an interval

    @property
    def exact(self) -> str:
        """The number with all its digits; empty if there is none."""
        return "" if self.number is None or math.isnan(self.number) else str(self.number).removesuffix(".0")

    def __str__(self) -> str:
        return f"{self.text} {self.note}".rstrip()


@dataclass(frozen=True)
class Table:
    """A table."""

    name: str  # stem of its files, for example ``table-3``
    title: str
    columns: Sequence[str]  # headings
    rows: Sequence[Sequence[Value]]
    footer: Sequence[Sequence[Value]] = ()  # rows that stay at the bottom when the others are sorted
    notes: Sequence[str] = ()  # sentences below the table

    @property
    def all_rows(self) -> list[Sequence[Value]]:
        """The rows and the footer."""
        return [*self.rows, *self.footer]

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds a number."""
        return [any(row[place].number is not None for row in self.all_rows) for place in range(len(self.columns))]


@dataclass(frozen=True)
class Figure:
    """A figure from `plots.save`."""

    name: str  # stem of its files, for example ``figure-9``
    caption: str
    svg: str  # Matplotlib's SVG file
    png: bytes = b""  # the same as PNG; empty for the contact sheet

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', self.svg)[0]
        return float(width), float(height)


@dataclass(frozen=True)
class Section:
    """A section of the report: its id on the page, its heading, plain text, then tables and figures in order."""

    anchor: str
    title: str
    paragraphs: Sequence[str]
    parts: Sequence[Table | Figure]


def format_value(metric: str, value: float | None, sign: str = "") -> str:
    """Returns a metric, or with the sign ``+`` a difference: of accuracy and recall in percent or percentage points."""
    if value is None:
        return "–"
    percent = next((decimals for start, decimals in PERCENT.items() if metric.startswith(start)), None)
    scale, decimals = (100, percent) if percent else (1, 3)
    rounded = round(scale * value, decimals) + 0.0  # no negative zero
    text = f"{rounded:{sign if rounded else ''}.{decimals}f}".replace("-", "−")
    return f"{text}%" if percent and not sign else text


def number_value(metric: str, value: float | None, bounds: Sequence[float] | None = None, sign: str = "") -> Value:
    """Returns a metric or, with the sign ``+``, a difference as an entry of a table, with its interval as note."""
    note = "[" + ", ".join(format_value(metric, bound, sign).rstrip("%") for bound in bounds) + "]" if bounds else ""
    return Value(format_value(metric, value, sign), value, note)


def count_value(number: int) -> Value:
    """Returns a count as an entry of a table."""
    return Value(f"{number:,}", int(number))


def metric_value(metric: str, result: Mapping[str, Any], sign: str = "") -> Value:
    """Returns a metric of a model, baseline or group, or its change with the sign ``+``; ``recall_1`` is of class 1."""
    recalls = {f"recall_{label}": one["recall"] for label, one in enumerate(result.get("per_class", ()))}
    return number_value(metric, (recalls | {**result}).get(metric), result.get("intervals", {}).get(metric), sign)


def terminal_width() -> int:
    """Returns the number of columns of the terminal, 120 without one."""
    return shutil.get_terminal_size((120, 0)).columns


def print_table(table: Table, columns: int | None = None, file: IO[str] | None = None) -> None:
    """Prints a table, if wanted only its first columns, and its notes, by default to standard output."""
    plain = None if file is None else False  # notebooks, which force colors, too
    console = Console(width=terminal_width(), file=file, force_terminal=plain, force_jupyter=False)
    shown = rich.table.Table(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, numeric in [*zip(table.columns, table.numeric, strict=True)][:columns]:
        shown.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for rows, style in ((table.rows, ""), (table.footer, "dim")):
        for row in rows:
            shown.add_row(*map(str, row[:columns]), style=style)
        shown.add_section()
    console.print(shown)
    for note in table.notes:
        console.print(note, markup=False, highlight=False)


def to_html(table: Table) -> str:
    """Returns the table with its title and notes as a fragment of HTML, for notebooks."""
    texts = pandas.DataFrame([map(str, row) for row in table.all_rows], columns=list(table.columns))
    with pandas.option_context("display.max_colwidth", None):  # long names of models stay whole
        body = texts.to_html(index=False, border=0)
    title, *notes = (f"<p>{html.escape(line)}</p>" for line in (table.title, *table.notes))
    return "\n".join([title, body, *notes])


def to_markdown(table: Table) -> str:
    """Returns the table with its title and notes as Markdown, at most ten of its rows."""
    rows = [table.columns, ["---:" if numeric else "---" for numeric in table.numeric]]
    rows += [[str(value).replace("|", "\\|").replace("\n", " ") for value in row] for row in table.rows[:10]]
    rows += [[*map(str, row)] for row in table.footer]
    more = [f"All {len(table.rows)} rows are in tables/{table.name}.csv."] if len(table.rows) > 10 else []
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n\n".join([f"**{table.title}**", lines, *more, *table.notes])


def to_csv(table: Table) -> str:
    """Returns the table as CSV; notes, and words in numeric columns, are in an extra column ``HEADING (note)``."""
    columns = []
    for place, (heading, numeric) in enumerate(zip(table.columns, table.numeric, strict=True)):
        entries = [row[place] for row in table.all_rows]
        columns.append([csv_text(heading), *(entry.exact if numeric else csv_text(entry.text) for entry in entries)])
        words = [entry.text if numeric and entry.number is None and entry.text != "–" else "" for entry in entries]
        notes = ["; ".join(filter(None, (word, entry.note))) for word, entry in zip(words, entries, strict=True)]
        if any(notes):
            columns.append([f"{heading} (note)", *notes])
    frame = pandas.DataFrame(zip(*columns, strict=True))
    return frame.to_csv(index=False, header=False, lineterminator="\n")


def to_latex(table: Table) -> str:
    r"""Returns the table as a longtable with caption and label ``tab:NAME``, to be read with ``\input``."""
    begin, end = r"\begingroup\footnotesize", r"\endgroup"
    if len(table.columns) > 7:
        begin, end = r"\begin{landscape}\scriptsize", r"\end{landscape}"
    head = [heading.translate(LATEX).replace("{", "{{").replace("}", "}}") for heading in table.columns]  # formats
    # A long text needs several lines, so the width increases with the root of its length.
    roots = [math.sqrt(max([9, *(len(row[place].text) for row in table.all_rows)])) for place in range(len(head))]
    kinds = "".join(
        rf">{{\ragged{'left' if numeric else 'right'}\arraybackslash}}p{{{0.86 * root / sum(roots):.3f}\linewidth}}"
        for numeric, root in zip(table.numeric, roots, strict=True)
    )
    text = pandas.DataFrame([map(_latex_value, row) for row in table.all_rows], columns=table.columns).to_latex(
        header=head, index=False, escape=False, longtable=True, caption=table.title.translate(LATEX),
        label=f"tab:{table.name}", column_format=kinds,
    )  # fmt: skip
    packages = r"% needs \usepackage{array,booktabs,longtable,lscape}"
    notes = [rf"\par\noindent {note.translate(LATEX)}" for note in table.notes]
    return "\n".join([packages, begin, r"\setlength{\tabcolsep}{3pt}", text, *notes, rf"\par{end}", ""])


def _latex_value(value: Value) -> str:
    return value.text.translate(LATEX) + (rf" {{\tiny {value.note.translate(LATEX)}}}" if value.note else "")
