"""Images in memory, or where they are, as a data set without labels."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from alljax.data.dataset import UNLABELED, Dataset, Record
from alljax.data.images import encode
from alljax.data.readers import open_unlabeled
from alljax.errors import DataError

EXPECTED = (
    "expected RGB images, uint8 (N, H, W, 3), or a list of (H, W, 3) of any sizes, from 0 to 255 (a single image is "
    "[image]; move channels last, repeat gray three times, multiply values from 0 to 1 by 255), or paths"
)


def as_dataset(images: Any, generated: Any = None, name_pattern: str = "") -> Dataset:
    """Returns a `Dataset` unchanged, and other images as one: arrays (see `EXPECTED`), a path, or several paths.

    Files, folders and zips are opened by `open_unlabeled`, which has the other arguments.  Arrays are not copied; the
    paths of their records are ``images[0]``, ``images[1]``, ….  `DataError`: something else; it says what is expected.
    """
    if isinstance(images, Dataset):
        return images
    if isinstance(images, str | os.PathLike):
        images = [images]
    if hasattr(images, "__array__"):
        images = np.atleast_1d(images)  # all of them at once from the memory of a device
    if not isinstance(images, Iterable) or not (several := [*images]):
        raise DataError(f"images: {type(images).__name__} without images; {EXPECTED}")
    if all(isinstance(one, str | os.PathLike) for one in several):
        return open_unlabeled([Path(path).expanduser() for path in several], generated, name_pattern)
    arrays = {f"images[{number}]": np.asarray(image) for number, image in enumerate(several)}
    for name, image in arrays.items():
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            values = f" with values up to {image.max():g}" if image.size and image.dtype.kind in "fiu" else ""
            raise DataError(f"{name}: {image.dtype} {image.shape}{values}; {EXPECTED}")
    if max(image.max() for image in arrays.values()) == 1:  # divided by 255, then cast
        raise DataError(f"images: uint8 with values up to 1; {EXPECTED}")
    records = tuple(Record(name, UNLABELED) for name in arrays)
    return Dataset("images", (), records, lambda record: encode(arrays[record.path]))
