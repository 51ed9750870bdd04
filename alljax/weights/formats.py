"""Weight files to names and arrays, without PyTorch, TensorFlow or Keras.

Supported are PyTorch's ``.pth`` (both containers), safetensors, Keras's ``.h5`` and ``.keras``, and pickled NumPy
arrays, recognized by content, not by the file's name.  All arrays of a file are returned, with types as stored:
`alljax.weights.conversion` finds the network by its names.  No pickle runs code, see `alljax.weights.pickles`.
"""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.numpy

from alljax.data.archive import read_member
from alljax.errors import DataError, WeightsError
from alljax.files import check_size
from alljax.weights import pickles
from alljax.weights.pickles import Arrays

KERAS_SAVE = "load it in Keras and write model.save('FILE.keras')"


def read_weights(path: str | Path) -> Arrays:
    """Returns the arrays in a file, without the state of an optimizer.

    Names are as stored: keys of a PyTorch state dict, HDF5 paths of Keras (``conv1_conv/conv1_conv/kernel:0``), keys of
    nested dictionaries joined with ``/``.  Keras 3 stores variables without names: ``conv1_conv/kernel``.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: a folder; give the weight file itself (of a SavedModel: {KERAS_SAVE})")
    try:
        file = path.open("rb")
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}; check the path (--config.weights.path)") from error
    with file:
        try:
            return _read(path, file)
        except (WeightsError, DataError) as error:  # DataError: larger than what may be read
            raise WeightsError(f"{path}: {error}") from error
        except Exception as error:  # parsers of damaged bytes raise errors of any kind
            reason = " ".join(ascii(str(error))[1:-1].split())[:200] or type(error).__name__
            raise WeightsError(f"{path}: damaged or incomplete ({reason}); copy or download it again") from error


def _read(path: Path, file: IO[bytes]) -> Arrays:
    head = file.read(512)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(file)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_keras(file, {})
    if head[4:9] == b"\0\0\0\0{":  # after the length of the header, which is below 4 GB
        return safetensors.numpy.load_file(path)
    if b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19" in head[:32]:  # PyTorch's magic number, an integer
        return pickles.read_legacy(file)
    if head.startswith(b"\x80"):
        return pickles.Unpickler(file).arrays()
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError("a Git LFS pointer; run 'git lfs pull' or download the file itself")
    if head.lstrip().startswith(b"<"):
        raise WeightsError("a web page, not weights; download the file again")
    raise WeightsError("empty, or not a weight file (.pth, .safetensors, Keras .h5 or .keras, pickled NumPy arrays)")


def _read_zip(file: IO[bytes]) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        check_size("the content of the zip", sum(member.file_size for member in archive.infolist()))
        if "model.weights.h5" in names:
            layers = dict(_layer_names(json.loads(read_member(archive, "config.json"))["config"]))
            return _read_keras(io.BytesIO(read_member(archive, "model.weights.h5")), layers)
        if pickled := [name for name in names if name.endswith("data.pkl")]:
            return pickles.read_zip(archive, pickled[0])
    raise WeightsError("a zip archive without PyTorch or Keras weights; give the weight file inside")


def _read_keras(file: IO[bytes], layers: dict[str, str]) -> Arrays:
    """Reads an HDF5 file; `layers` has the names of layers for which Keras 3 stored none."""
    import h5py

    arrays: Arrays = {}

    def add(path: str, item: Any) -> None:
        layer, _, last = path.rpartition("/")
        name = item.attrs.get("name", layers.get(layer))
        if path.startswith("optimizer/"):
            return
        if last == "vars" and name:  # Keras 3 stores variables without names, in order
            values = [variable[()] for variable in item.values()]
            normalization = len(values) == 4 and all(value.ndim == 1 for value in values)
            kinds = ("gamma", "beta", "moving_mean", "moving_variance") if normalization else ("kernel", "bias")
            arrays.update({f"{name}/{kind}": value for kind, value in zip(kinds, values, strict=False)})
        elif isinstance(item, h5py.Dataset) and not layer.endswith("/vars"):
            arrays[path] = np.asarray(item)

    sizes: list[int] = []
    with h5py.File(file, "r") as opened:
        opened.visititems(lambda path, item: sizes.append(getattr(item, "nbytes", 0)))
        check_size("the content of the HDF5 file", sum(sizes))
        opened.get("model_weights", opened).visititems(add)
    if not arrays:
        raise WeightsError(f"an HDF5 file without names of Keras layers; {KERAS_SAVE}")
    return arrays


def _layer_names(config: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the HDF5 path and the name of each layer; Keras 3 numbers the layers of a class: conv2d, conv2d_1."""
    count: Counter[str] = Counter()
    for layer in config.get("layers", []):
        spaced = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer["class_name"])
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", spaced).lower()
        group = f"{path}layers/{kind}{f'_{count[kind]}' if count[kind] else ''}"
        count[kind] += 1
        yield group, layer["config"]["name"]
        yield from _layer_names(layer["config"], f"{group}/")
