"""Keras's HDF5 weight files, as `model.save_weights('F.h5')` of Keras 1 and 2 and `model.save('F.h5')` write them.

The root, or its group ``model_weights``, has the attribute ``layer_names``; each
layer is a group with the attribute ``weight_names``, which are paths of datasets
inside it.  Attributes above 64 kB are split into ``layer_names0``, ``layer_names1``, ...

Source of the layout: `keras/src/legacy/saving/legacy_h5_format.py` of Keras 3.15.
"""

from pathlib import Path

import h5py
import numpy as np

from alljax.weights.restricted_pickle import RefusedError


def read(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads all weights of all layers.

    Args:
        path: the file.

    Returns:
        Arrays in the order of layers and weights, and no notes.  A name is the stored one from its
        layer's name on, with the layer's name in front where the stored one does not have it.

    Raises:
        RefusedError: another layout, or a dataset that lies outside the file.
        Exception: of almost any kind, where the file is damaged.
    """
    # Nobody writes while we read, and many cluster file systems cannot lock.
    with h5py.File(path, "r", locking=False) as file:
        root = _child(file, "model_weights") if "model_weights" in file else file
        layers = _names(root, "layer_names")
        if not layers:
            raise RefusedError(_foreign(file))
        tensors = {}
        for layer in layers:
            group = _child(root, layer)
            for name in _names(group, "weight_names"):
                full = _full_name(layer, name)
                if full in tensors:
                    raise ValueError(f"weight {full[:60]!r} is there twice")
                tensors[full] = _numbers(_child(group, name), full, path.stat().st_size)
    return tensors, []


def _full_name(layer: str, name: str) -> str:
    """The stored name from its layer on: Keras 1 left the layer out, Keras 3 puts the model before it."""
    parts = name.split("/")
    return "/".join(parts[parts.index(layer) :]) if layer in parts else f"{layer}/{name}"


def _foreign(file: h5py.File) -> str:
    if "layers" in file or "_layer_checkpoint_dependencies" in file or "vars" in file:
        return (
            "Keras 3's .weights.h5, which does not name its weights; "
            "load it in Keras and write it with model.save('FILE.h5')"
        )
    return "an HDF5 file without Keras's layer_names; write the weights with Keras's model.save('FILE.h5')"


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """An attribute's list of names, whole or split into numbered parts."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    names = [name for part in parts for name in np.asarray(part).tolist()]
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


def _child(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset:
    """A member of a group, reached without any link out of the file."""
    for part in path.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise RefusedError(f"its entry {part[:60]!r} is a link to another place, which is not followed")
        group = group[part]
    return group


def _numbers(dataset: h5py.Dataset, name: str, size: int) -> np.ndarray:
    """A dataset's numbers, once it has been seen to lie in this file and to fit into it."""
    if dataset.is_virtual or dataset.external:
        raise RefusedError(f"its weight {name[:60]!r} lies in another file, which is not followed")
    if dataset.dtype.kind not in "fiub":
        raise RefusedError(f"its weight {name[:60]!r} is of type {dataset.dtype}, not numbers")
    if dataset.nbytes > size:
        raise RefusedError(
            f"its weight {name[:60]!r} claims {dataset.nbytes} bytes and the file has {size}; "
            "it is damaged, or compressed, which Keras's own files are not"
        )
    return np.asarray(dataset[()]).astype(dataset.dtype.newbyteorder("="), copy=False)
