"""Images as another microscope, stain, camera or file format could give them, to measure how robust a model is."""

import io
import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from PIL import Image

from alljax.data.augmentation import HED_FROM_RGB, RGB_FROM_HED
from alljax.data.dataset import UNLABELED, Dataset, Record
from alljax.data.images import encode, load

PERTURBATIONS: Mapping[str, tuple[str, tuple[float, float, float, float]]] = {
    "rotation": ("degrees", (5, 15, 45, 90)),
    "brightness": ("relative change", (0.1, 0.2, 0.3, 0.4)),
    "stain": ("relative change of each stain", (0.05, 0.1, 0.2, 0.3)),
    "blur": ("standard deviation, % of the width", (0.25, 0.5, 1, 2)),
    "noise": ("standard deviation, of 255", (5, 10, 20, 40)),
    "JPEG": ("quality", (90, 60, 30, 10)),
    "scale": ("relative change", (0.05, 0.1, 0.2, 0.3)),
}
"""The unit of the strength of each perturbation, and its strengths at four severities."""


def perturb(dataset: Dataset, name: str, strength: float, seed: int) -> Dataset:
    """Returns the data set with every image changed at its original size, in a direction that path and seed decide."""

    def read(record: Record) -> bytes:
        generator = np.random.default_rng([seed, zlib.crc32(record.path.encode())])
        changed = _change(load(dataset, record).astype(np.float32), name, strength, generator)
        return encode(np.rint(changed).clip(0, 255).astype(np.uint8))

    return replace(dataset, read=read, crops={}, stamp=None)


def occlude(dataset: Dataset, record: Record, grid: int) -> Dataset:
    """Returns a data set of an image and of it with each patch of 2 × 2 of its grid × grid blocks in its mean color."""
    pixels = load(dataset, record)
    rows, columns = (np.arange(length) * grid // length for length in pixels.shape[:2])

    def read(part: Record) -> bytes:
        changed = pixels.copy()
        if number := int(part.path):
            top, left = divmod(number - 1, grid - 1)
            patch = np.ix_(np.isin(rows, (top, top + 1)), np.isin(columns, (left, left + 1)))
            changed[patch] = np.rint(changed[patch].mean((0, 1)))
        return encode(changed)

    records = tuple(Record(str(number), UNLABELED) for number in range((grid - 1) ** 2 + 1))
    return replace(dataset, records=records, read=read, crops={}, stamp=None)


def _change(image: np.ndarray, name: str, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Returns a changed image, float32 (H, W, 3) in 0 … 255; the black around a cell stays black, except as JPEG."""
    from scipy.ndimage import gaussian_filter

    cell, signs = image.any(axis=2, keepdims=True).astype(np.float32), generator.choice((-1.0, 1.0), 3)
    if name == "rotation":
        angle = np.deg2rad(signs[0] * strength)
        image = _affine(image, np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]))
    elif name == "scale":
        image = _affine(image, np.eye(2) / (1 + signs[0] * strength))
    elif name == "brightness":
        image = image * (1 + signs[0] * strength)
    elif name == "stain":  # see `augmentation.jitter_stains`
        stains = -np.log(np.maximum(image, 1) / 255) @ HED_FROM_RGB
        image = image * np.exp(-(stains * signs * strength) @ RGB_FROM_HED)
    elif name == "blur":  # of the pixels of the cell only, see `augmentation.gaussian_blur`
        sigma = strength / 100 * image.shape[1]
        blurred, weight = (gaussian_filter(layer, (sigma, sigma, 0)) for layer in (image, cell))
        image = cell * blurred / np.maximum(weight, 1e-6)
    elif name == "noise":
        image = image + cell * generator.normal(0, strength, image.shape)
    else:
        Image.fromarray(image.astype(np.uint8)).save(file := io.BytesIO(), "JPEG", quality=int(strength))
        image = np.asarray(Image.open(file))
    return image


def _affine(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Moves the value at ``matrix @ p`` to p, measured from the center; outside is the median color of the border."""
    from scipy.ndimage import affine_transform

    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    background, center, channels = np.median(border, axis=0), (np.array(image.shape) - 1) / 2, np.eye(3)
    channels[:2, :2] = matrix
    return background + affine_transform(image - background, channels, center - channels @ center, order=1)
