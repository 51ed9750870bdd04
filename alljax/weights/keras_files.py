"""Keras's HDF5 weight files, as `save_weights('F.h5')` of Keras 1 and 2 and `model.save('F.h5')` write them.

The root, or its group ``model_weights``, has the attribute ``layer_names``; each
layer is a group with the attribute ``weight_names``, which are paths of datasets
inside it.  Keras stores a dataset in one piece and uncompressed, so that an
array is a read-only view of the memory-mapped file.

Source of the layout: `keras/src/legacy/saving/legacy_h5_format.py` of Keras 3.15.
"""

import json
import math
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from alljax.weights.restricted_pickle import RefusedError

PATIENCE = 60.0
"""Seconds after which the HDF5 library is taken to be lost in a damaged file."""


def read(path: Path, data: mmap.mmap) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads all weights of all layers.

    Args:
        path: the file.
        data: the same, all of it.

    Returns:
        Arrays in the order of layers and weights, and no notes.  A name is the stored one from its
        layer's name on, with the layer's name in front where the stored one does not have it.

    Raises:
        RefusedError: another layout, or a weight that lies outside the file.
        Exception: of almost any kind, where the file is damaged.
    """
    tensors: dict[str, np.ndarray] = {}
    for weight in _layout(path):
        name = _full_name(weight["layer"], weight["name"])
        if name in tensors:
            raise ValueError(f"weight {name[:60]!r} is there twice")
        tensors[name] = _array(data, name, np.dtype(weight["dtype"]), weight["shape"], weight["offset"])
    return tensors, []


def _layout(path: Path) -> list[dict[str, Any]]:
    """What `hdf5_layout` finds in the file, in a process of its own."""
    program = [sys.executable, "-P", str(Path(__file__).with_name("hdf5_layout.py")), str(path)]
    try:
        done = subprocess.run(program, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"the HDF5 library did not come back within {PATIENCE:.0f} s") from error
    if done.returncode < 0:
        raise ValueError("the HDF5 library crashed over it")
    if done.returncode:
        raise RuntimeError(done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2])
    answer = json.loads(done.stdout)
    if "refused" in answer:
        raise RefusedError(answer["refused"])
    if "damaged" in answer:
        raise ValueError(answer["damaged"])
    weights: list[dict[str, Any]] = answer["weights"]
    return weights


def _full_name(layer: str, name: str) -> str:
    """The stored name from its layer on: Keras 1 left the layer out, Keras 3 puts the model before it."""
    parts = name.split("/")
    return "/".join(parts[parts.index(layer) :]) if layer in parts else f"{layer}/{name}"


def _array(data: mmap.mmap, name: str, dtype: np.dtype, shape: list[int], offset: int) -> np.ndarray:
    count = math.prod(shape)
    if offset + count * dtype.itemsize > len(data):
        raise EOFError(f"weight {name[:60]!r} of shape {tuple(shape)} reaches past the end of the file")
    if not count:
        return np.zeros(shape, dtype.newbyteorder("="))
    view = np.ndarray(shape, dtype, buffer=data, offset=offset)
    return view if dtype.isnative else view.astype(dtype.newbyteorder("="))
