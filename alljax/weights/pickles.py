"""Pickles of tensors, read without running their code.

Every name becomes a `Record`, which stores what the pickle does with it; tensors are made afterwards from the records
of known functions.  Source of the layouts: ``torch/serialization.py`` and ``torch/_utils.py`` of PyTorch 2.13,
``numpy/_core/src/multiarray/methods.c`` of NumPy 2.4.
"""

import functools
import io
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import ml_dtypes  # noqa: F401 - adds the type bfloat16 to NumPy
import numpy as np

from alljax.data.archive import read_member
from alljax.errors import WeightsError, first_few
from alljax.files import check_size

Arrays = dict[str, np.ndarray]


class Record(dict):
    """The call of a function or class by a pickle: arguments, state and the items of a dictionary."""

    __slots__ = ("arguments", "state")
    __hash__ = object.__hash__  # type: ignore[assignment] # may be a key
    name = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, *items: object) -> None:
        """Ignores items of unknown lists and sets."""

    extend = add = append


def _numbers(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray | None:
    """Returns an array, or None if it does not contain numbers; NumPy itself would trust the flags of a dtype."""
    code = dtype.arguments[0]
    code = str(getattr(code, "name", code)).removeprefix("ml_dtypes.")
    if not re.fullmatch(r"[iu][1248]|f[248]|b1|bfloat16", code):
        return None
    if isinstance(content, Record):  # protocol 2 has no bytes: they are bytes(), or a text that _codecs encodes
        content = "".join(content.arguments[:1])
    content = content.encode("latin-1") if isinstance(content, str) else content  # also from Python 2
    return np.frombuffer(content, np.dtype(code).newbyteorder(dtype.state[1])).reshape(shape, order=order)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> np.ndarray | None:
    """Returns a view of a storage; NumPy refuses one that is not inside of it.  Offset and stride count elements."""
    if not isinstance(storage, np.ndarray):  # of an unknown type
        return None
    size = storage.itemsize
    strides = [step * size for step in stride]
    return np.ndarray(shape, storage.dtype, storage.view(np.uint8), offset * size, strides)


STORAGES = {"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Bool": "bool"}
STORAGES |= {"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"}
STORAGES = {f"torch.{kind}Storage": dtype for kind, dtype in STORAGES.items()}
STORAGES["torch.storage.UntypedStorage"] = "uint8"

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *rest: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *rest: tensor,
    "numpy.core.numeric._frombuffer": _numbers,
    "numpy._core.numeric._frombuffer": _numbers,
}
# The start of names that also pickles of tensors contain.
PLAIN = ("collections.OrderedDict", "numpy.", "torch.Size", "torch._utils.", "_codecs.", *STORAGES)


class Unpickler(pickle.Unpickler):
    """Reads plain values and records; no global is imported."""

    def __init__(self, file: IO[bytes], storage: Callable[[str, np.dtype, int], Any] = Record) -> None:
        super().__init__(file, encoding="latin-1")
        self._storage = storage
        self._unknown: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        """Returns a new class of records with this name."""
        full = f"{module}.{name}"
        if not full.startswith(PLAIN):
            self._unknown.append(ascii(full)[1:-1][:100])
        return type("Record", (Record,), {"__slots__": (), "name": full})

    def persistent_load(self, identity: Any) -> Any:
        """Returns the storage that a PyTorch pickle refers to; views of storages are of PyTorch before 0.4."""
        if len(identity) < 5:  # the class of a pickled module, with its source code
            return identity[1]
        _, kind, key, _, count, *view = identity
        dtype = STORAGES.get(getattr(kind, "name", ""))
        return self._storage(key, np.dtype(dtype), count) if dtype and not any(view) else Record()

    def arrays(self) -> Arrays:
        """Returns the arrays in the pickle by their path through its dictionaries and lists."""
        arrays = dict(_arrays(self.load()))
        if not arrays:
            unknown = f", only objects of {first_few(self._unknown)}" if self._unknown else ""
            fix = "if you trust it, load it with its library and write torch.save(model.state_dict(), FILE)"
            raise WeightsError(f"has no tensors by name{unknown}; {fix}")
        return arrays


def _arrays(value: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    while isinstance(value, Record) and value.name in FUNCTIONS and not value.state:
        value = FUNCTIONS[value.name](*value.arguments)
    if isinstance(value, Record) and value.name.endswith("multiarray._reconstruct"):
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
