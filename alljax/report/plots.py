"""Matplotlib figures for the report, and contact sheets; the same numbers give the same bytes.

Colors are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which color-blind readers can distinguish.
"""

import base64
import io
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.figure
import matplotlib.style
import numpy as np
from absl import logging
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from alljax import interrupts
from alljax.report.tables import Figure

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
MARKERS = "osD^vPX"
FONT = "DejaVu Sans"
INK = "#010203"  # text and axes

STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "alljax", "text.parse_math": False, "font.size": 10.5,
    "font.family": FONT, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK,
    "axes.linewidth": 0.7, "axes.spines.top": False, "axes.spines.right": False, "xtick.color": INK,
    "ytick.color": INK, "grid.color": INK, "grid.alpha": 0.13, "grid.linewidth": 0.7, "lines.linewidth": 1.8,
    "legend.frameon": False, "legend.handlelength": 2.6, "figure.figsize": (5.6, 3.9),
}  # fmt: skip


@contextmanager
def subplots(rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None) -> Iterator[tuple[Any, Any]]:
    """Yields an empty figure of `size` inches and its axes, (rows, columns); draw and `save` inside the block."""
    # The browser draws the text of the page; `_choose_fonts` reports glyphs that other figures lack.
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure = matplotlib.figure.Figure(layout="constrained", figsize=size)
        yield figure, figure.subplots(rows, columns, squeeze=False)


