"""Matplotlib's SVG as it stands on a page: no fonts, no styles, names of its own, and the numbers of its curves."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

POINTS = 400
"""Places along a curve that are given to the page at most; of more, evenly spaced ones."""


def element(text: str, description: str, ink: str, curves: str = "") -> str:
    """Returns what matplotlib saved as one ``<svg>`` element with a title for those who cannot see it.

    Args:
        text: the SVG file.
        description: the title.
        ink: the color that stands for the page's own.
        curves: from `followed`; where it is not empty the page lets people read the curves.
    """
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)[0]
    body = text[text.index(">", text.index("<svg")) + 1 :]
    # What belongs to a file of its own, not to a page: style for every element, license, fonts, names.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"font: ?(?:\w+ )*([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = body.replace("xlink:href", "href").replace(ink, "currentColor")
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    body = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: _shorter(found[0]), body)
    body = re.sub(r">\s+<", "><", _unique_names(body)).strip()
    data = f" data-curves={quoteattr(curves.replace(ink, 'currentColor'))}" if curves else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="system-ui, sans-serif" fill="currentColor"{data}>'
        f"<title>{escape(description)}</title>{body}"
    )


def followed(figure: Figure, width: float, height: float) -> str:
    """Returns the lines of a figure that was saved as SVG, as JSON for the page; empty where it has none.

    A list of panels, each with ``box`` (left, top, width and height of the axes in the units of the viewBox), the
    limits ``x`` and ``y``, ``log`` (which of the axes are logarithmic), ``name`` (of the horizontal axis), ``title``,
    ``at`` (places along that axis, ascending) and ``lines``: label, color, and a value or null for each place.  Lines
    are those with a label of their own (no leading underscore) and two points or more.

    Args:
        figure: laid out.
        width: of the viewBox.
        height: of the viewBox.
    """
    panels = []
    for axes in figure.axes:
        lines = [line for line in axes.lines if not str(line.get_label()).startswith("_") and len(line.get_xdata()) > 1]  # type: ignore[arg-type]
        if not axes.get_visible() or not lines:
            continue
        box = axes.get_position()
        places = _places([np.asarray(line.get_xdata(), np.float64) for line in lines])
        shape = (box.x0 * width, (1 - box.y1) * height, box.width * width, box.height * height)
        panels.append(
            {
                "box": [round(each, 2) for each in shape],
                "x": [_number(limit) for limit in axes.get_xlim()],
                "y": [_number(limit) for limit in axes.get_ylim()],
                "log": [int(axes.get_xscale() == "log"), int(axes.get_yscale() == "log")],
                "name": _name(figure, axes),
                "title": axes.get_title() or axes.get_title("left"),
                "at": [_number(place) for place in places],
                "lines": [_line(line, places) for line in lines],
            }
        )
    return json.dumps(panels, ensure_ascii=False, separators=(",", ":")) if panels else ""


def _places(found: Sequence[np.ndarray]) -> np.ndarray:
    places = np.unique(np.concatenate(found))
    places = places[np.isfinite(places)]
    if len(places) > POINTS:
        places = places[np.linspace(0, len(places) - 1, POINTS).round().astype(int)]
    return places


def _line(line: Any, places: np.ndarray) -> list[Any]:
    of_place = dict(zip(np.asarray(line.get_xdata(), np.float64).tolist(), line.get_ydata(), strict=True))
    values = [of_place.get(place, np.nan) for place in places.tolist()]
    known = [_number(value) if np.isfinite(value) else None for value in values]
    return [str(line.get_label()), to_hex(line.get_color()), known]


def _name(figure: Figure, axes: Axes) -> str:
    """Returns what the horizontal axis is called: by its own label, or the one that several axes share."""
    return (
        axes.get_xlabel() or figure.get_supxlabel() or next(filter(None, (one.get_xlabel() for one in figure.axes)), "")
    )


def _number(value: float) -> float:
    """Returns a number with four digits that count: more than a screen can show."""
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() else short


def _shorter(attribute: str) -> str:
    """Returns an SVG attribute with two decimals and single blanks: a hundredth of a pixel is enough."""
    return re.sub(r"\s+", " ", re.sub(r"(\.\d\d)\d+", r"\1", attribute)).replace(' "', '"')


def _unique_names(body: str) -> str:
    """Keeps only the names that are referred to, and makes them this figure's own on a shared page."""
    prefix = hashlib.sha256(body.encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "", body)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", body)
