"""The files of `alljax explain`: a picture per image, summaries, tables and findings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alljax import files
from alljax.data.dataset import Dataset
from alljax.data.images import load
from alljax.errors import WorkdirError, plural, printable
from alljax.report import plots
from alljax.study import workdir
from alljax.study.explain import METHODS, ExplainedImage, Explanation

SHOWN = 20  # explained images on the contact sheet of neighbors; neighbors.csv has all


def check_folder(out: Path) -> None:
    """Raises `WorkdirError` if the folder cannot be written, or if it is not empty."""
    files.check_output(out, folder=True)
    if out.is_dir() and any(out.iterdir()):
        raise WorkdirError(f"{out} is not empty; choose a new folder")


def write(found: Explanation, out: Path) -> None:
    """Writes all files of an explanation."""
    names = found.class_names
    for number, image in enumerate(found.images, 1):
        title = f"{image.path[-100:]}\n{names[image.label]}, probability {image.probabilities[image.label]:.3f}"
        path = out / "images" / f"{number:03}-{Path(image.path).stem}.png"
        files.write_bytes(path, _draw_maps([[image]], [title]))
    labels = sorted({image.label for image in found.images})
    groups = [[image for image in found.images if image.label == label] for label in labels]
    titles = [f"{names[group[0].label]}, mean over {plural(len(group), 'image')}" for group in groups]
    files.write_bytes(out / "classes.png", _draw_maps(groups, titles))
    if found.training:
        files.write_bytes(out / "neighbors.jpg", _draw_neighbors(found, found.training))
        files.write_bytes(out / "feature_map.png", _draw_features(found))
    for name, table in found.tables.items():
        workdir.write_csv(out / f"{name}.csv", table)
    files.write_text(out / "findings.txt", "".join(f"{printable(line)}\n" for line in found.findings))


def _draw_maps(groups: Sequence[Sequence[ExplainedImage]], titles: Sequence[str]) -> bytes:
    """Returns a picture with a row per group of images: their mean, then with the mean of their maps on it."""
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
        return plots.save("", "", figure).png


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
