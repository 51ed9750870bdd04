"""MedMNIST's files (https://medmnist.com): one ``.npz`` with the images and labels of each part.

The arrays are ``train_images``, ``train_labels``, and the same for ``val`` and
``test``: images uint8 (N, H, W) or (N, H, W, 3), labels whole numbers (N,) or
(N, 1).  Nothing says whose cells they are.
"""

import io
import math
import threading
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from alljax.data.archive import natural
from alljax.data.dataset import Dataset, Record, choose_classes, subject_notes
from alljax.errors import DataError, first_few, plural

# In the natural order of paths.
_PARTS = ("test", "train", "val")

_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError)


def read(path: Path, classes: Sequence[str] = ()) -> Dataset:
    """Reads the records of a MedMNIST file.

    A record's path is its part and its number there, ``train/000012``; the
    classes are the label numbers as text.  The pixels of a part are read, and
    stay in memory, when its first image is asked for.

    Args:
        path: the ``.npz``.
        classes: label numbers in the order of the classes; empty for all, by value.

    Raises:
        DataError: a damaged file; an array that is missing, of another shape or of another kind; one
            of `classes` is not there.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            there = {name.removesuffix(".npy") for name in archive.namelist()}
            parts = [part for part in _PARTS if there & {f"{part}_images", f"{part}_labels"}]
            labels = {part: _labels(path, archive, part) for part in parts}
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if not labels:
        raise DataError(
            f"{path}: no arrays train_images and train_labels (or val_…, test_…) in it, as MedMNIST has them; "
            f"there is {first_few(natural(there)) or 'nothing'}"
        )
    found = sorted({label for each in labels.values() for label in each}, key=int)
    order = choose_classes(classes, found, path)
    numbers = {name: number for number, name in enumerate(order)}
    records = tuple(
        Record(f"{part}/{row:06}", numbers[label], subset=part)
        for part, each in labels.items()
        for row, label in enumerate(each)
        if label in numbers
    )
    left = sum(map(len, labels.values())) - len(records)
    note = (f"{plural(left, 'image')} left out: their labels are not in data.classes",) if left else ()
    return Dataset("npz", order, records, _Reader(path), (*note, *subject_notes(records)))


class _Reader:
    """Gives a record's image as a BMP: lossless, and the same bytes whatever library wrote it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._images: dict[str, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["_Reader"], tuple[Path]]:
        return _Reader, (self._path,)  # a worker process reads its own

    def __call__(self, record: Record) -> bytes:
        part, _, row = record.path.partition("/")
        with self._lock:
            if part not in self._images:
                self._images[part] = self._load(f"{part}_images")
        file = io.BytesIO()
        Image.fromarray(self._images[part][int(row)]).save(file, "BMP")
        return file.getvalue()

    def _load(self, name: str) -> NDArray[np.uint8]:
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(f"{name}.npy") as file:
                return npy.read_array(file, allow_pickle=False)
        except _DAMAGE as error:
            raise _damaged(self._path, error) from error
        except MemoryError as error:
            raise DataError(f"{self._path}: {name} does not fit in memory; take MedMNIST's smaller size") from error


def _labels(path: Path, archive: zipfile.ZipFile, part: str) -> list[str]:
    """Checks the arrays of a part and returns its labels as text."""
    shape, dtype = _header(path, archive, f"{part}_images")
    gray_or_color = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
    if dtype != np.uint8 or not gray_or_color or 0 in shape[1:]:
        raise DataError(
            f"{path}: {part}_images is {dtype} {shape}; expected uint8 (N, height, width) or (N, height, width, 3)"
        )
    named, kind = _header(path, archive, f"{part}_labels")
    if len(named) == 2 and named[1] > 1:
        raise DataError(
            f"{path}: {part}_labels is {named}, several labels an image; a classifier here needs one: "
            "write one column of class numbers"
        )
    if kind.kind not in "iu" or named[1:] not in ((), (1,)):
        raise DataError(f"{path}: {part}_labels is {kind} {named}; expected whole numbers (N,) or (N, 1)")
    if named[0] != shape[0]:
        raise DataError(f"{path}: {shape[0]:,} {part}_images but {named[0]:,} {part}_labels; fetch the file again")
    with archive.open(f"{part}_labels.npy") as file:
        return [str(label) for label in npy.read_array(file, allow_pickle=False).reshape(-1).tolist()]


def _header(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and type of an array without reading it."""
    if f"{name}.npy" not in archive.namelist():
        raise DataError(f"{path}: the array {name} is missing; each part needs its images and its labels")
    with archive.open(f"{name}.npy") as file:
        version = npy.read_magic(file)
        shape, _, dtype = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
        size = archive.getinfo(f"{name}.npy").file_size - file.tell()
    if dtype.hasobject:
        raise DataError(f"{path}: {name} holds pickled Python objects, which could run code; it is not opened")
    if size < dtype.itemsize * math.prod(shape):
        raise ValueError(f"{name} is shorter than its shape {shape}")
    return shape, dtype


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a whole .npz file (a broken download?): {error}; fetch it again")
