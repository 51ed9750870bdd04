"""Weight files put together by hand, for what the real libraries do not write (any more)."""

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class Name:
    """A global by name; nothing is imported to write it."""

    full: str

    def __call__(self) -> None:
        raise AssertionError("only its name is wanted")


@dataclass(eq=False)
class Made:
    """The result of a call, and the state it is given; `new` writes NEWOBJ in place of REDUCE."""

    function: Name
    arguments: tuple[Any, ...]
    state: Any = None
    new: bool = False


@dataclass(eq=False)
class Persistent:
    """A value that is referred to by a persistent id."""

    identity: Any


class Assembler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """The pure-Python pickler, writing `Name`, `Made` and `Persistent` as they say."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def persistent_id(self, value: object) -> Any:
        return value.identity if isinstance(value, Persistent) else None

    def _name(self, value: Name) -> None:
        module, _, name = value.full.rpartition(".")
        self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
        self.memoize(value)

    def _made(self, value: Made) -> None:
        if not value.new:
            self.save_reduce(value.function, value.arguments, value.state, obj=value)
            return
        self.save(value.function)
        self.save(value.arguments)
        self.write(pickle.NEWOBJ)
        self.memoize(value)
        if value.state is not None:
            self.save(value.state)
            self.write(pickle.BUILD)

    dispatch[Name] = _name
    dispatch[Made] = _made


def dumps(value: object, protocol: int = 2) -> bytes:
    content = io.BytesIO()
    Assembler(content, protocol).dump(value)
    return content.getvalue()


def storage(key: str = "0", count: int = 6, kind: str = "torch.FloatStorage", legacy: bool = False) -> Persistent:
    identity = ("storage", Name(kind), key, "cpu", count)
    return Persistent((*identity, None) if legacy else identity)


def tensor(
    source: Any, offset: Any = 0, shape: Any = (2, 3), stride: Any = (3, 1), *others: Any, version: str = "_v2"
) -> Made:
    more = () if version == "" else (False, Made(Name("collections.OrderedDict"), ()), *others)
    return Made(Name(f"torch._utils._rebuild_tensor{version}"), (source, offset, shape, stride, *more))


@dataclass
class Zip:
    """The zip container of a pickle and raw storages."""

    pickled: bytes
    storages: dict[str, bytes] = field(default_factory=dict)
    byteorder: bytes = b"little"
    compression: int = zipfile.ZIP_STORED

    def write(self, path: Path) -> Path:
        with zipfile.ZipFile(path, "w", self.compression) as archive:
            archive.writestr("model/data.pkl", self.pickled)
            archive.writestr("model/byteorder", self.byteorder)
            for key, content in self.storages.items():
                archive.writestr(f"model/data/{key}", content)
            archive.writestr("model/version", "3\n")
        return path


def write_legacy(path: Path, pickled: bytes, storages: dict[str, tuple[int, bytes]]) -> Path:
    """The legacy container; a storage is its count of numbers and its bytes."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(value, 2) for value in (MAGIC, 1001, system)]
    keys = pickle.dumps(list(storages), 2)
    body = [count.to_bytes(8, "little", signed=True) + content for count, content in storages.values()]
    path.write_bytes(b"".join([*head, pickled, keys, *body]))
    return path


def write_zip(path: Path, pickled: bytes) -> Path:
    return Zip(pickled).write(path)


def write_bare(path: Path, pickled: bytes) -> Path:
    path.write_bytes(pickled)
    return path


CONTAINERS: dict[str, Callable[[Path, bytes], Path]] = {
    "zip": write_zip,
    "legacy": lambda path, pickled: write_legacy(path, pickled, {}),
    "bare pickle": write_bare,
}
