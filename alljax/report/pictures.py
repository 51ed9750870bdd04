"""A drawn figure as the picture of a section."""

from matplotlib.figure import Figure

from alljax.report import plots
from alljax.report.sections import Picture


def picture(name: str, caption: str, figure: Figure, follow: bool = False) -> Picture:
    """Returns a figure in both its forms; to be called inside the block that gave it.

    Args:
        name: stem of its files.
        caption: what it shows; also the title of the SVG.
        figure: of `figures.grid_of_axes`.
        follow: let people read its labeled lines with the mouse, see `figures.svg`.
    """
    image = plots.png(figure)  # first: SVG takes the white ground away
    figure.set_layout_engine("none")  # stays as it was laid out for the PNG: that takes the longest
    return Picture(name, caption, plots.svg(figure, caption, follow), image)
