"""Tables, figures and sections of a report, and tables as CSV and LaTeX."""

import csv
import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alljax.files import csv_text

PERCENT = {"accuracy": 1, "recall_0": 1, "recall_1": 1, "training_accuracy": 2}
"""Metrics written in percent, and their number of decimals."""

LONG = 32
"""Characters above which LaTeX breaks the texts of a column into lines."""

WIDE = 7
"""Columns above which a LaTeX table is in landscape."""

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", "-": "{-}", "−": "$-$", "×": r"$\times$",
        "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "→": r"$\to$", "√": r"$\surd$",
        "\n": " ",
    }
)  # fmt: skip
"""Brackets, stars and hyphens too: after the end of a row, or doubled, LaTeX would read them as commands."""


@dataclass(frozen=True)
class Value:
    """One entry of a table.

    Attributes:
        text: the entry as it is displayed.
        number: the value that a column is sorted by and that the CSV holds; None for words.
        note: a second, smaller line, usually an interval.
        bar: low end, value and high end of a bar on the page, as shares of its width.
        link: anchor on the page.
    """

    text: str
    number: float | None = None
    note: str = ""
    bar: tuple[float, float, float] | None = None
    link: str = ""

    @property
    def exact(self) -> str:
        """The number with all its digits; empty if there is none."""
        return "" if self.number is None or math.isnan(self.number) else str(self.number).removesuffix(".0")

    def __str__(self) -> str:
        return f"{self.text} {self.note}".rstrip()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: stem of its files, for example ``table-3``.
        title: its caption.
        columns: headings.
        rows: one value per column each.
        footer: rows that stay at the bottom when the others are sorted: means, totals.
        notes: sentences below the table.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    footer: tuple[tuple[Value, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def all_rows(self) -> tuple[tuple[Value, ...], ...]:
        """The rows and the footer."""
        return (*self.rows, *self.footer)

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds a number."""
        return [any(row[place].number is not None for row in self.all_rows) for place in range(len(self.columns))]


@dataclass(frozen=True)
class Figure:
    """A figure from `plots.save`.

    Attributes:
        name: stem of its files, for example ``figure-9``.
        caption: what it shows.
        svg: Matplotlib's SVG file.
        png: the same as PNG; empty where the figure is only on the page.
        description: what a screen reader reads; the caption if empty.
        curves: JSON of the curves that the reader can follow with the mouse; empty if there are none.
    """

    name: str
    caption: str
    svg: str
    png: bytes = b""
    description: str = ""
    curves: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the report: its id on the page, its heading, plain text, then tables and figures in order."""

    anchor: str
    title: str
    paragraphs: tuple[str, ...]
    parts: tuple[Table | Figure, ...]


def format_value(metric: str, value: float | None) -> str:
    """Returns a metric for display: accuracy and recall in percent, the others with three decimals."""
    if value is None:
        return "–"
    return f"{value:.{PERCENT[metric]}%}" if metric in PERCENT else f"{value:.3f}"


def format_difference(metric: str, value: float) -> str:
    """Returns a difference with its sign: of accuracies in percentage points, of others with three decimals."""
    sign = "+" if value else ""
    text = f"{100 * value:{sign}.{PERCENT[metric]}f}" if metric in PERCENT else f"{value:{sign}.3f}"
    return text.replace("-", "−")


def format_bounds(metric: str, bounds: Sequence[float] | None, form: Callable[[str, float], str] = format_value) -> str:
    """Returns ``[low, high]`` of a metric or, with `format_difference`, of a difference; empty without bounds."""
    return "[" + ", ".join(form(metric, bound).rstrip("%") for bound in bounds) + "]" if bounds else ""


def metric_value(metric: str, result: Mapping[str, Any], interval: bool = True) -> Value:
    """Returns a metric of a trial or baseline as an entry of a table, with its interval as note."""
    bounds = result["intervals"].get(metric) if interval else None
    return Value(format_value(metric, result[metric]), result[metric], format_bounds(metric, bounds))


def difference_value(metric: str, value: float, bounds: Sequence[float] | None = None) -> Value:
    """Returns a difference as an entry of a table, with its interval as note."""
    return Value(format_difference(metric, value), value, format_bounds(metric, bounds, format_difference))


def to_csv(table: Table) -> str:
    """Returns the table as CSV: headings, rows, footer.

    A numeric column holds numbers with all digits or nothing. Notes, and words in numeric columns, follow in a column
    ``HEADING (note)``.
    """
    columns, text = [], io.StringIO()
    for place, (heading, numeric) in enumerate(zip(table.columns, table.numeric, strict=True)):
        entries = [row[place] for row in table.all_rows]
        columns.append([csv_text(heading), *(entry.exact if numeric else csv_text(entry.text) for entry in entries)])
        words = [entry.text if numeric and entry.number is None and entry.text != "–" else "" for entry in entries]
        notes = ["; ".join(filter(None, (word, entry.note))) for word, entry in zip(words, entries, strict=True)]
        if any(notes):
            columns.append([f"{heading} (note)", *notes])
    csv.writer(text, lineterminator="\n").writerows(zip(*columns, strict=True))
    return text.getvalue()


def to_latex(table: Table) -> str:
    r"""Returns the table as a longtable with caption and label ``tab:NAME``, to be read with ``\input``.

    Needs the packages array, booktabs, longtable and lscape. Notes of entries are small, below numbers and after texts.
    """
    import pandas

    rows = [[_latex_value(*entry) for entry in zip(row, table.numeric, strict=True)] for row in table.all_rows]
    if table.footer:
        rows[len(table.rows)][0] = rf"\midrule {rows[len(table.rows)][0]}"
    headings = [
        _stack([line.translate(LATEX) for line in textwrap.wrap(label, 12)], "b") if numeric else label.translate(LATEX)
        for label, numeric in zip(table.columns, table.numeric, strict=True)
    ]
    frame = pandas.DataFrame(rows, columns=range(len(headings)))
    styler = frame.style.hide(axis="index").format_index(headings.__getitem__, axis=1)
    text = styler.to_latex(
        environment="longtable", hrules=True, column_format=_layout(table), caption=table.title.translate(LATEX),
        label=f"tab:{table.name}",
    )  # fmt: skip
    wide = len(table.columns) > WIDE
    return "\n".join([
        r"% needs \usepackage{array,booktabs,longtable,lscape}",
        r"\begin{landscape}\scriptsize" if wide else r"\begingroup\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        text.rstrip(),
        *(rf"\par\noindent {note.translate(LATEX)}" for note in table.notes),
        r"\par\end{landscape}" if wide else r"\par\endgroup",
        "",
    ])  # fmt: skip


def _latex_value(value: Value, numeric: bool) -> str:
    text, note = value.text.translate(LATEX), rf"{{\tiny {value.note.translate(LATEX)}}}" if value.note else ""
    return _stack([text, note], "t") if note and numeric else f"{text} {note}".rstrip()


def _stack(lines: Sequence[str], align: str) -> str:
    """Returns lines below each other in one entry of a table."""
    return rf"\begin{{tabular}}[{align}]{{@{{}}r@{{}}}}" + r" \\ ".join(lines) + r"\end{tabular}"


def _layout(table: Table) -> str:
    """Returns the column types: numbers right, short texts left, long texts in lines that share the page's width."""
    long = [any(len(row[place].text) > LONG for row in table.all_rows) for place in range(len(table.columns))]
    wrapped = rf">{{\raggedright\arraybackslash}}p{{{0.9 / (sum(long) + 0.35 * long.count(False)):.2f}\linewidth}}"
    types = {(False, False): "l", (False, True): wrapped}
    return "".join(types.get(column, "r") for column in zip(table.numeric, long, strict=True))