def save(name: str, caption: str, figure: matplotlib.figure.Figure) -> Figure:
    """Returns a figure of `subplots` as SVG and PNG (200 dots per inch on white)."""
    interrupts.check(collective=True)
    image, svg = io.BytesIO(), io.StringIO()
    _choose_fonts(figure)
    figure.savefig(image, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    figure.set_layout_engine("none")  # the layout takes most of the time and is the same for both
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(svg, format="svg", transparent=True, metadata=no_metadata)
    return Figure(name, caption, svg.getvalue(), image.getvalue())


@contextmanager
def panels_of(panels: Mapping[str, Any], across: int, size: tuple[float, float]) -> Iterator[tuple[Any, list[Any]]]:
    """Yields a figure with `across` panels in a row, and pairs of the axes of a panel and what it shows, by title."""
    with subplots(-(-len(panels) // across), across, size) as (figure, grid):
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for place, (axes, title) in enumerate(zip(grid.flat, panels, strict=False)):
            axes.set_title(textwrap.fill(title, 36), fontsize=10.5, loc="left")
            axes.sharey(grid[0, 0])
            axes.tick_params(labelleft=place % across == 0)
        yield figure, [*zip(grid.flat, panels.values(), strict=False)]


def add_legend(figure: matplotlib.figure.Figure) -> None:
    """Adds one legend for all axes of a figure above them, if they have several labels."""
    legends = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles = {label: handle for found in legends for handle, label in zip(*found, strict=True)}
    if len(handles) > 1:
        columns = max(1, int(figure.get_figwidth() / (0.7 + 0.08 * max(map(len, handles)))))
        figure.legend([*handles.values()], [*handles], loc="outside upper left", ncols=columns)


def interval_figure(
    name: str, caption: str, rows: Sequence[str], panels: Mapping[str, Mapping[str, np.ndarray]], quantity: str
) -> Figure:
    """Returns a figure of values with low and high ends, (N, 3) by label, in N rows, the first on top, and panels."""
    columns, labels = min(len(panels), 3), list(next(iter(panels.values())))
    down, distance = -(-len(panels) // columns), min(0.25, 0.74 / len(labels))
    size = 3.2 + 3.2 * columns, 0.9 + down * (0.5 + len(rows) * (0.25 + 0.1 * len(labels)))
    names = [textwrap.fill(shorten(row, 66), 30) for row in rows]
    with panels_of(panels, columns, size) as (figure, drawn):
        for axes, series in drawn:
            axes.sharex(drawn[0][0])
            for number, (label, points) in enumerate(series.items()):
                color, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]  # unique up to 42 series
                at, (values, low, high) = np.arange(len(rows)) + distance * (number - (len(labels) - 1) / 2), points.T
                axes.hlines(at, low, high, color=color, linewidth=1.4)
                axes.plot(values, at, marker, color=color, markersize=5, label=label)
            axes.set_yticks(range(len(rows)), names)
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x")
        figure.supxlabel(quantity, fontsize=10.5)
        add_legend(figure)
        return save(name, caption, figure)


def confusion_matrix(caption: str, matrix: Sequence[Sequence[float]], class_names: Sequence[str]) -> Figure:
    """Returns a figure of counts and shares of the row, of a matrix (C, C) with true classes as rows."""
    counts, classes = np.asarray(matrix, np.float64), len(class_names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 10.5 if classes <= 4 else 8.0
    with subplots() as (figure, grid):
        axes = grid[0, 0]
        for row, column in np.ndindex(*counts.shape):
            share = shares[row, column]
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=PALETTE[0], alpha=0.04 + 0.5 * share, linewidth=0))
            text = f"{counts[row, column]:,.0f}\n{share:.0%}" if classes <= 8 else f"{share:.0%}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, linespacing=1.5)
        ticks, across = np.arange(classes) + 0.5, [shorten(name, 22 if classes == 2 else 12) for name in class_names]
        axes.set_xticks(ticks, across, rotation=0 if classes <= 4 else 45, fontsize=size)
        axes.set_yticks(ticks, [shorten(name) for name in class_names], fontsize=size)
        axes.set(xlim=(0, classes), ylim=(classes, 0), xlabel="predicted class", ylabel="true class")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return save("confusion", caption, figure)


def contact_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8) -> bytes:
    """Returns a contact sheet of uint8 images (H, W, 3) as JPEG, at most `columns` images per row."""
    columns, buffer = min(columns, len(images)), io.BytesIO()
    rows = -(-len(images) // columns)
    with subplots(rows, columns, (1.3 * columns, 1.75 * rows)) as (figure, grid):
        for axes in grid.flat:
            axes.set_frame_on(False)
            axes.set(xticks=[], yticks=[])
        for axes, image, caption in zip(grid.flat, images, captions, strict=False):
            axes.imshow(image)
            text = "\n".join(shorten(line) for line in caption.splitlines())
            axes.set_xlabel(text, color="#f2f2f2", fontsize=7, loc="left")
        _choose_fonts(figure)
        figure.savefig(buffer, format="jpg", dpi=200, facecolor="#101214", pil_kwargs={"quality": 82})
    return buffer.getvalue()


def embed(name: str, caption: str, jpeg: bytes) -> Figure:
    """Returns a JPEG file as a figure for the page only, at half its size."""
    with Image.open(io.BytesIO(jpeg)) as image:
        width, height = (pixels / 2 for pixels in image.size)
    data = base64.b64encode(jpeg).decode()
    content = f'<image width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/>'
    return Figure(name, caption, f'<svg viewBox="0 0 {width} {height}">{content}</svg>')


def shorten(text: str, length: int = 22) -> str:
    """Returns a text of at most `length` characters, with an ellipsis where it was cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


_reported: set[str] = set()


def _choose_fonts(figure: matplotlib.figure.Figure) -> None:
    """Adds installed fonts for the characters that `FONT` lacks to the texts of a figure; logs once what none has."""
    texts, known = figure.findobj(Text), get_font(findfont(FONT)).get_charmap()
    lacking = {sign for text in texts for sign in text.get_text() if ord(sign) not in known and sign.isprintable()}
    fonts = [font for font in fontManager.ttflist if "Last Resort" not in font.name]  # it has boxes only
    for font in fonts if lacking else ():
        if found := {sign for sign in lacking if ord(sign) in get_font(font.fname).get_charmap()}:
            lacking -= found
            for text in texts:
                text.set_fontfamily([*text.get_fontfamily(), font.name])
    if missing := "".join(sorted(lacking - _reported)):
        _reported.update(missing)
        fix = "install one (Noto Sans CJK, …), or PNG and JPEG figures have boxes; SVG figures keep the text"
        logging.warning(f"no installed font has {missing[:20]}: {fix}")
