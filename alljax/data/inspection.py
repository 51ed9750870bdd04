"""Properties of all images of a data set: digests, sizes, modes, areas and files that cannot be read."""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import PIL
from absl import logging
from numpy.typing import NDArray

from alljax import files, interrupts, progress
from alljax.data.dataset import Dataset, Record
from alljax.data.images import FIX, READING_VERSION, crop, decode_with_mode, pixel_digest
from alljax.errors import DataError, WorkdirError, first_few, plural

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Inspection:
    """Properties of the N readable images, in the order of the records.

    Attributes:
        digests: SHA-256 of each file, hexadecimal.
        pixels: SHA-256 of each image's pixels (`pixel_digest`): equal for a BMP file and its PNG copy.
        areas: fraction of each image's pixels that are not black, float32 (N,), at original size.
        modes: number of images stored in each Pillow mode; all modes but ``RGB`` are converted.
        sizes: number of images of each (width, height).
        unreadable: path → why an image cannot be read.
    """

    digests: tuple[str, ...]
    pixels: tuple[str, ...]
    areas: NDArray[np.float32]
    modes: Counter[str]
    sizes: Counter[tuple[int, int]]
    unreadable: Mapping[str, str] = field(default_factory=dict)


def inspect(dataset: Dataset, on_error: str = "raise") -> Inspection:
    """Reads and decodes every image once; the result is cached where the files have not changed (`Dataset.stamp`).

    Args:
        dataset: the images.
        on_error: ``raise``, or ``skip`` to list images that cannot be read in `Inspection.unreadable` only
            (`drop_unreadable` removes their records).

    Raises:
        DataError: names the first five images that cannot be read and counts the others.
    """
    cached = _cache_file(dataset)
    errors: dict[str, DataError] = {}
    if cached and cached.exists():
        found = [_Properties(*each) for each in json.loads(cached.read_text())]
    else:
        with progress.bar("inspect images", len(dataset.records), "images") as update:
            found, errors = map_images(dataset, _properties, update)
        if cached and not errors:
            with contextlib.suppress(WorkdirError):  # a cache folder that cannot be written only costs time
                files.write_text(cached, json.dumps(found))
    if errors and on_error == "raise":
        listed = "; ".join(str(error).removesuffix(FIX) for error in [*errors.values()][:5])
        rest = f"; and {len(errors) - 5:,} more" if len(errors) > 5 else ""
        raise DataError(
            f"{len(errors):,} of {plural(len(dataset.records), 'image')} cannot be read, replace or remove them: "
            f"{listed}{rest}"
        )
    inspection = Inspection(
        digests=tuple(each.digest for each in found),
        pixels=tuple(each.pixels for each in found),
        areas=np.array([each.area for each in found], np.float32),
        modes=Counter(each.mode for each in found),
        sizes=Counter((each.width, each.height) for each in found),
        unreadable={path: reason(error, path) for path, error in errors.items()},
    )
    _report(inspection)
    return inspection


def map_images(
    dataset: Dataset, function: Callable[[Dataset, Record], _Result], update: Callable[[int], Any] = lambda count: None
) -> tuple[list[_Result], dict[str, DataError]]:
    """Applies a function to every record in threads; `update` is called with the number of newly finished ones.

    Returns:
        The results in the order of the records, without those that raised DataError, and these errors by path.
    """

    def attempt(record: Record) -> _Result | DataError:
        try:
            return function(dataset, record)
        except DataError as error:
            return error

    results: list[_Result] = []
    errors: dict[str, DataError] = {}
    with ThreadPoolExecutor(num_threads()) as pool:
        for record, result in zip(dataset.records, pool.map(attempt, dataset.records), strict=True):
            if isinstance(result, DataError):
                errors[record.path] = result
            else:
                results.append(result)
            interrupts.check(collective=True)
            update(1)
    return results, errors


def drop_unreadable(dataset: Dataset, inspection: Inspection) -> Dataset:
    """Returns the data set without the images that `inspection` could not read; a note lists them."""
    if not (bad := inspection.unreadable):
        return dataset
    listed = first_few(f"{path} ({why})" for path, why in bad.items())
    note = f"{plural(len(bad), 'image')} skipped, cannot be read (data.on_error=skip): {listed}"
    records = tuple(record for record in dataset.records if record.path not in bad)
    return replace(dataset, records=records, notes=(*dataset.notes, note))


def reason(error: DataError, path: str) -> str:
    """Returns the message of an error without the path and the advice, for lists."""
    return str(error).removeprefix(f"{path}: ").removesuffix(FIX)


def num_threads() -> int:
    """Returns the number of threads for reading and decoding: two per core, because reading waits for the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2 * cores, 16)


class _Properties(NamedTuple):
    digest: str
    pixels: str
    area: float
    mode: str
    width: int
    height: int


def _properties(dataset: Dataset, record: Record) -> _Properties:
    data = dataset.read(record)
    complete, mode = decode_with_mode(data, record.path)
    pixels = crop(dataset, complete)
    height, width, _ = pixels.shape
    area = np.count_nonzero(pixels[..., 0] | pixels[..., 1] | pixels[..., 2]) / (height * width)
    return _Properties(hashlib.sha256(data).hexdigest(), pixel_digest(complete), area, mode, width, height)


def _cache_file(dataset: Dataset) -> Path | None:
    """Returns the file for the result of this data set in its present state; None where no file stamps are known."""
    if dataset.stamp is None:
        return None
    parts = [READING_VERSION, PIL.__version__, _Properties._fields, sorted(dataset.crops.items())]
    parts += [(record.path, dataset.stamp(record)) for record in dataset.records]
    return files.cache_dir() / "inspections" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.json"


def _report(inspection: Inspection) -> None:
    if len(inspection.sizes) > 1:
        sizes = ", ".join(f"{n:,} of {w} × {h} pixels" for (w, h), n in inspection.sizes.most_common(4))
        logging.info(
            f"images differ in size ({sizes}): each is resized to the same square, so a cell of the same size looks "
            "smaller in a larger image"
        )
    if converted := [f"{count:,} of mode {mode}" for mode, count in sorted(inspection.modes.items()) if mode != "RGB"]:
        logging.info(f"converted to RGB: {', '.join(converted)}")
