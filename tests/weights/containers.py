"""Pickles and PyTorch containers assembled by hand, for content that PyTorch itself does not write."""

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
Storages = dict[str, bytes]


@dataclass(frozen=True)
class Name:
    """A global; nothing is imported to write it."""

    full: str

    def __call__(self) -> None:
        raise AssertionError("only its name is needed")


@dataclass(eq=False)
class Made:
    """The result of a call, with a state."""

    function: Name
    arguments: tuple[Any, ...] = ()
    state: Any = None


@dataclass(eq=False)
class Persistent:
    """A value behind a persistent id."""

    identity: Any


class Assembler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """A pickler for `Name`, `Made` and `Persistent`."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def persistent_id(self, value: object) -> Any:
        return value.identity if isinstance(value, Persistent) else None

    def _name(self, value: Name) -> None:
        module, _, name = value.full.rpartition(".")
        self.write(f"c{module}\n{name}\n".encode())
        self.memoize(value)

    def _made(self, value: Made) -> None:
        self.save_reduce(value.function, value.arguments, value.state, obj=value)

    dispatch[Name] = _name
    dispatch[Made] = _made


def dumps(value: object) -> bytes:
    content = io.BytesIO()
    Assembler(content, 2).dump(value)
    return content.getvalue()


def storage(key: str, count: int, kind: str = "torch.FloatStorage") -> Persistent:
    return Persistent(("storage", Name(kind), key, "cpu", count, None))


def tensor(storage: Any, offset: Any = 0, shape: Any = (2, 3), stride: Any = (3, 1)) -> Made:
    hooks = Made(Name("collections.OrderedDict"))
    return Made(Name("torch._utils._rebuild_tensor_v2"), (storage, offset, shape, stride, False, hooks))


def _zip(pickled: bytes, storages: Storages) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
        for key, numbers in storages.items():
            archive.writestr(f"model/data/{key}", numbers)
    return content.getvalue()


def _legacy(pickled: bytes, storages: Storages) -> bytes:
    head = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True})]
    body = [(len(numbers) // 4).to_bytes(8, "little") + numbers for numbers in storages.values()]
    return b"".join([*head, pickled, pickle.dumps(list(storages), 2), *body])


CONTAINERS: dict[str, Callable[[bytes, Storages], bytes]] = {
    "zip": _zip,
    "legacy": _legacy,
    "bare": lambda pickled, storages: pickled,
}


def write(path: Path, container: str, pickled: bytes, storages: Storages | None = None) -> Path:
    """Writes a pickle and its float32 storages in a container of `CONTAINERS`."""
    path.write_bytes(CONTAINERS[container](pickled, storages or {}))
    return path


def write_arrays(path: Path, container: str, content: Callable[[Callable[[np.ndarray], Any]], object]) -> Path:
    """Writes what `content` returns; its argument is a function that makes the tensor of an array."""
    storages: Storages = {}

    def wrap(array: np.ndarray) -> Any:
        if container == "bare":
            return array
        key, numbers = str(len(storages)), np.ascontiguousarray(array, "<f4")
        storages[key] = numbers.tobytes()
        return tensor(storage(key, array.size), 0, array.shape, tuple(step // 4 for step in numbers.strides))

    return write(path, container, dumps(content(wrap)), storages)
