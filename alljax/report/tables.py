"""A table as HTML, CSV and LaTeX, and a section's tables and pictures as files beside the report."""

import csv
import io
import math
import re
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from alljax import files
from alljax.report.sections import Section, Table, Value

NOTHING = ("", "–")
"""Texts of an entry that has neither number nor words."""

LONG = 32
"""Letters from which on a column of words is broken into lines in LaTeX."""
LETTER = 0.0125
"""Share of a line of LaTeX's article that a letter takes."""
TALL = 12
"""Rows from which on a table with several such columns is taller than a page; others from twice as many on."""
PACKAGES = "array,booktabs,graphicx,longtable"
"""What LaTeX needs to set a table; every distribution has them."""
_SIZE = (r"\footnotesize", r"\setlength{\tabcolsep}{4pt}")

_HTML = """\
<div class="scroll" tabindex="0" role="region" aria-label="{{ table.title }}">
<table class="sortable" id="{{ table.name }}">
<caption><span>{{ table.title }}</span></caption>
<thead><tr>
{% for label in table.columns %}
<th scope="col"{% if numeric[loop.index0] %} class="number"{% endif %}><button type="button">{{ label }}</button></th>
{% endfor %}
</tr></thead>
{% for part, rows in (("tbody", table.rows), ("tfoot", table.footer)) if rows or part == "tbody" %}
<{{ part }}>
{% for row in rows %}
<tr>
{% for entry in row %}
{% set tag = "th" if loop.first else "td" %}
<{{ tag }}{% if loop.first %} scope="row"{% endif %}{% if numeric[loop.index0] %} class="number" data-value="\
{{ full(entry) }}"{% endif %}>{{ entry.text }}{% if entry.note %}<small>{{ entry.note }}</small>{% endif %}</{{ tag }}>
{% endfor %}
</tr>
{% endfor %}
</{{ part }}>
{% endfor %}
</table>
</div>
{% if table.notes %}
<div class="notes">
{% for note in table.notes %}
<p class="soft small">{{ note }}</p>
{% endfor %}
</div>
{% endif %}
"""

# What LaTeX takes for a command. A bracket or a star after the end of a row would be its argument.
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}", "*": "{*}", "–": "--", "—": "---", "−": "$-$",
        "×": r"$\times$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "→": r"$\to$",
        "·": r"$\cdot$", "²": r"$^2$", "…": r"\ldots{}", "“": "``", "”": "''", "‘": "`", "’": "'", "\u00a0": "~",
        "√": r"$\surd$", "β": r"$\beta$", "γ": r"$\gamma$", "\n": " ", "\r": " ", "\t": " ",
    }
)  # fmt: skip


def to_html(table: Table) -> Markup:
    """Returns the table as it stands in a page: a ``<table class="sortable">`` and its notes.

    A column with a number in it is sorted by numbers: its entries carry them in ``data-value``.  The
    page sorts (report.js) and styles (report.css); the footer stays below.
    """
    return Markup(_render(_HTML, table=table, numeric=_numeric(table), full=full))


def to_document(table: Table) -> str:
    """Returns the table as an HTML document that needs no other file, in the style of the report."""
    style, script = Markup(_asset("report.css")), Markup(_asset("report.js"))
    return _render(_asset("table.html.j2"), title=table.title, table=to_html(table), style=style, script=script)


def to_csv(table: Table) -> str:
    """Returns the table as CSV (RFC 4180, but for plain newlines): headings, rows, footer.

    A column with a number in it holds numbers in full, or nothing.  Second lines, and words that stand
    in the place of a number, are in a column of their own after it, ``HEADING (note)``.
    """
    numeric = _numeric(table)
    rows = _rows(table)
    noted = [any(_note(row[column], of_numbers) for row in rows) for column, of_numbers in enumerate(numeric)]
    lines = []
    for row in rows:
        line = []
        for entry, of_numbers, has_note in zip(row, numeric, noted, strict=True):
            line.append(full(entry) if of_numbers else entry.text)
            line += [_note(entry, of_numbers)] if has_note else []
        lines.append(line)
    header = []
    for label, has_note in zip(table.columns, noted, strict=True):
        header += [label, f"{label} (note)"] if has_note else [label]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    return text.getvalue()


def to_latex(table: Table) -> str:
    r"""Returns the table as LaTeX for ``\input``, with caption and label ``tab:NAME``.

    A float, made smaller where it is wider than the line or too tall; one of many rows that fits the line is a
    longtable, which goes on over pages.  It needs the packages of `PACKAGES`.  Second lines are set small below their
    entries, notes below the table; a column of long words is broken into lines.
    """
    widths = _widths(table)
    columns = ["r" if one else "l" for one in _numeric(table)]
    columns = [_ragged(widths[place]) if place in widths else one for place, one in enumerate(columns)]

    def line(row: tuple[Value, ...]) -> str:
        return " & ".join(_latex_entry(entry, columns[place]) for place, entry in enumerate(row)) + r" \\"

    headings = line(tuple(map(_broken, table.columns)))
    rows = [*map(line, table.rows), *([r"\midrule", *map(line, table.footer)] if table.footer else [])]
    caption = rf"\caption{{{escape(table.title)}}}\label{{tab:{table.name}}}"
    layout = rf"{{@{{}}{''.join(columns)}@{{}}}}"
    notes = [rf"\par\smallskip\noindent\parbox{{\linewidth}}{{\scriptsize {escape(note)}}}" for note in table.notes]
    if _goes_on(table):
        head = [r"\toprule", headings, r"\midrule"]
        lines = [
            r"\begingroup", *_SIZE, rf"\begin{{longtable}}{layout}", rf"{caption} \\", *head, r"\endfirsthead", *head,
            r"\endhead", *rows, r"\bottomrule", r"\end{longtable}", *notes, r"\par\endgroup",
        ]  # fmt: skip
    else:
        tabular = [rf"\begin{{tabular}}{layout}", r"\toprule", headings, r"\midrule", *rows, r"\bottomrule",
                   r"\end{tabular}"]  # fmt: skip
        lines = [
            r"\begin{table}", r"\centering", caption, *_SIZE, r"\sbox0{%", *tabular, "}%",
            r"\sbox0{\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}%",
            r"\ifdim\dimexpr\ht0+\dp0>.75\textheight\resizebox*{!}{.75\textheight}{\usebox0}\else\usebox0\fi",
            *notes, r"\end{table}",
        ]  # fmt: skip
    return "\n".join([rf"% needs \usepackage{{{PACKAGES}}}", *lines, ""])


