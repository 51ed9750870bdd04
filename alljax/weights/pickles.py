"""Pickles of tensors, read without running their code.

A pickle is a program that can call any function of any module.  Here a name outside of `ALLOWED` is never imported:
it becomes a placeholder that accepts everything and does nothing.

Source of the layouts: ``torch/serialization.py`` and ``torch/_utils.py`` of PyTorch 2.13,
``numpy/_core/src/multiarray/methods.c`` of NumPy 2.4.
"""

import functools
import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import IO, Any

import ml_dtypes  # noqa: F401 - adds the type bfloat16 to NumPy
import numpy as np

from alljax.data.archive import read_member
from alljax.errors import WeightsError, first_few
from alljax.files import check_size

Arrays = dict[str, np.ndarray]


class Call:
    """A function that a pickle may call.  It has slots and refuses a state, so a pickle cannot change it."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __call__(self, *arguments: object) -> object:  # noqa: D102
        return self.function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("the pickle changes a function")


class Opaque(dict):
    """Placeholder for an object of an unknown class; it keeps the items of a dictionary and ignores all else."""

    __slots__ = ()
    __hash__ = object.__hash__  # type: ignore[assignment] # may be a key

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass

    def append(self, *items: object) -> None:
        """Ignores items of unknown lists and sets."""

    extend = add = append


class NumpyObject:
    """A NumPy dtype or array, whose constructor a pickle calls before it gives the state."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _numbers(content: Any, dtype: Any, shape: Any, order: Any) -> object:
    """Returns an array, or `Opaque` if it does not contain numbers; NumPy itself would trust the flags of a dtype."""
    code = dtype.arguments[0]
    if not re.fullmatch(r"[iu][1248]|f[248]|b1|bfloat16", str(code)):
        return Opaque()
    content = content.encode("latin-1") if isinstance(content, str) else content  # from Python 2
    return np.frombuffer(content, np.dtype(code).newbyteorder(dtype.state[1])).reshape(shape, order=order)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> object:
    """Returns a view of a storage; NumPy refuses one that is not inside of it.  Offset and stride count elements."""
    if not isinstance(storage, np.ndarray):  # of an unknown type
        return storage
    size = storage.itemsize
    strides = [step * size for step in stride]
    return np.ndarray(shape, storage.dtype, storage.view(np.uint8), offset * size, strides)


STORAGES = {"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Bool": "bool"}
STORAGES |= {"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"}

ALLOWED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): Call(OrderedDict),
    ("torch._utils", "_rebuild_tensor"): Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Call(_tensor),
    ("torch._utils", "_rebuild_parameter"): Call(lambda tensor, *rest: tensor),
    ("torch._utils", "_rebuild_parameter_with_state"): Call(lambda tensor, *rest: tensor),
    ("torch", "Size"): Call(tuple),
    ("torch.storage", "UntypedStorage"): "uint8",
    # Text, which a pickle cannot change.
    **{("torch", f"{kind}Storage"): dtype for kind, dtype in STORAGES.items()},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): Call(NumpyObject),
    ("ml_dtypes", "bfloat16"): "bfloat16",
    ("_codecs", "encode"): Call(lambda text, encoding: text.encode("latin-1")),
    **{(module, "bytes"): Call(lambda: b"") for module in ("__builtin__", "builtins")},  # in protocol 2
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Call(NumpyObject) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Call(_numbers) for core in ("core", "_core")},
}


class Unpickler(pickle.Unpickler):
    """Reads tensors and plain values; every other global becomes `Opaque` and is never imported."""

    def __init__(self, file: IO[bytes], storage: Callable[[str, np.dtype, int], Any] = Opaque) -> None:
        super().__init__(file, encoding="latin-1")
        self._storage = storage
        self._unknown: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        """Returns an allowed function, or the placeholder."""
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        self._unknown.append(ascii(f"{module}.{name}")[1:-1][:100])
        return Opaque

    def persistent_load(self, identity: Any) -> Any:
        """Returns the storage that a PyTorch pickle refers to; views of storages are of PyTorch before 0.4."""
        if len(identity) < 5:  # the class of a pickled module, with its source code
            return identity[1]
        _, dtype, key, _, count, *view = identity
        supported = dtype in STORAGES.values() and not any(view)
        return self._storage(key, np.dtype(dtype), count) if supported else Opaque()

    def arrays(self) -> Arrays:
        """Returns the arrays in the pickle by their path through its dictionaries and lists."""
        arrays = dict(_arrays(self.load()))
        if not arrays:
            unknown = f", only objects of {first_few(self._unknown)}" if self._unknown else ""
            raise WeightsError(
                f"has no tensors by name{unknown}; if you trust it, load it with its library and write "
                "torch.save(model.state_dict(), FILE)"
            )
        return arrays


def _arrays(value: object, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, NumpyObject) and len(value.state) == 5:  # an array; a dtype has a longer state
        _, shape, dtype, fortran, content = value.state
        value = _numbers(content, dtype, shape, "F" if fortran else "C")
    if isinstance(value, np.ndarray):
        yield path.removesuffix("/"), value
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    for name, item in value.items() if isinstance(value, dict) else ():
        if not str(name).startswith("opt"):  # an optimizer's moments have the names of the weights
            yield from _arrays(item, f"{path}{name}/")


def read_zip(archive: zipfile.ZipFile, pickled: str) -> Arrays:
    """Reads PyTorch's zip container: a pickle, and a file of numbers per storage."""

    @functools.cache  # tensors may share a storage
    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        return np.frombuffer(read_member(archive, f"{pickled.removesuffix('data.pkl')}data/{key}"), dtype)

    return Unpickler(io.BytesIO(read_member(archive, pickled)), storage).arrays()


def read_legacy(file: IO[bytes]) -> Arrays:
    """Reads PyTorch's legacy container: four pickles, the keys of the storages, then the numbers of each."""
    for _ in range(3):  # magic number, protocol, system
        Unpickler(file).load()
    stored: dict[str, np.ndarray] = {}

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        check_size(f"tensor {key}", count * dtype.itemsize)
        return stored.setdefault(key, np.empty(count, dtype))

    arrays = Unpickler(file, storage).arrays()
    for key in Unpickler(file).load():
        file.read(8)  # the number of elements
        if file.readinto(stored[key].view(np.uint8)) < stored[key].nbytes:  # type: ignore[attr-defined]
            raise EOFError("the file ends inside of a tensor")
    return arrays
