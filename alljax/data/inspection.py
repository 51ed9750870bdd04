"""Properties of all images of a data set: digests, areas, sizes, suspicious pixels and files that cannot be read."""

import contextlib
import functools
import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import PIL
from absl import logging
from numpy.typing import NDArray

from alljax import cache, files, progress
from alljax.data import duplicates, protocols
from alljax.data.dataset import UNLABELED, Dataset, Record, connected_groups, merge_subjects
from alljax.data.images import FIX, READING_VERSION, crop, decode, open_image, pixel_digest
from alljax.errors import DataError, first_few, plural
from alljax.files import THREADS

SMALL_RANGE = {8: 16, 16: 64}
"""Bits per channel of a file → largest range, decoded to 0 … 255, that is reported: 64 is 14-bit data in 16 bits."""

PIXEL_PROBLEMS = {
    "one_color": "of one color only (blank, or transparent everywhere), replace or remove them",
    "small_range": "with a small part of the range of pixel values (as 12-bit data in 16 bits), rescale the values",
}
"""Problems with the pixels of an image and their descriptions."""

PROPERTIES = {
    "width": "the width",
    "height": "the height",
    "format": "the file format",
    "mode": "the color mode",
    "border": "the brightness of the outermost pixels",
    "bytes": "the file size",
}
"""Properties that may predict the class: in a public set all leukemic, and no other, images had 224 × 224 pixels."""

LIMIT = 0.5
"""Properties that are at least so far from chance (0) to certainty (1) are reported: .75 for two classes."""

COMPARED = 20_000
"""Images among which near duplicates are searched; the time grows with the square of their number."""

_VERSION = 5  # increased when the stored properties change
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Inspection:
    """Properties of all images, in the order of the records."""

    digests: tuple[str, ...]  # SHA-256 of the files, hexadecimal
    pixels: tuple[str, ...]  # SHA-256 of the pixels (`pixel_digest`): equal for a BMP file and its PNG copy
    similar: tuple[int, ...]  # numbers that are the same for near duplicates, see `duplicates`
    areas: NDArray[np.float32]  # (N,), fraction of the pixels that are not black, at original size
    colors: NDArray[np.float32]  # (N, 3), mean color of these pixels, 0 to 255
    # Whether the outermost pixels of most images have a mean brightness below 1: then `areas` are the sizes of cells.
    black: bool
    sizes: Counter[tuple[int, int]]  # number of images of each (width, height)
    pixel_problems: dict[str, list[str]]  # paths of images by problem, see `PIXEL_PROBLEMS` and `SMALL_RANGE`
    file_properties: dict[str, dict[str, Any]]  # see `measure_properties`; empty where labels are unknown


