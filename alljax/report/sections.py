"""Parts of a report that also lie beside it as files: tables, pictures, and sections of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """One entry of a table.

    Attributes:
        text: as people read it.
        number: what a column is sorted by and what stands in the CSV; None for words.
        note: a second, smaller line, an interval mostly.
    """

    text: str
    number: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: stem of its files, for example ``table-3``.
        title: its caption.
        columns: headings.
        rows: one entry a column each.
        footer: rows that stay below when the others are sorted: means, totals.
        notes: sentences below it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    footer: tuple[tuple[Value, ...], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: stem of its files, for example ``figure-9``.
        caption: what it shows.
        svg: from `figures.svg`.
        png: from `figures.png`.
    """

    name: str
    caption: str
    svg: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        anchor: its id on the page.
        title: its heading.
        paragraphs: sentences that come first, plain text.
        parts: tables and pictures in order.
    """

    anchor: str
    title: str
    paragraphs: tuple[str, ...]
    parts: tuple[Table | Picture, ...]
