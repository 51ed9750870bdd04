"""Prints where a Keras HDF5 file has its weights, as JSON; run by `keras_files` as a program of its own.

The HDF5 library, given a damaged file, may crash or never return.  Here it may:
this process opens the file, reads names and places only, and is thrown away.
It imports nothing of alljax and takes the file's path as its argument.
"""

import json
import sys
from typing import Any

import h5py
import numpy as np


class RefusedError(Exception):
    """What the file is, that it is not read."""


def layout(path: str) -> list[dict[str, Any]]:
    """Name, type, shape and place of each weight: the layer's weights in the order of the layers."""
    # Nobody writes while we read, and many cluster file systems cannot lock.
    with h5py.File(path, "r", locking=False) as file:
        root = child(file, "model_weights") if "model_weights" in file else file
        layers = names(root, "layer_names")
        if not layers:
            raise RefusedError(foreign(file))
        groups = {layer: child(root, layer) for layer in layers}
        return [
            {"layer": layer, "name": name, **place(child(group, name), name)}
            for layer, group in groups.items()
            for name in names(group, "weight_names")
        ]


def names(group: h5py.Group, attribute: str) -> list[str]:
    """An attribute's list of names, whole, or split into numbered parts as Keras does above 64 kB."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    found = [name for part in parts for name in np.asarray(part).tolist()]
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in found]


def child(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset:
    """A member of a group, reached without any link out of the file."""
    for part in path.split("/"):
        link = group.get(part, getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise RefusedError(f"its entry {part[:60]!r} is a link to another place, which is not followed")
        group = group[part]
    return group


def place(dataset: h5py.Dataset, name: str) -> dict[str, Any]:
    """Type, shape and offset in the file of a dataset that lies there in one piece."""
    if dataset.is_virtual or dataset.external:
        raise RefusedError(f"its weight {name[:60]!r} lies in another file, which is not followed")
    if dataset.dtype.kind not in "fiub":
        raise RefusedError(f"its weight {name[:60]!r} is of type {dataset.dtype}, not numbers")
    offset = dataset.id.get_offset()
    if offset is None and dataset.size:
        raise RefusedError(f"its weight {name[:60]!r} is compressed or in chunks, which Keras's own files are not")
    return {"dtype": dataset.dtype.str, "shape": dataset.shape, "offset": offset or 0}


def foreign(file: h5py.File) -> str:
    """What an HDF5 file is that has no layer names."""
    if any(name in file for name in ("layers", "_layer_checkpoint_dependencies", "vars")):
        return (
            "Keras 3's .weights.h5, which does not name its weights; "
            "load it in Keras and write it with model.save('FILE.h5')"
        )
    return "an HDF5 file without Keras's layer_names; write the weights with Keras's model.save('FILE.h5')"


if __name__ == "__main__":
    try:
        answer: dict[str, Any] = {"weights": layout(sys.argv[1])}
    except RefusedError as error:
        answer = {"refused": str(error)}
    except Exception as error:
        answer = {"damaged": f"{type(error).__name__}: {error}"}
    json.dump(answer, sys.stdout)
