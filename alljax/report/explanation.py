"""What `explain` finds as a figure, and as files: a picture per image, summaries, tables and findings."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.figure
import numpy as np

from alljax import files
from alljax.data.dataset import Dataset
from alljax.data.images import load
from alljax.errors import WorkdirError, plural, printable
from alljax.report import plots
from alljax.study import workdir
from alljax.study.explain import METHODS, ExplainedImage, Explanation

SHOWN = 20  # explained images in a figure and on the contact sheet of neighbors; the files have all


class DrawnExplanation(Explanation):
    """An explanation of images that shows itself in a notebook; `str` has its findings, `tables` its numbers."""

    def figure(self) -> matplotlib.figure.Figure:
        """Returns a figure with a row per image, at most `SHOWN`: the image, then each map on it."""
        shown = self.images[:SHOWN]
        return _draw_maps([[image] for image in shown], [self._title(image) for image in shown])[0]

    def save(self, folder: str | Path) -> None:
        """Writes a picture per image, summaries, tables and findings into a new folder, as ``alljax explain`` does."""
        out, names = Path(folder).expanduser(), self.class_names
        check_folder(out)
        for number, image in enumerate(self.images, 1):
            path = out / "images" / f"{number:03}-{Path(image.path).stem}.png"
            files.write_bytes(path, _draw_maps([[image]], [self._title(image)])[1])
        labels = sorted({image.label for image in self.images})
        groups = [[image for image in self.images if image.label == label] for label in labels]
        titles = [f"{names[group[0].label]}, mean over {plural(len(group), 'image')}" for group in groups]
        files.write_bytes(out / "classes.png", _draw_maps(groups, titles)[1])
        if self.training:
            files.write_bytes(out / "neighbors.jpg", _draw_neighbors(self, self.training))
            files.write_bytes(out / "feature_map.png", _draw_features(self))
        for name, table in self.tables.items():
            workdir.write_csv(out / f"{name}.csv", table)
        files.write_text(out / "findings.txt", f"{self}\n")

    def _title(self, image: ExplainedImage) -> str:
        name, probability = self.class_names[image.label], image.probabilities[image.label]
        return f"{image.path[-100:]}\n{name}, probability {probability:.3f}"

    def _repr_png_(self) -> bytes:
        self.figure().savefig(png := io.BytesIO(), format="png", dpi=100)
        return png.getvalue()

    def __repr__(self) -> str:
        return "\n".join(map(printable, self.findings))


def check_folder(out: Path) -> None:
    """Raises `WorkdirError` if the folder cannot be written, or if it is not empty."""
    files.check_output(out, folder=True)
    if out.is_dir() and any(out.iterdir()):
        raise WorkdirError(f"{out} is not empty; choose a new folder")


def _draw_maps(
    groups: Sequence[Sequence[ExplainedImage]], titles: Sequence[str]
) -> tuple[matplotlib.figure.Figure, bytes]:
    """Returns a figure and its PNG, a row per group of images: their mean, then with the mean of their maps on it."""
    methods = list(groups[0][0].maps)
    with plots.subplots(len(groups), 1 + len(methods), (3 + 3 * len(methods), 3.4 * len(groups))) as (figure, grid):
        for axes, group, title in zip(grid, groups, titles, strict=True):
            pixels = np.mean([image.pixels for image in group], axis=0).astype(np.uint8)
            for panel in axes:
                panel.imshow(pixels)
                panel.set_axis_off()
            axes[0].set_title(title, loc="left", fontsize=9)
            for panel, method in zip(axes[1:], methods, strict=True):
                shares = [image.shares[f"{method}_inside"] for image in group]
                inside = "" if np.isnan(shares).all() else f", {np.nanmean(shares):.0%} inside the cell"
                attribution = np.mean([image.maps[method] / (image.maps[method].max() or 1) for image in group], axis=0)
                panel.imshow(attribution, cmap="inferno", alpha=0.6, vmin=0)
                panel.set_title(f"{METHODS[method]}{inside}", fontsize=9)
        return figure, plots.save("", "", figure).png


def _draw_neighbors(found: Explanation, training: Dataset) -> bytes:
    """Returns a contact sheet with an explained image per row, then its nearest training images."""
    records, neighbors = {record.path: record for record in training.records}, found.tables["neighbors"]
    pictures, captions = [], []
    for image, explained in zip(found.images[:SHOWN], found.tables["images"]["explained"], strict=False):
        pictures.append(image.pixels)
        captions.append(f"{Path(image.path).name}\nexplained: {explained}")
        for row in neighbors[neighbors["path"] == image.path].itertuples():
            pictures.append(load(training, records[row.neighbor_path]))
            name, subject = Path(row.neighbor_path).name, row.neighbor_subject
            captions.append(f"{name}\n{row.neighbor_label}, {subject}\ndistance {row.distance:.2f}")
    return plots.contact_sheet(pictures, captions, len(pictures) // min(SHOWN, len(found.images)))


def _draw_features(found: Explanation) -> bytes:
    """Returns training images by two components of their features, colored by class and subject, and explained ones."""
    table, components = found.tables["feature_map"], ["component_1", "component_2"]
    known, queries = table[table["label"].notna()], table[table["label"].isna()]
    with plots.subplots(1, 2, (11, 5)) as (figure, grid):
        for axes, column in zip(grid[0], ("label", "subject"), strict=True):
            largest = known[column].value_counts().index[: len(plots.PALETTE)]
            shown = known[column].where(known[column].isin(largest), "others")
            for name, color in ({"others": "0.75"} | dict(zip(largest, plots.PALETTE, strict=False))).items():
                if len(rows := known[shown == name]):
                    axes.plot(*rows[components].to_numpy().T, "o", color=color, label=name, markersize=3)
            axes.plot(*queries[components].to_numpy().T, "kx", label="explained")
            axes.set(xlabel="component 1", ylabel="component 2")
            axes.legend(title=column, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, ncols=4, columnspacing=1)
        return plots.save("", "", figure).png