def inspect(dataset: Dataset, on_error: str = "raise") -> tuple[Dataset, Inspection]:
    """Reads every image once, or the cache for unchanged files; returns the data set with notes, and what was found."""
    cached, errors = None, dict[str, str]()
    if dataset.stamp:
        state: list[Any] = [_VERSION, READING_VERSION, PIL.__version__, sorted(dataset.crops.items())]
        state += [(record.path, dataset.stamp(record)) for record in dataset.records]
        key = hashlib.sha256(json.dumps(state).encode()).hexdigest()
        cached = files.cache_dir() / "inspections" / f"{key}.json"
    if cached and (text := cache.read_text(cached)):
        found = json.loads(text)
    else:
        by_path, errors = map_images(dataset, properties, "inspect images")
        found = list(by_path.values())
        reduced = [each.pop("reduced") for each in found][:COMPARED]
        groups = connected_groups(len(found), duplicates.near_pairs(reduced).tolist())
        found = [each | {"similar": group} for each, group in zip(found, groups, strict=True)]
        if cached and not errors:
            cache.write_text(cached, json.dumps(found))
    if errors:
        listed = first_few(f"{path} ({why})" for path, why in errors.items())
        if on_error == "raise" or not found:
            count = f"{len(errors):,} of {plural(len(dataset.records), 'image')}"
            raise DataError(f"{count} cannot be read, replace or remove them: {listed}")
        note = f"{plural(len(errors), 'image')} skipped, cannot be read (data.on_error=skip): {listed}"
        readable = tuple(record for record in dataset.records if record.path not in errors)
        dataset = replace(dataset, records=readable, notes=(*dataset.notes, note))
    columns = {name: np.array([each[name] for each in found]) for name in found[0]}
    digests, pixels, similar = (tuple(columns[name].tolist()) for name in ("digest", "pixels", "similar"))
    sizes = Counter(zip(columns["width"].tolist(), columns["height"].tolist(), strict=True))
    subjects = merge_subjects(dataset, pixels)
    measured = measure_properties(
        dataset.labels, subjects, {name: columns[name] for name in PROPERTIES}, dataset.classes
    )
    for warning in property_warnings(measured):
        logging.warning(warning)
    kinds = [*zip(dataset.records, map(pixel_problem, columns["range"], columns["mode"]), strict=True)]
    problems = {name: [record.path for record, kind in kinds if kind == name] for name in PIXEL_PROBLEMS}
    notes = []
    if len(sizes) > 1:
        listed = ", ".join(f"{count:,} of {width} × {height} pixels" for (width, height), count in sizes.most_common(4))
        effect = "each is resized to the same square, so a cell of the same size looks smaller in a larger image"
        notes.append(f"images differ in size ({listed}): {effect}")
    modes = sorted(Counter(columns["mode"].tolist()).items())
    if converted := [f"{count:,} of mode {mode}" for mode, count in modes if mode != "RGB"]:
        notes.append(f"converted to RGB: {', '.join(converted)}")
    notes += [f"near duplicates were searched among {COMPARED:,} images only"] if len(found) > COMPARED else []
    notes += [
        f"{plural(len(of), 'image')} {PIXEL_PROBLEMS[name]}: {first_few(of)}" for name, of in problems.items() if of
    ]
    dataset = replace(dataset, notes=(*dataset.notes, *notes))
    areas, colors = (columns[name].astype(np.float32) for name in ("area", "color"))
    black = bool(np.median(columns["border"]) < 1)
    return dataset, Inspection(digests, pixels, similar, areas, colors, black, sizes, problems, measured)


def map_images(
    dataset: Dataset, function: Callable[[Dataset, Record], _Result], description: str
) -> tuple[dict[str, _Result], dict[str, str]]:
    """Returns the results of a function for every record, and why images cannot be read, by path."""
    results: dict[str, _Result] = {}
    errors: dict[str, str] = {}
    bar = progress.bar(description, len(dataset.records) if description else 0, "images")
    with bar as update, contextlib.closing(read_ahead(functools.partial(function, dataset), dataset.records)) as found:
        for record, result in zip(dataset.records, found, strict=True):
            try:
                results[record.path] = result.result()
            except DataError as error:
                errors[record.path] = str(error).removeprefix(f"{record.path}: ").removesuffix(FIX)
            update(1)
    return results, errors


def read_ahead(
    function: Callable[[Any], _Result], items: Iterable[Any], threads: int = 0
) -> Generator[Future[_Result], None, None]:
    """Yields the future of ``function(item)`` for each item in order, working ahead in threads that end with it."""
    threads = threads or min(2 * files.cpu_cores(), THREADS)  # two per core, because reading waits for the disk
    pool, ahead = ThreadPoolExecutor(threads), deque[Future[_Result]]()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > threads:
                yield ahead.popleft()
        yield from ahead
    finally:
        pool.shutdown(cancel_futures=True)


