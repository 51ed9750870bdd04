"""Reads .npz files of unknown origin: no pickles, and no memory before the declared sizes have been checked."""

import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alljax.limits import check_size


def read_arrays(path: Path, *names: str) -> dict[str, NDArray]:
    """Returns arrays of an .npz by name: those of `names` that it has, or all.

    Raises:
        DataError: an array declares more bytes than may be read (`check_size`).
        OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error: no such file, or it is damaged.
    """
    with path.open("rb") as file, np.load(file) as arrays:
        found = [name for name in names or arrays if name in arrays]
        for name in found:
            check_size(f"{path}: {name}", _declared_size(arrays.zip, f"{name}.npy"))
        return {name: arrays[name] for name in found}


def _declared_size(archive: zipfile.ZipFile, member: str) -> int:
    """Returns the bytes of an array as its header and the zip declare them, the larger of the two."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    return max(math.prod(shape) * dtype.itemsize, archive.getinfo(member).file_size)
