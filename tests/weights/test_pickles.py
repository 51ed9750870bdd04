"""No pickle runs code: every attack leaves no canary, in every container."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alljax.errors import WeightsError
from alljax.weights.conversion import read_weights
from alljax.weights.pickles import FUNCTIONS, STORAGES

SIX = np.arange(6, dtype="<f4").reshape(2, 3)
Storages = dict[str, bytes]

# Pickles and PyTorch containers assembled by hand, for content that PyTorch itself does not write


def encode(value: Any) -> bytes:
    """The opcodes of a value; bytes are opcodes already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return b"(" + b"".join(encode(part) for item in value.items() for part in item) + b"d"
    if isinstance(value, list | tuple):
        return b"(" + b"".join(map(encode, value)) + (b"l" if isinstance(value, list) else b"t")
    return pickle.dumps(value, 2)[2:-1]


def dumps(value: Any) -> bytes:
    return b"\x80\x02" + encode(value) + b"."


def name(full: str) -> bytes:
    module, _, last = full.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def made(function: str, *arguments: Any, state: Any = None) -> bytes:
    """The result of a call, with a state."""
    return name(function) + encode(arguments) + b"R" + (b"" if state is None else encode(state) + b"b")


def persistent(*identity: Any) -> bytes:
    return encode(identity) + b"Q"


def storage(key: str, count: int, kind: str = "torch.FloatStorage") -> bytes:
    return persistent("storage", name(kind), key, "cpu", count, None)


def tensor(storage: bytes, offset: Any = 0, shape: Any = (2, 3), stride: Any = (3, 1)) -> bytes:
    hooks = made("collections.OrderedDict")
    return made("torch._utils._rebuild_tensor_v2", storage, offset, shape, stride, False, hooks)


def _zip(pickled: bytes, storages: Storages) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
        for key, numbers in storages.items():
            archive.writestr(f"model/data/{key}", numbers)
    return content.getvalue()


def _legacy(pickled: bytes, storages: Storages) -> bytes:
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
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


# Attacks


class Calls:
    """Its pickle calls a function when `pickle.load` reads it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


class SetsState:
    """Its pickle calls `__setstate__` when `pickle.load` reads it."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["path"]).touch()


VIEW = (storage("0", 6), 0, (6,), (1,))
OBJECTS = made("numpy.dtype", "O8", False, True)


def attacks(canary: Path) -> dict[str, bytes]:
    """Pickles that would create `canary`."""
    touch, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    call = made("os.system", touch)
    loop = (
        b"\x80\x02cbuiltins\ngetattr\n(cos\n__dict__\nX\x03\x00\x00\x00gettRcposix\nsystem\n(S'"
        + touch.encode()
        + b"'\ntR."
    )
    return {
        "os.system": pickle.dumps({"a": Calls(os.system, touch)}, 2),
        "eval": pickle.dumps({"a": Calls(eval, code)}, 4),
        "exec": pickle.dumps([Calls(exec, code)], 5),
        "setstate": pickle.dumps(SetsState(str(canary)), 2),
        "setstate 4": pickle.dumps({"a": SetsState(str(canary))}, 4),
        "old instance": f"\x80\x02(S'{touch}'\nios\nsystem\n.".encode("latin-1"),
        "old object": f"\x80\x02(cos\nsystem\nS'{touch}'\no.".encode("latin-1"),
        "attribute": loop,
        "name with dots": dumps({"a": made("torch.os.system", touch)}),
        "state of a dictionary": dumps(made("collections.OrderedDict", state=call)),
        "state of a tensor": dumps(
            {"a": made("torch._utils._rebuild_tensor", *VIEW, state=(1, (1,), OBJECTS, False, [call]))}
        ),
        "persistent id": dumps({"a": persistent("storage", call, "0", "cpu", 1)}),
        "storage of a tensor": dumps({"a": tensor(call)}),
        "rebuilt from a function": dumps({"a": made("torch._utils._rebuild_parameter", call, False, {})}),
        "numpy object array": pickle.dumps({"a": np.array([Calls(os.system, touch)])}, 4),
        "numpy.load": dumps({"a": made("numpy.load", str(canary), None, True)}),
    }


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", attacks(Path("canary")))
def test_no_code_runs(kind: str, container: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(WeightsError):
        read_weights(write(tmp_path / "F.pth", container, attacks(canary)[kind], {"0": SIX.tobytes()}))
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["os.system", "eval", "exec", "setstate", "setstate 4", "old instance", "old object"])
def test_attacks_work_in_plain_pickle(kind: str, tmp_path: Path) -> None:
    pickle.loads(attacks(tmp_path / "canary")[kind])
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_tensors_beside_an_attack_are_read(container: str, tmp_path: Path) -> None:
    call = made("os.system", f"touch {tmp_path / 'canary'}", state={"state": 1})
    pickled = dumps({"a": tensor(storage("0", 6)), "called": call, "again": made("posix.system", call)})
    path = write(tmp_path / "F", container, pickled, {"0": SIX.tobytes()})
    assert read_weights(path).keys() == {"a"}
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("state", [{"function": print, "x": 1}, (None, {"function": len, "__new__": len})])
def test_state_cannot_change_a_function(state: Any, tmp_path: Path) -> None:
    """BUILD on a global, which would set its attributes for the whole process."""
    for function in [*FUNCTIONS, *STORAGES, "collections.OrderedDict", "unknown.function"]:
        attack = dumps(name(function) + encode(state) + b"b")
        with pytest.raises(WeightsError):
            read_weights(write(tmp_path / "F.pth", "zip", attack))
    pickled = dumps({"a": tensor(storage("0", 6))})
    good = write(tmp_path / "G.pth", "zip", pickled, {"0": SIX.tobytes()})
    assert np.array_equal(read_weights(good)["a"], SIX)


@pytest.mark.parametrize(
    "view",
    [
        tensor(storage("0", 6), 1),
        tensor(storage("0", 6), 5, (2, 3), (-4, -1)),
        tensor(storage("0", 6), -1),
        tensor(storage("0", 6), 0, (2, 3), (2**61, 1)),
        tensor(storage("9", 6)),
    ],
)
def test_tensor_outside_its_storage(view: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "F.pth", "zip", dumps({"a": view}), {"0": SIX.tobytes()})
    with pytest.raises(WeightsError, match="damaged or incomplete"):
        read_weights(path)
