"""Other people's weight files to names and arrays, without PyTorch or TensorFlow.

Read are PyTorch's ``.pth`` in both containers, ``.safetensors``, Keras's ``.h5``
with layer and weight names, and pickled NumPy arrays.  The format is told by the
first bytes, never by the file's name.  Types stay as stored: float16, bfloat16
and float32 alike.  No pickle ever runs code (`alljax.weights.restricted_pickle`).
"""

import mmap
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors

from alljax.errors import WeightsError
from alljax.weights import keras_files, numpy_pickle, torch_files
from alljax.weights.restricted_pickle import RefusedError


@dataclass(frozen=True)
class WeightFile:
    """What one file holds.

    Attributes:
        path: the file.
        format: its format, for people: ``"PyTorch (zip)"``, ``"safetensors"``, ...
        tensors: names as stored, in the file's order, with read-only or own arrays.
        notes: what was unwrapped, taken off a name or left out, one line each.
    """

    path: Path
    format: str
    tensors: dict[str, np.ndarray]
    notes: tuple[str, ...]


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a weight file of any known format.

    PyTorch arrays are read-only views of the memory-mapped file, loaded when they
    are used; copy what must outlive a change of the file.  Names are as stored:

    - PyTorch: of a checkpoint the entry ``state_dict``, ``model_state_dict`` or
      ``model`` is read; a ``module.`` before every name is taken off.
    - Keras: the stored ``weight_names``, always beginning with their layer
      (``conv1_conv/kernel:0``, ``block1_conv1/block1_conv1_W_1:0``).
    - Pickled NumPy: the keys of nested dictionaries, joined with ``/``.

    Args:
        path: the file.

    Returns:
        Tensor names with arrays, in the file's order.

    Raises:
        WeightsError: the file is missing, empty, cut short or damaged, of no known format,
            or a pickle that asks for anything but tensors.
    """
    return load(path).tensors


def load(path: str | os.PathLike[str]) -> WeightFile:
    """Reads a weight file like `read`, and says what format it has and what was unwrapped.

    Raises:
        WeightsError: see `read`.
    """
    path = Path(path)
    data = _open(path)
    try:
        name, reader = _format(data)
        tensors, notes = reader(path, data)
    except RefusedError as error:
        raise WeightsError(f"{path}: {_line(error)}") from error
    except Exception as error:
        # Whatever a parser trips over in these bytes is the file's fault, and there is no end of kinds.
        raise WeightsError(f"{path}: damaged or cut short ({_line(error)}); download or copy it again") from error
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors; is it the right file?")
    return WeightFile(path, name, tensors, tuple(notes))


_Reader = Callable[[Path, mmap.mmap], tuple[dict[str, np.ndarray], list[str]]]


def _open(path: Path) -> mmap.mmap:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path}: not a file but a folder or device; give the weight file itself")
        if not status.st_size:
            raise WeightsError(f"{path}: empty (0 bytes); download or copy it again")
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; check the path (--config.weights.path)") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path}: cannot be read ({reason}); check the path and its permissions") from error


def _format(data: mmap.mmap) -> tuple[str, _Reader]:
    """The format's name and reader, from the first bytes."""
    head = data[:512]
    if head.startswith(b"PK\x03\x04"):
        return "PyTorch (zip)", lambda path, data: torch_files.read_zip(data)
    if b"\x8a\x0a" + torch_files.MAGIC_NUMBER.to_bytes(10, "little") in head[:32]:
        return "PyTorch (legacy)", lambda path, data: torch_files.read_legacy(data)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "Keras HDF5", keras_files.read
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors", lambda path, data: _safetensors(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickled NumPy", lambda path, data: numpy_pickle.read(data)
    raise RefusedError(_no_weights(head))


def _no_weights(head: bytes) -> str:
    """What a file is that is no weight file, as far as its first bytes tell."""
    if head[257:262] == b"ustar":
        return (
            "a tar archive: unpack it, or if PyTorch before 0.2 wrote it, "
            "load it there and save it again with torch.save"
        )
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; run 'git lfs pull' or download the file"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"(\xb5/\xfd")):
        return "compressed; unpack it first"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "a web page or other XML, not weights; the download went wrong, get the file again"
    return "not a weight file of a known format (.pth, .safetensors, Keras .h5, pickled NumPy arrays)"


def _safetensors(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    with safetensors.safe_open(path, framework="numpy") as file:
        tensors = {}
        for name in file.keys():  # noqa: SIM118 - no mapping, and it has no iterator
            stored = file.get_slice(name).get_dtype()
            if stored.startswith(("F8", "F4", "F6", "C")):
                raise RefusedError(f"holds tensors of the type {stored}, which is not read")
            tensors[name] = file.get_tensor(name)
    return tensors, []


def _line(error: Exception) -> str:
    """An error's message on one line of printable characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:400]
