"""Properties of all images of a data set: digests, areas, sizes and files that cannot be read."""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
from absl import logging
from numpy.typing import NDArray

from alljax import files, interrupts, progress
from alljax.data.dataset import Dataset, Record
from alljax.data.images import FIX, READING_VERSION, crop, decode, open_image, pixel_digest
from alljax.errors import DataError, WorkdirError, first_few, plural
from alljax.limits import THREADS

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Inspection:
    """Properties of all images, in the order of the records."""

    digests: tuple[str, ...]  # SHA-256 of the files, hexadecimal
    pixels: tuple[str, ...]  # SHA-256 of the pixels (`pixel_digest`): equal for a BMP file and its PNG copy
    areas: NDArray[np.float32]  # fraction of the pixels that are not black, at original size
    sizes: Counter[tuple[int, int]]  # number of images of each (width, height)


def inspect(dataset: Dataset, on_error: str = "raise") -> tuple[Dataset, Inspection]:
    """Reads and decodes every image once; the result is cached where the files have not changed (`Dataset.stamp`).

    Args:
        dataset: the images.
        on_error: what to do with images that cannot be read: ``raise`` or ``skip``.

    Returns:
        The data set, without the skipped images and with a note about them, and the properties of its images.

    Raises:
        DataError: names the first five images that cannot be read and counts the others.
    """
    cached = _cache_file(dataset)
    errors: dict[str, str] = {}
    if cached and cached.exists():
        found = json.loads(cached.read_text())
    else:
        by_path, errors = map_images(dataset, _properties, "inspect images")
        found = list(by_path.values())
        if cached and not errors:
            with contextlib.suppress(WorkdirError):  # a cache folder that cannot be written only costs time
                files.write_text(cached, json.dumps(found))
    if errors:
        listed = first_few(f"{path} ({why})" for path, why in errors.items())
        if on_error == "raise":
            count = f"{len(errors):,} of {plural(len(dataset.records), 'image')}"
            raise DataError(f"{count} cannot be read, replace or remove them: {listed}")
        note = f"{plural(len(errors), 'image')} skipped, cannot be read (data.on_error=skip): {listed}"
        readable = tuple(record for record in dataset.records if record.path not in errors)
        dataset = replace(dataset, records=readable, notes=(*dataset.notes, note))
    digests, pixels, areas, modes, widths, heights = list(zip(*found, strict=True)) or [()] * 6
    sizes = Counter(zip(widths, heights, strict=True))
    _log_conversions(modes, sizes)
    return dataset, Inspection(digests, pixels, np.array(areas, np.float32), sizes)


def map_images(
    dataset: Dataset, function: Callable[[Dataset, Record], _Result], description: str
) -> tuple[dict[str, _Result], dict[str, str]]:
    """Applies a function to every record in threads; returns results and reasons why images cannot be read, by path."""

    def attempt(record: Record) -> _Result | DataError:
        try:
            return function(dataset, record)
        except DataError as error:
            return error

    results: dict[str, _Result] = {}
    errors: dict[str, str] = {}
    bar = progress.bar(description, len(dataset.records), "images")
    with ThreadPoolExecutor(num_threads()) as pool, bar as update:
        for record, result in zip(dataset.records, pool.map(attempt, dataset.records), strict=True):
            if isinstance(result, DataError):
                errors[record.path] = str(result).removeprefix(f"{record.path}: ").removesuffix(FIX)
            else:
                results[record.path] = result
            interrupts.check(collective=True)
            update(1)
    return results, errors


def num_threads() -> int:
    """Returns the number of threads for reading and decoding: two per core, because reading waits for the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2 * cores, THREADS)


def _properties(dataset: Dataset, record: Record) -> tuple[str, str, float, str, int, int]:
    """Returns digest, digest of the pixels, area, mode, width and height of an image."""
    data = dataset.read(record)
    complete = decode(data, record.path)
    pixels, mode = crop(dataset, complete), open_image(data).mode
    height, width, _ = pixels.shape
    area = np.count_nonzero(pixels[..., 0] | pixels[..., 1] | pixels[..., 2]) / (height * width)
    return hashlib.sha256(data).hexdigest(), pixel_digest(complete), area, mode, width, height


def _cache_file(dataset: Dataset) -> Path | None:
    """Returns the file for the result of this data set in its present state; None where no file stamps are known."""
    if dataset.stamp is None:
        return None
    parts: list[Any] = [READING_VERSION, PIL.__version__, sorted(dataset.crops.items())]
    parts += [(record.path, dataset.stamp(record)) for record in dataset.records]
    return files.cache_dir() / "inspections" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.json"


def _log_conversions(modes: Sequence[str], sizes: Counter[tuple[int, int]]) -> None:
    if len(sizes) > 1:
        listed = ", ".join(f"{count:,} of {width} × {height} pixels" for (width, height), count in sizes.most_common(4))
        logging.info(
            f"images differ in size ({listed}): each is resized to the same square, so a cell of the same size looks "
            "smaller in a larger image"
        )
    if converted := [f"{count:,} of mode {mode}" for mode, count in sorted(Counter(modes).items()) if mode != "RGB"]:
        logging.info(f"converted to RGB: {', '.join(converted)}")
