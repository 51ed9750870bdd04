"""Weight files to names and arrays, without PyTorch, TensorFlow or Keras.

Supported are PyTorch's ``.pth`` (both containers), safetensors, Keras's ``.h5`` and ``.keras``, and pickled NumPy
arrays.  The format is recognized by content, never by the name of the file.  Data types are kept as stored.

One rule applies to every container: the weights are the largest mapping of names to arrays, whatever its name and
whatever is stored beside it (metrics, optimizer state, arguments).  No pickle runs code: see `alljax.weights.pickles`.
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
import safetensors

from alljax.errors import WeightsError
from alljax.weights import pickles
from alljax.weights.pickles import Arrays, FormatError

NOT_WEIGHTS = {
    b"version https://git-lfs": "a Git LFS pointer; run 'git lfs pull' or download the file itself",
    b"<": "a web page, not weights; download the file again",
}
KERAS_SAVE = "load it in Keras and write model.save('FILE.keras')"


def read_weights(path: str | Path) -> Arrays:
    """Returns the weights in a file, in its order.

    Names are as stored: keys of a PyTorch state dict, layer and variable in Keras (``conv1_conv/kernel:0``, with the
    outer model in front of a nested layer), keys of nested dictionaries joined with ``/``.

    Raises:
        WeightsError: the file is missing, damaged, of an unknown format, or has no mapping of names to arrays.
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
        except FormatError as error:
            raise WeightsError(f"{path}: {error}") from error
        except Exception as error:  # parsers of damaged bytes raise errors of any kind
            reason = " ".join(ascii(str(error))[1:-1].split())[:200] or type(error).__name__
            raise WeightsError(f"{path}: damaged or incomplete ({reason}); copy or download it again") from error


def file_format(path: Path) -> str:
    """Returns the name of a file's format, for ``weights show``."""
    with path.open("rb") as file:
        return _detect(file)


def _detect(file: IO[bytes]) -> str:
    head = file.read(512)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        names = zipfile.ZipFile(file).namelist()
        if any(name.endswith("model.weights.h5") for name in names):
            return "Keras (.keras)"
        if any(name.endswith("data.pkl") for name in names):
            return "PyTorch (zip)"
        raise FormatError("a zip archive without PyTorch or Keras weights; give the weight file inside")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "Keras (HDF5)"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors"
    if b"\x8a\x0a" + pickles.MAGIC_NUMBER.to_bytes(10, "little") in head[:32]:
        return "PyTorch (legacy)"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickled NumPy"
    for start, reason in NOT_WEIGHTS.items():
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(start):
            raise FormatError(reason)
    raise FormatError("empty, or not a weight file (.pth, .safetensors, Keras .h5 or .keras, pickled NumPy arrays)")


def _read(path: Path, file: IO[bytes]) -> Arrays:
    match _detect(file):
        case "PyTorch (zip)":
            return pickles.find_weights(pickles.load_zip(file))
        case "PyTorch (legacy)":
            return pickles.find_weights(pickles.load_legacy(file))
        case "pickled NumPy":
            return pickles.find_weights(pickles.Unpickler(file).load())
        case "safetensors":
            with safetensors.safe_open(path, framework="numpy") as opened:
                return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        case "Keras (HDF5)":
            return _read_keras(file)
        case _:
            with zipfile.ZipFile(file) as archive:
                config = json.loads(archive.read("config.json"))
                return _read_keras(io.BytesIO(archive.read("model.weights.h5")), config)


def _read_keras(file: IO[bytes], config: dict[str, Any] | None = None) -> Arrays:
    import h5py

    with h5py.File(file, "r") as opened:
        root = opened.get("model_weights", opened)
        arrays = {}
        for layer in _attribute(root, "layer_names"):
            for name in _attribute(root[layer], "weight_names"):
                parts = name.split("/")  # Keras 1 stored names without the layer, Keras 3 with the model before it
                full = "/".join(parts[parts.index(layer) :]) if layer in parts else f"{layer}/{name}"
                arrays[full] = root[layer][name][()]
        if not arrays:
            layers = dict(_layer_names(config["config"])) if config else {}
            opened.visititems(lambda path, group: arrays.update(_keras_3_layer(path, group, layers)))
        if not arrays:
            raise FormatError(f"an HDF5 file without names of Keras layers; {KERAS_SAVE}")
        return arrays


def _attribute(group: Any, name: str) -> list[str]:
    """Returns a list of names, which Keras splits into numbered attributes above 64 kB."""
    parts = [group.attrs[key] for key in (name, *(f"{name}{n}" for n in range(99))) if key in group.attrs]
    names = [name for part in parts for name in np.asarray(part).tolist()]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _keras_3_layer(path: str, group: Any, layers: dict[str, str]) -> Arrays:
    """Returns the variables of a layer that Keras 3 stores in order and without names, as ``layer/kernel``."""
    layer, _, last = path.rpartition("/")
    name = group.attrs.get("name", layers.get(layer)) if last == "vars" else None
    if not name or path.startswith("optimizer/"):
        return {}
    values = [variable[()] for variable in group.values()]
    normalization = len(values) == 4 and all(value.ndim == 1 for value in values)
    kinds = ("gamma", "beta", "moving_mean", "moving_variance") if normalization else ("kernel", "bias")
    return {f"{name}/{kind}": value for kind, value in zip(kinds, values, strict=False)}


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
