"""Pickled NumPy arrays in dictionaries and lists, and nothing else.

NumPy writes an array as ``_reconstruct(ndarray, (0,), b'b')`` followed by its state
(version, shape, dtype, Fortran order, bytes), or with protocol 5 as
``_frombuffer(bytes, dtype, shape, order)``; a dtype as ``dtype('f4', False, True)``
followed by a state with its byte order.

Source: `numpy/_core/src/multiarray/methods.c` and `numpy/_core/numeric.py` of NumPy 2.4.
"""

import math
import mmap
import re
from collections.abc import Iterator

import ml_dtypes
import numpy as np

from alljax.weights import restricted_pickle
from alljax.weights.restricted_pickle import Buildable, Call, RefusedError
from alljax.weights.torch_pickle import extents

_NDARRAY = object()
_BFLOAT16 = object()


class _Type(Buildable):
    """A NumPy type under construction."""

    def __init__(self, code: object, *others: object) -> None:
        if code is _BFLOAT16:
            self.dtype = np.dtype(ml_dtypes.bfloat16)
        elif isinstance(code, str) and re.fullmatch(r"[<>=|]?([iu][1248]|f[248]|b1)", code):
            self.dtype = np.dtype(code)
        else:
            # Never turned into text unless it is text: what a pickle builds can be larger than any memory.
            name = code[:20] if isinstance(code, str) else type(code).__name__
            what = "Python objects" if name.strip("<>=|").startswith("O") else f"the type {name}"
            raise RefusedError(f"holds an array of {what}; only arrays of numbers are read")

    def build(self, state: object) -> None:
        # (version, byte order, subtype, field names, fields, size, alignment, flags)
        if type(state) is not tuple or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise RefusedError("holds an array of records; only arrays of numbers are read")
        if state[1] in ("<", ">") and self.dtype.byteorder != "|" and self.dtype.kind in "fiu":
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(Buildable):
    """A NumPy array under construction."""

    def __init__(self, subtype: object = _NDARRAY, *others: object) -> None:
        if subtype is not _NDARRAY:
            raise RefusedError("holds a subclass of a NumPy array; only plain arrays are read")
        self.array: np.ndarray | None = None

    def build(self, state: object) -> None:
        if type(state) is not tuple or len(state) != 5:
            raise ValueError("an array's state is not its version, shape, type, order and bytes")
        _, shape, kind, fortran, content = state
        self.array = _array(content, kind, shape, "F" if fortran else "C")


def _array(content: object, kind: object, shape: object, order: object) -> np.ndarray:
    """An array on the bytes of the pickle, without another copy, in the machine's byte order."""
    if isinstance(content, str):
        content = content.encode("latin-1")  # as Python 2 wrote bytes
    if not isinstance(content, bytes | bytearray) or not isinstance(kind, _Type):
        raise RefusedError("holds an array of Python objects; only arrays of numbers are read")
    if not extents(shape) or order not in ("C", "F"):
        raise ValueError("an array has an impossible shape")
    if math.prod(shape) * kind.dtype.itemsize != len(content):
        raise ValueError(f"an array of shape {shape!s:.80} comes with {len(content)} bytes")
    flat = np.frombuffer(content, kind.dtype) if content else np.empty(0, kind.dtype)
    if not flat.dtype.isnative:
        flat = flat.astype(flat.dtype.newbyteorder("="))
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _frombuffer(content: object, kind: object, shape: object, order: object, *others: object) -> _Array:
    array = _Array()
    array.array = _array(content, kind, shape, order)
    return array


_ALLOWED = {
    "collections.OrderedDict": Call(restricted_pickle.ordered),
    "_codecs.encode": Call(restricted_pickle.encode),
    # How protocol 2 writes an empty bytes object.
    "__builtin__.bytes": Call(lambda: b""),
    "builtins.bytes": Call(lambda: b""),
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": Call(_Type),
    "ml_dtypes.bfloat16": _BFLOAT16,
    # numpy.core until NumPy 1.26, numpy._core since.
    **{f"numpy.{core}.multiarray._reconstruct": Call(_Array) for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": Call(_frombuffer) for core in ("core", "_core")},
}
_DEPTH = 32


def read(data: mmap.mmap) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads a pickle of arrays.

    Args:
        data: the whole file.

    Returns:
        Arrays by the keys of their dictionaries, and the indices in their lists, joined with
        ``/``; a note where entries that are no arrays were left out.

    Raises:
        RefusedError: it asks for anything but arrays.
        Exception: of almost any kind, where the file is damaged.
    """
    data.seek(0)
    loaded = restricted_pickle.load(data, _ALLOWED)
    tensors = {}
    left = []
    for name, leaf in _leaves(loaded, "", set(), _DEPTH):
        if isinstance(leaf, _Array) and leaf.array is not None:
            tensors[name] = leaf.array
        else:
            left.append(repr(name)[:40])
    if tensors and left:
        return tensors, [f"entries that are no arrays were left out: {', '.join(left[:8])}"]
    return tensors, []


def _leaves(value: object, name: str, seen: set[int], depth: int) -> Iterator[tuple[str, object]]:
    """All that is no dictionary and no list, with its path; none of them may be met twice."""
    if not isinstance(value, dict | list | tuple):
        yield name, value
        return
    # A dictionary inside itself, or thirty each holding the next one twice, would never end.
    if value and (id(value) in seen or not depth):
        raise RefusedError("its dictionaries hold one another; only a tree of arrays is read")
    seen.add(id(value))
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield from _leaves(inner, f"{name}/{key}" if name else str(key), seen, depth - 1)
