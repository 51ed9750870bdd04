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
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, ClassVar

import ml_dtypes  # noqa: F401 - adds the type bfloat16 to NumPy
import numpy as np
from absl import logging

from alljax.errors import first_few, plural

Arrays = dict[str, np.ndarray]

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""First pickle of PyTorch's legacy container."""


class FormatError(Exception):
    """An unsupported file: the reason and what to do."""


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
    """Placeholder for an object of an unknown class: it accepts arguments, state, items and calls and does nothing.

    As a subclass of dict it keeps the items of unknown dictionary classes.
    """

    __slots__ = ()
    __hash__ = object.__hash__  # type: ignore[assignment] # may be a key
    __eq__ = object.__eq__
    full_name: ClassVar[str] = "a tensor outside of the file"

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__()

    def __call__(self, *arguments: object, **options: object) -> "Opaque":  # noqa: D102
        return self

    def __setstate__(self, state: object) -> None:
        pass

    def append(self, *items: object) -> None:
        """Ignores items of unknown lists and sets."""

    extend = add = append


class NumpyType:
    """A NumPy dtype of numbers; the real constructors trust the flags of a pickled dtype."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *arguments: object) -> None:
        numbers = r"[<>=|]?([iu][1248]|f[248]|b1)|bfloat16"
        self.dtype = np.dtype(code) if isinstance(code, str) and re.fullmatch(numbers, code) else None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if self.dtype is not None and state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class NumpyArray:
    """A NumPy array under construction; without a value if it does not contain numbers."""

    __slots__ = ("value",)

    def __init__(self, *arguments: object) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _from_buffer(content, dtype, shape, "F" if fortran else "C")


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray | None:
    if not isinstance(dtype, NumpyType) or dtype.dtype is None:
        return None
    content = content.encode("latin-1") if isinstance(content, str) else content  # from Python 2
    flat = np.frombuffer(content, dtype.dtype)
    return flat.astype(flat.dtype.newbyteorder("=")).reshape(shape, order=order)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> object:
    """Returns a view of a storage; NumPy refuses one that is not inside of it.  Offset and stride count elements."""
    if not isinstance(storage, np.ndarray):  # of an unknown type
        return storage
    size = storage.itemsize
    strides = [step * size for step in stride]
    return np.ndarray(shape, storage.dtype, storage.view(np.uint8), offset * size, strides)


def _typed_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> object:
    return _tensor(storage.view(TYPES[rest[2]]), offset, shape, stride)


STORAGES = {"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Bool": "bool"}
STORAGES |= {"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"}
TYPES = {name: np.dtype(name) for name in (*STORAGES.values(), "uint16", "uint32", "uint64")}
FIRST = Call(lambda data, *rest: data)

ALLOWED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): Call(OrderedDict),
    ("torch._utils", "_rebuild_tensor"): Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Call(_typed_tensor),
    ("torch._utils", "_rebuild_parameter"): FIRST,
    ("torch._utils", "_rebuild_parameter_with_state"): FIRST,
    ("torch", "Size"): Call(tuple),
    ("torch.storage", "UntypedStorage"): "uint8",
    # Text, which a pickle cannot change.
    **{("torch", f"{kind}Storage"): dtype for kind, dtype in STORAGES.items()},
    **{("torch", name): name for name in TYPES},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): Call(NumpyType),
    ("ml_dtypes", "bfloat16"): "bfloat16",
    ("_codecs", "encode"): Call(lambda text, encoding: text.encode("latin-1")),
    **{(module, "bytes"): Call(lambda: b"") for module in ("__builtin__", "builtins")},  # in protocol 2
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Call(NumpyArray) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Call(_from_buffer) for core in ("core", "_core")},
}


class Unpickler(pickle.Unpickler):
    """Reads tensors and plain values; every other global becomes a subclass of `Opaque` and is never imported."""

    def __init__(self, file: IO[bytes], storage: Callable[[str, np.dtype, int], Any] = Opaque) -> None:
        super().__init__(file, encoding="latin-1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Returns an allowed function, or a placeholder."""
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        return type("Opaque", (Opaque,), {"__slots__": (), "full_name": ascii(f"{module}.{name}")[1:-1][:100]})

    def persistent_load(self, identity: Any) -> Any:
        """Returns the storage that a PyTorch pickle refers to."""
        if len(identity) < 5:  # the class of a pickled module, with its source code
            return identity[1]
        _, dtype, key, _, count, *view = identity
        if not isinstance(dtype, str):  # an unknown type, which is named in the message
            return dtype()
        if any(view):
            raise FormatError("a tensor of PyTorch before 0.4; load it there and save it again")
        return self._storage(key, TYPES[dtype], count)


def load_zip(file: IO[bytes]) -> object:
    """Reads PyTorch's zip container: a pickle, and a file of numbers per storage."""
    with zipfile.ZipFile(file) as archive:
        root = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")

        @functools.cache  # tensors may share a storage
        def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            return np.frombuffer(archive.read(f"{root}data/{key}"), dtype)

        return Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), storage).load()


def load_legacy(file: IO[bytes]) -> object:
    """Reads PyTorch's legacy container: four pickles, the keys of the storages, then the numbers of each."""
    for _ in range(3):  # magic number, protocol, system
        Unpickler(file).load()
    stored: dict[str, np.ndarray] = {}
    loaded = Unpickler(file, lambda key, dtype, count: stored.setdefault(key, np.empty(count, dtype))).load()
    for key in Unpickler(file).load():
        if key not in stored:
            raise FormatError("has tensors of an unsupported type, for example complex or quantized ones")
        file.read(8)  # the number of elements
        if file.readinto(stored[key].view(np.uint8)) < stored[key].nbytes:  # type: ignore[attr-defined]
            raise EOFError("the file ends inside of a tensor")
    return loaded


def find_weights(loaded: object) -> Arrays:
    """Returns the largest mapping of names to arrays in a pickled object, outside of optimizer states.

    A state dict is one large mapping.  If there are more mappings than arrays in the largest one, they are the layers
    of a tree, and the complete tree is returned with joined names.
    """
    classes: set[str] = set()
    mappings = list(_mappings(loaded, "", classes))
    if not mappings:
        raise FormatError(
            f"has no tensors by name{f', only objects of {first_few(sorted(classes))}' if classes else ''}; if you "
            "trust it, load it with its library and write torch.save(model.state_dict(), FILE)"
        )
    path, largest = max(mappings, key=lambda mapping: sum(array.ndim > 0 for array in mapping[1].values()))
    if len(largest) > len(mappings):
        if path:
            logging.info(f"the weights are the {plural(len(largest), 'tensor')} in {path.rstrip('/')!r}")
        return largest
    return {f"{path}{name}": array for path, mapping in mappings for name, array in mapping.items()}


def _mappings(value: object, path: str, classes: set[str]) -> Iterator[tuple[str, Arrays]]:
    """Yields each dictionary that has arrays, with its path; adds the names of unknown classes to `classes`."""
    if isinstance(value, Opaque):
        classes.add(value.full_name)
    if not isinstance(value, dict | list | tuple):
        return
    items: Iterable[tuple[Any, Any]] = enumerate(value)
    if isinstance(value, dict):
        items = [(name, item) for name, item in value.items() if isinstance(name, str)]
        values = {name: item.value if isinstance(item, NumpyArray) else item for name, item in items}
        if arrays := {name: item for name, item in values.items() if isinstance(item, np.ndarray)}:
            yield path, arrays
    for name, item in items:
        if not str(name).startswith("opt"):  # an optimizer's moments have the names of the weights
            yield from _mappings(item, f"{path}{name}/", classes)
