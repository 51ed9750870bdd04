"""Reads MedMNIST files (https://medmnist.com)."""

import re
from pathlib import Path

import numpy as np

from alljax.data.archive import ZIP_ERRORS, file_stamp, read_arrays
from alljax.data.dataset import Dataset, Record
from alljax.data.images import encode
from alljax.errors import DataError


def read_medmnist(path: Path) -> Dataset:
    """Reads a MedMNIST file: paths are ``train/000012``, classes the numbers of the labels.

    For train, val and test: ``train_images`` uint8 (N, H, W) or (N, H, W, 3), ``train_labels`` integers (N,) or (N, 1).
    """
    stamp = file_stamp(path)
    try:
        arrays = read_arrays(path)
    except ZIP_ERRORS as error:
        raise DataError(f"{path}: cannot be read: {error}; download the file again") from error
    subsets = [subset for subset in ("test", "train", "val") if f"{subset}_labels" in arrays]
    if not subsets:
        raise DataError(f"{path}: expected the arrays train_images and train_labels (or val_…, test_…) of MedMNIST")
    for subset in subsets:
        labels, images = arrays[f"{subset}_labels"], arrays.get(f"{subset}_images")
        if labels.dtype.kind not in "iu" or labels.shape[1:] not in ((), (1,)):
            raise DataError(f"{path}: {subset}_labels is {labels.dtype} {labels.shape}; expected one integer per image")
        found, count = "missing" if images is None else f"{images.dtype} {images.shape}", len(labels)
        if not re.fullmatch(rf"uint8 \({count}, \d+, \d+(, 3)?\)", found):
            raise DataError(f"{path}: {subset}_images is {found}; expected uint8 ({count}, height, width[, 3])")
    numbers = {subset: arrays[f"{subset}_labels"].ravel() for subset in subsets}
    classes = tuple(map(str, np.unique(np.concatenate([*numbers.values()]))))
    records = tuple(
        Record(f"{subset}/{row:06}", classes.index(str(label)), subset=subset)
        for subset, of_subset in numbers.items()
        for row, label in enumerate(of_subset)
    )

    def read(record: Record) -> bytes:
        subset, _, row = record.path.partition("/")
        return encode(arrays[f"{subset}_images"][int(row)])

    return Dataset("npz", classes, records, read, stamp=lambda record: stamp)