def properties(dataset: Dataset, record: Record) -> dict[str, Any]:
    """Reads and decodes an image: its digests, size, range and border of pixels, format and mode."""
    data = dataset.read(record)
    complete = decode(data, record.path)
    pixels, header = crop(dataset, complete), open_image(data)
    height, width, _ = pixels.shape
    rows = complete.reshape(len(complete), -1)  # along long rows, NumPy is ten times as fast
    darkest, brightest = (bound.reshape(-1, 3) for bound in (rows.min(0), rows.max(0)))
    cell = np.count_nonzero(pixels[..., 0] | pixels[..., 1] | pixels[..., 2])
    color = pixels.sum(0, dtype=np.int64).sum(0) / max(cell, 1)
    edges = complete[0], complete[-1], complete[:, 0], complete[:, -1]
    mode = header.mode
    with contextlib.suppress(Exception):  # formats of one frame, and damage after the first, which is decoded
        mode += f", first of {header.n_frames} frames" if header.n_frames > 1 else ""  # type: ignore[attr-defined]
    return {
        "digest": hashlib.sha256(data).hexdigest(),
        "pixels": pixel_digest(complete),
        "reduced": duplicates.reduce(complete),
        "area": cell / (height * width),
        "color": color.round(2).tolist(),
        "range": int(np.max(brightest.max(0) - darkest.min(0))),
        "width": width,
        "height": height,
        "format": header.format or "",
        "mode": mode,
        "border": round(float(np.mean([edge.mean() for edge in edges])), 1),
        "bytes": len(data),
    }


def pixel_problem(used: int, mode: str) -> str:
    """Returns the key of `PIXEL_PROBLEMS` for an image whose pixels use a range of values; empty if it has none."""
    if used > SMALL_RANGE[16 if mode.startswith("I") else 8]:
        return ""
    return "small_range" if used else "one_color"


def measure_properties(
    labels: np.ndarray, subjects: Sequence[str], properties: Mapping[str, np.ndarray], classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Returns the ``balanced_accuracy`` of a tree on each property of N images, and its typical ``values`` by class."""
    labeled = labels != UNLABELED
    labels, groups = labels[labeled], np.unique(np.array(subjects)[labeled], return_inverse=True)[1]
    folds = min((len(np.unique(groups[labels == label])) for label in range(len(classes))), default=0)
    if folds < 2:
        return {}
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    division = PredefinedSplit(protocols.group_folds(labels, groups, min(folds, 5), 0))
    tree = DecisionTreeClassifier(max_leaf_nodes=max(8, 2 * len(classes)), class_weight="balanced", random_state=0)
    measured = {}
    for name, values in properties.items():
        known = values[labeled]
        numbers = known if known.dtype.kind in "iuf" else np.unique(known, return_inverse=True)[1]
        predicted = cross_val_predict(tree, numbers[:, None], labels, cv=division)
        typical = {of: _typical(values[labeled][labels == label]) for label, of in enumerate(classes)}
        measured[name] = {"balanced_accuracy": float(balanced_accuracy_score(labels, predicted)), "values": typical}
    return measured


def property_warnings(measured: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields a message about the properties that predict the class; `measured` is from `measure_properties`."""
    found = []
    for name, of_property in measured.items():
        accuracy, by_class = of_property["balanced_accuracy"], of_property["values"]
        chance = 1 / len(by_class)
        if accuracy - chance >= LIMIT * (1 - chance):
            values = "; ".join(f"{of} {typical}" for of, typical in by_class.items())
            found.append(f"{PROPERTIES.get(name, name)} with a balanced accuracy of {accuracy:.2f} ({values})")
    if found:
        yield (
            f"The class of an image can be predicted without the cell from {', from '.join(found)}: a model can learn "
            "this instead of the cells; use images that were made and stored in the same way for every class"
        )


def _typical(values: np.ndarray) -> str:
    """Returns the texts that occur, or the range of 90 % of the numbers."""
    if values.dtype.kind == "U":
        return " or ".join(np.unique(values))
    return " to ".join(f"{bound:,.0f}" for bound in np.unique(np.quantile(values, (0.05, 0.95))))