def escape(text: str) -> str:
    """Returns text as LaTeX sets it, letter for letter."""
    # Two hyphens would become a dash.
    return "{}".join(part.translate(_LATEX) for part in re.split("(?<=-)(?=-)", text))


def write(folder: Path, section: Section) -> tuple[Path, ...]:
    """Writes a section's parts beside the report, each file whole or not at all.

    ``tables/NAME.html``, ``.csv`` and ``.tex`` of each table, ``figures/NAME.svg`` and ``.png`` of each picture.

    Args:
        folder: the working directory of the study.
        section: its parts' names must differ.

    Returns:
        The files, in the order of the parts.

    Raises:
        WorkdirError: the folder cannot be written.
    """
    written: list[Path] = []
    for part in section.parts:
        if isinstance(part, Table):
            for suffix, text in (("html", to_document(part)), ("csv", to_csv(part)), ("tex", to_latex(part))):
                written.append(folder / "tables" / f"{part.name}.{suffix}")
                files.write_text(written[-1], text)
        else:
            written += [folder / "figures" / f"{part.name}.{suffix}" for suffix in ("svg", "png")]
            files.write_text(written[-2], part.svg + "\n")
            files.write_bytes(written[-1], part.png)
    return tuple(written)


def full(entry: Value) -> str:
    """Returns an entry's number with all its digits; empty where it has none."""
    if entry.number is None or not math.isfinite(entry.number):
        return ""
    return repr(float(entry.number)).removesuffix(".0")


def _asset(name: str) -> str:
    return resources.files("alljax.report").joinpath(name).read_text(encoding="utf-8")


def _numeric(table: Table) -> list[bool]:
    """Says of each column whether it holds a number."""
    rows = _rows(table)
    return [any(row[column].number is not None for row in rows) for column in range(len(table.columns))]


def _note(entry: Value, of_numbers: bool) -> str:
    words = entry.text if of_numbers and entry.number is None and entry.text not in NOTHING else ""
    return "; ".join(filter(None, (words, entry.note)))


def _widths(table: Table) -> dict[int, float]:
    """Returns the share of the line that each column of long words gets, by how much stands in it."""
    # The root, so that a column of few words is not left too narrow for any of them.
    long = {place: math.sqrt(min(size, 8 * LONG)) for place, size in _long(table).items()}
    room = max(0.92 - _of_others(table), 0.4)
    return {place: room * size / sum(long.values()) for place, size in long.items()}


def _long(table: Table) -> dict[int, int]:
    """Returns the letters of the columns of long words."""
    sizes = [max((len(row[place].text) for row in _rows(table)), default=0) for place in range(len(table.columns))]
    return {
        place: size for place, (size, numeric) in enumerate(zip(sizes, _numeric(table), strict=True))
        if size > LONG and not numeric
    }  # fmt: skip


def _of_others(table: Table) -> float:
    """Returns about what share of a line the other columns take."""
    long, total = _long(table), 0.0
    for place, label in enumerate(table.columns):
        if place not in long:
            heading = _broken(label)
            entries = (heading, *(row[place] for row in _rows(table)))
            total += 0.02 + LETTER * max(max(len(one.text), 0.85 * len(one.note)) for one in entries)
    return total


def _rows(table: Table) -> tuple[tuple[Value, ...], ...]:
    return (*table.rows, *table.footer)


def _goes_on(table: Table) -> bool:
    """Says whether a table is too tall for a page and narrow enough to go on over several."""
    long = len(_long(table))
    return len(table.rows) > (TALL if long > 1 else 2 * TALL) and _of_others(table) < (0.6 if long else 0.95)


def _broken(label: str) -> Value:
    """Returns a heading in two lines where it says two things: ``recall, ours``."""
    first, _, second = label.partition(", ")
    return Value(first, note=second)


def _ragged(share: float) -> str:
    return rf">{{\raggedright\arraybackslash}}p{{{share:.2f}\linewidth}}"


def _latex_entry(entry: Value, column: str) -> str:
    text, note = escape(entry.text), escape(entry.note)
    if not note:
        return text
    if column not in ("l", "r"):
        return rf"{text} {{\scriptsize {note}}}"
    return rf"\begin{{tabular}}[t]{{@{{}}{column}@{{}}}}{text}\\{{\scriptsize {note}}}\end{{tabular}}"


def _render(template: str, **values: object) -> str:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(template).render(values)
