"""Figures as text: SVG that takes the colors of the page around it, and the sheet of wrong cells as PNG.

Ink (axes, text) is ``currentColor``, so that a figure reads on a light and on a dark page; lines
are of Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), which color-blind people tell
apart, and differ in their dashes too.  The same numbers give the same bytes.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont, ImageOps
from sklearn.metrics import roc_curve

from alljax.report import vector

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
INK = "#010203"
"""Stands for the page's text color until the SVG is written."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "alljax",
    "text.parse_math": False,
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "figure.figsize": (5.6, 3.9),
}


def curves(history: Mapping[str, np.ndarray], quantity: str, watched: str = "held-out cells") -> str:
    """Returns training and validation curves against the epoch: means over folds and seeds.

    The band is one standard deviation to either side; there is none where an epoch has one value.

    Args:
        history: the columns of a history.csv, (rows,) each.
        quantity: ``accuracy`` or ``loss``.
        watched: whose the validation curve is.
    """
    with one_axes() as (figure, axes):
        epochs, inverse = np.unique(history["epoch"], return_inverse=True)
        count = np.bincount(inverse)
        ends = []
        for column, label, color, dashes in (
            (f"train_{quantity}", "training cells", BLUE, DASHES[1]),
            (f"val_{quantity}", watched, VERMILION, DASHES[0]),
        ):
            mean = np.bincount(inverse, history[column]) / count
            spread = np.sqrt(np.bincount(inverse, (history[column] - mean[inverse]) ** 2) / count)
            marker = "o" if len(epochs) == 1 else ""
            axes.plot(epochs, mean, color=color, linestyle=dashes, label=label, marker=marker)
            if count.max() > 1:
                axes.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.16, linewidth=0)
            ends.append(f"{label} {mean[-1]:.3f}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, borderpad=0.2)
        description = f"{quantity} against epoch; at epoch {epochs[-1]:.0f}: {', '.join(ends)}"
        return svg(figure, description, follow=True)


def confusion(matrix: Sequence[Sequence[float]] | np.ndarray, classes: Sequence[str]) -> str:
    """Returns a confusion matrix with counts and shares of the row; the darker, the larger the share.

    Args:
        matrix: (C, C), rows true, columns predicted; means over seeds are rounded.
        classes: C names.
    """
    counts = np.asarray(matrix, np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    across = [short(name, 18 if len(classes) == 2 else 12) for name in classes]
    size = 10.5 if len(classes) <= 4 else 8.0
    with one_axes() as (figure, axes):
        for row, column in np.ndindex(*counts.shape):
            share = shares[row, column]
            box = Rectangle((column, row), 1, 1, facecolor=BLUE, alpha=0.04 + 0.5 * share, linewidth=0)
            axes.add_patch(box)
            text = f"{counts[row, column]:,.0f}\n{share:.0%}" if len(classes) <= 8 else f"{share:.0%}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, linespacing=1.5)
        ticks = np.arange(len(classes)) + 0.5
        axes.set_xticks(ticks, across, rotation=0 if len(classes) <= 4 else 45, fontsize=size)
        axes.set_yticks(ticks, [short(name) for name in classes], fontsize=size)
        axes.set(xlim=(0, len(classes)), ylim=(len(classes), 0), xlabel="called", ylabel="truly")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        trials = [
            f"{truth} called {called}: {counts[row, column]:,.0f}"
            for row, truth in enumerate(classes)
            for column, called in enumerate(classes)
        ]
        return svg(figure, "confusion matrix; " + ", ".join(trials[:25]))


def roc(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> str:
    """Returns ROC curves: of class 1 if there are two classes, else of each class against the rest.

    The strong line is the mean over seeds at each false positive rate; the faint ones are the
    seeds; the dot is where the most likely class is called.

    Args:
        labels: int (N,).
        probabilities: (R, N, C) of R seeds.
        classes: C names.
    """
    grid = np.linspace(0, 1, 201)
    binary = len(classes) == 2
    with one_axes() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8, linestyle=DASHES[2])
        drawn = 0
        for label in [1] if binary else range(len(classes)):
            positive = labels == label
            if not 0 < positive.sum() < len(labels):
                continue
            color, dashes = PALETTE[drawn % len(PALETTE)], DASHES[drawn // len(PALETTE) % len(DASHES)]
            rates = np.stack([_true_positive_rate(positive, one[:, label], grid) for one in probabilities])
            if binary and len(rates) > 1:
                axes.plot(grid, rates.T, color=color, alpha=0.3, linewidth=0.7)
            mean = np.concatenate([[0.0], rates.mean(0)])
            axes.plot(np.append(0.0, grid), mean, color=color, linestyle=dashes, label=short(classes[label]))
            called = probabilities.argmax(2) == label
            axes.plot(called[:, ~positive].mean(), called[:, positive].mean(), "o", color=color, markersize=6)
            drawn += 1
        wrong, right = "false positive rate", "true positive rate"
        if binary:
            negative, name = (short(one, 14) for one in classes)
            wrong, right = f"{wrong} ({negative} called {name})", f"{right}\n({name} called {name})"
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=wrong, ylabel=right)
        axes.grid()
        if not binary and drawn:
            axes.legend(loc="lower right", fontsize=9)
        return svg(figure, "ROC curve" + ("" if binary else "s, each class against the rest"), follow=True)


def wrong_sheet(images: Sequence[Image.Image], captions: Sequence[str]) -> bytes:
    """Returns a contact sheet as PNG, six cells a row, each with its caption below, on black.

    Args:
        images: RGB images of any size; shrunk to 224 pixels, shown as 112 on a page.
        captions: one an image; up to three lines are shown, a long one is broken at a blank.
    """
    side, gap, line = 224, 32, 30
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 22)
    if not images:
        empty = Image.new("RGB", (2 * (side + gap), 2 * line), "#101214")
        ImageDraw.Draw(empty).text((gap, line / 2), "No cell was called wrong.", "#e8e8e8", font)
        return _png(empty)
    columns = min(6, len(images))
    texts = [_lines(caption, font, side + gap // 2) for caption in captions]
    height = side + max(map(len, texts)) * line + gap
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * height + gap), "#101214")
    draw = ImageDraw.Draw(sheet)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        left, top = gap + number % columns * (side + gap), gap + number // columns * height
        thumbnail = ImageOps.contain(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
        sheet.paste(thumbnail, (left + (side - thumbnail.width) // 2, top + (side - thumbnail.height) // 2))
        for place, one in enumerate(text):
            draw.text((left, top + side + 4 + place * line), one, "#f2f2f2" if place == 0 else "#b4b9bf", font)
    return _png(sheet)


@contextmanager
def grid_of_axes(
    rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None
) -> Iterator[tuple[Figure, Any]]:
    """Gives an empty figure in alljax's style, and its axes as an array (rows, columns).

    Draw, and turn it into `svg` or `png`, inside the block.

    Args:
        rows: of axes.
        columns: of axes.
        size: width and height in inches.
    """
    # The browser draws the text, so a letter that matplotlib's own font lacks is no loss.
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure = Figure(layout="constrained", figsize=size)
        yield figure, figure.subplots(rows, columns, squeeze=False)


@contextmanager
def one_axes() -> Iterator[tuple[Figure, Axes]]:
    """Gives an empty figure and its only axes."""
    with grid_of_axes() as (figure, axes):
        yield figure, axes[0, 0]


def png(figure: Figure) -> bytes:
    """Returns the figure as PNG on white, 200 dots an inch, for slides and manuscripts."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, description: str, follow: bool = False) -> str:
    """Returns the figure as one ``<svg>`` element with a title for those who cannot see it.

    Args:
        figure: drawn in a block of `grid_of_axes` or `one_axes`.
        description: the title.
        follow: let people read the labeled lines of every axes with mouse, finger or arrow keys, see
            `vector.followed`; the name of the horizontal axis stands before what they read.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    width, height = (72 * inches for inches in figure.get_size_inches())
    curves = vector.followed(figure, width, height) if follow else ""
    return vector.element(buffer.getvalue(), description, INK, curves)


def _true_positive_rate(positive: np.ndarray, scores: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Returns the true positive rate at each false positive rate of `grid`, (len(grid),)."""
    wrong, right, _ = roc_curve(positive, scores)
    rates: np.ndarray = np.interp(grid, wrong, right)
    return rates


def short(name: str, longest: int = 18) -> str:
    """Returns a name of at most so many letters."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _lines(caption: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Breaks a caption into at most three lines of `width` pixels; what still does not fit is cut."""
    lines: list[str] = []
    for line in caption.splitlines():
        words = line.split(" ")
        while words:
            fitting = len(words)
            while fitting > 1 and font.getlength(" ".join(words[:fitting])) > width:
                fitting -= 1
            lines.append(" ".join(words[:fitting]))
            words = words[fitting:]
    return [_cut(line, font, width) for line in lines[:3]]


def _cut(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
