"""Reads MedMNIST files (https://medmnist.com)."""

import re
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alljax.data.archive import ZIP_ERRORS, file_stamp, read_arrays
from alljax.data.dataset import Dataset, Record
from alljax.data.images import encode
from alljax.errors import DataError


def read_medmnist(path: Path) -> Dataset:
    """Reads a MedMNIST file: paths are ``train/000012``, classes the numbers of the labels.

    For train, val and test: ``train_images`` uint8 (N, H, W) or (N, H, W, 3), ``train_labels`` integers (N,) or (N, 1).
    """
    found = {subset: _load_array(path, f"{subset}_labels") for subset in ("test", "train", "val")}
    labels = {subset: array for subset, array in found.items() if array is not None}
    if not labels:
        raise DataError(f"{path}: expected the arrays train_images and train_labels (or val_…, test_…) of MedMNIST")
    for subset, array in labels.items():
        if array.dtype.kind not in "iu" or array.shape[1:] not in ((), (1,)):
            raise DataError(f"{path}: {subset}_labels is {array.dtype} {array.shape}; expected one integer per image")
    classes = tuple(map(str, np.unique(np.concatenate([array.ravel() for array in labels.values()]))))
    records = tuple(
        Record(f"{subset}/{row:06}", classes.index(str(label)), subset=subset)
        for subset, array in labels.items()
        for row, label in enumerate(array.ravel())
    )

    lock, images = threading.Lock(), dict[str, NDArray[np.uint8]]()

    def read(record: Record) -> bytes:
        subset, _, row = record.path.partition("/")
        with lock:  # threads share one copy
            if subset not in images:
                loaded, count = _load_array(path, f"{subset}_images"), len(labels[subset])
                found = "missing" if loaded is None else f"{loaded.dtype} {loaded.shape}"
                if loaded is None or not re.fullmatch(rf"uint8 \({count}, \d+, \d+(, 3)?\)", found):
                    raise DataError(f"{path}: {subset}_images is {found}; expected uint8 ({count}, height, width[, 3])")
                images[subset] = loaded
        return encode(images[subset][int(row)])

    stamp = file_stamp(path)
    return Dataset("npz", classes, records, read, stamp=lambda record: stamp)


def _load_array(path: Path, name: str) -> NDArray | None:
    """Returns an array of the file, or None if it is missing."""
    try:
        return read_arrays(path, name).get(name)
    except ZIP_ERRORS as error:
        raise DataError(f"{path}: {name} cannot be read: {error}; download the file again") from error
