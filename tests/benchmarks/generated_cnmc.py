"""Generated images under the file names of C-NMC 2019, to measure at true size without the real data."""

import csv
from collections import defaultdict
from pathlib import Path

from PIL import Image

from alljax.data.synthetic import render_cell


def write_cells(manifest: Path, folder: Path, image_size: int = 224) -> int:
    """Writes the 10,661 training images as ``fold_k/label/name.bmp``; files with one SHA-256 get the same pixels.

    Args:
        manifest: CSV with the columns phase, fold, label, uid_name and sha256 of the real files.
        folder: folder for the images.
        image_size: height and width in pixels.

    Returns:
        Number of images.
    """
    copies = defaultdict(list)
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["phase"] == "train":
                copies[row["sha256"]].append(folder / row["fold"] / row["label"] / row["uid_name"])
    for paths in copies.values():
        _, subject, field, cell, _ = paths[0].stem.split("_")
        image = Image.fromarray(render_cell(0, subject.upper(), int(field), int(cell), image_size))
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return sum(map(len, copies.values()))
