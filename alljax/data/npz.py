"""Reads .npz files of unknown origin: no pickles, and no memory before the declared sizes have been checked."""

import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alljax.limits import check_size


def read_arrays(path: Path, *names: str) -> dict[str, NDArray]:
    """Returns arrays of an .npz by name: those of `names` that it has, or all; `DataError` if one is too large.

    No such file, or it is damaged: OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile or zlib.error.
    """
    with path.open("rb") as file, np.load(file) as arrays:
        found = [name for name in names or arrays if name in arrays]
        for name in found:
            shape, dtype = _declared(arrays.zip, name)
            size = max(math.prod(shape) * dtype.itemsize, arrays.zip.getinfo(f"{name}.npy").file_size)
            check_size(f"{path}: {name}", size)
        return {name: arrays[name] for name in found}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the float32 arrays of an .npz as their headers declare them; errors as in `read_arrays`."""
    with path.open("rb") as file, np.load(file) as arrays:
        declared = {name: _declared(arrays.zip, name) for name in arrays}
    return {name: shape for name, (shape, dtype) in declared.items() if dtype == np.float32}


def _declared(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns the shape and the type of an array as its header declares them."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    return shape, dtype
