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
        self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
        self.memoize(value)

    def _made(self, value: Made) -> None:
        self.save_reduce(value.function, value.arguments, value.state, obj=value)

    dispatch[Name] = _name
    dispatch[Made] = _made


def dumps(value: object, protocol: int = 2) -> bytes:
    content = io.BytesIO()
    Assembler(content, protocol).dump(value)
    return content.getvalue()


def storage(key: str, count: int, kind: str = "torch.FloatStorage") -> Persistent:
    return Persistent(("storage", Name(kind), key, "cpu", count, None))


def tensor(storage: Any, offset: Any = 0, shape: Any = (2, 3), stride: Any = (3, 1)) -> Made:
    hooks = Made(Name("collections.OrderedDict"))
    return Made(Name("torch._utils._rebuild_tensor_v2"), (storage, offset, shape, stride, False, hooks))


def write_zip(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
        for key, content in (storages or {}).items():
            archive.writestr(f"model/data/{key}", content)
    return path


def write_legacy(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """All storages are float32."""
    storages = storages or {}
    head = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True})]
    body = [(len(content) // 4).to_bytes(8, "little") + content for content in storages.values()]
    path.write_bytes(b"".join([*head, pickled, pickle.dumps(list(storages), 2), *body]))
    return path


def write_bare(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    path.write_bytes(pickled)
    return path


CONTAINERS: dict[str, Callable[[Path, bytes], Path]] = {"zip": write_zip, "legacy": write_legacy, "bare": write_bare}


def write(path: Path, container: str, content: Callable[[Callable[[np.ndarray], Any]], object]) -> Path:
    """Writes a pickle with arrays in a container.

    Args:
        path: the file.
        container: a key of `CONTAINERS`.
        content: makes the pickled object; it is given a function that wraps each array as the container needs.
    """
    storages: dict[str, bytes] = {}

    def wrap(array: np.ndarray) -> Any:
        if container == "bare":
            return array
        key = str(len(storages))
        storages[key] = np.ascontiguousarray(array, "<f4").tobytes()
        strides = tuple(step // 4 for step in np.ascontiguousarray(array, "<f4").strides)
        return tensor(storage(key, array.size), 0, array.shape, strides)

    pickled = dumps(content(wrap), 2)
    return {"zip": write_zip, "legacy": write_legacy, "bare": write_bare}[container](path, pickled, storages)
