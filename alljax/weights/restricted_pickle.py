"""A pickle machine that builds plain values and what its caller lists, and nothing else.

A pickle is a small program: it names functions of any module and calls them.
Python's own `pickle.Unpickler` can be told which names to allow, but it still
sets attributes, trusts a registry of extension codes and allots what a file
claims.  Here the parsing is the standard library's (`pickletools.genops`) and
the machine is ours: numbers, text, bytes, tuples, lists and dictionaries are
built as such; a global name is looked up in the caller's table and never
imported; only a `Call` of that table is ever called.

Opcodes: https://docs.python.org/3/library/pickletools.html and PEP 307, 3154, 574.
"""

import io
import mmap
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class RefusedError(Exception):
    """What a weight file may not hold; readers put the file's name in front of it."""


@dataclass(frozen=True)
class Call:
    """A function that a pickle may call with the arguments it carries."""

    function: Callable[..., object]


@dataclass(frozen=True)
class Forbidden:
    """A name that is known but not read, with the reason for the person."""

    reason: str


class Buildable:
    """A value that takes its state in a second step (the pickle operation BUILD)."""

    def build(self, state: object) -> None:
        """Takes `state` as the pickle gives it; checks it."""
        raise NotImplementedError


Stream = io.BytesIO | mmap.mmap
"""What a pickle is read from; neither ever gives, or allots, more bytes than it has."""


def load(stream: Stream, allowed: Mapping[str, object], persistent: Callable[[object], object] | None = None) -> object:
    """Runs the pickle at the stream's position and leaves the stream right behind it.

    Args:
        stream: where to read, from its present position.
        allowed: ``"module.name"`` to a `Call`, a `Forbidden` or a value that stands for the name.
        persistent: gives the value of a persistent id; None refuses them.

    Raises:
        RefusedError: the pickle asks for something that is not in `allowed`.
        Exception: of almost any kind, where the bytes are no sound pickle; the caller says "damaged".
    """
    machine = _Machine(allowed, persistent)
    for operation, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type] # an mmap reads like a file
        machine.step(operation.name, argument)
    if len(machine.stack) != 1:
        raise ValueError("the pickle ends with values left over")
    return machine.stack[0]


def ordered(pairs: Iterable[tuple[object, object]] = ()) -> OrderedDict[object, object]:
    """An `OrderedDict` as a pickle makes one: empty, or of pairs."""
    result: OrderedDict[object, object] = OrderedDict()
    for key, value in pairs:
        _put(result, key, value)
    return result


def encode(text: str, encoding: str = "") -> bytes:
    """`_codecs.encode`, by which protocol 2 writes bytes; no codec but Latin-1.

    Raises:
        RefusedError: another encoding.
    """
    if encoding not in ("latin1", "latin-1"):
        # What a pickle builds is not turned into text unless it is text: it can be larger than any memory.
        codec = repr(encoding[:40]) if isinstance(encoding, str) else type(encoding).__name__
        raise RefusedError(f"its pickle asks for the codec {codec}; only latin1 is read")
    return text.encode("latin-1")


_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack, the marks on it and the memo of one running pickle."""

    def __init__(self, allowed: Mapping[str, object], persistent: Callable[[object], object] | None) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._allowed = allowed
        self._persistent = persistent

    def step(self, operation: str, argument: Any) -> None:
        """Carries out one operation."""
        if operation in _VALUES:
            self.stack.append(argument)
        elif operation in _CONSTANTS:
            self.stack.append(_CONSTANTS[operation])
        elif operation in _TUPLES:
            self.stack.append(tuple(self._take(_TUPLES[operation])))
        elif not self._collect(operation) and not self._remember(operation, argument):
            self._make(operation, argument)

    def _collect(self, operation: str) -> bool:
        """Marks, lists, tuples and dictionaries."""
        match operation:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self._marks.append(len(self.stack))
            case "TUPLE":
                self.stack.append(tuple(self._since_mark()))
            case "LIST":
                self.stack.append(self._since_mark())
            case "EMPTY_LIST":
                self.stack.append([])
            case "DICT":
                self.stack.append(dict(ordered(_pairs(self._since_mark()))))
            case "EMPTY_DICT":
                self.stack.append({})
            case "APPEND":
                self._extend(self._take(1))
            case "APPENDS":
                self._extend(self._since_mark())
            case "SETITEM":
                self._set(self._take(2))
            case "SETITEMS":
                self._set(self._since_mark())
            case _:
                return False
        return True

    def _remember(self, operation: str, argument: Any) -> bool:
        """The memo, and what else moves values about."""
        match operation:
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self.stack.append(self._memo[argument])
            case "DUP":
                self.stack.append(self.stack[-1])
            case "POP":
                self._take(1)
            case "POP_MARK":
                self._since_mark()
            case _:
                return False
        return True

    def _make(self, operation: str, argument: Any) -> None:
        """Names, calls and states: all that could run code, and therefore all that is checked."""
        match operation:
            case "GLOBAL":
                self.stack.append(self._named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                self.stack.append(self._named(*self._take(2)))
            case "REDUCE" | "NEWOBJ":
                function, arguments = self._take(2)
                self.stack.append(_call(function, arguments))
            case "BUILD":
                (state,) = self._take(1)
                self._build(state)
            case "BINPERSID" if self._persistent is not None:
                self.stack.append(self._persistent(*self._take(1)))
            case "INST":
                self._named(*argument.split(" ", 1))
                raise RefusedError("its pickle makes an object of a class, which no weight file needs")
            case _:
                raise RefusedError(f"its pickle uses the operation {operation}, which no weight file needs")

    def _named(self, module: object, name: object) -> object:
        full = f"{module}.{name}"[:120] if isinstance(module, str) and isinstance(name, str) else "no name"
        found = self._allowed.get(full, Forbidden(""))
        if not isinstance(found, Forbidden):
            return found
        if found.reason:
            raise RefusedError(f"{found.reason} ({full})")
        raise RefusedError(
            f"its pickle asks for {full!r}, which no weight file needs; nothing of it was run. If you trust "
            "its maker, open it there and save the tensors alone (torch.save(model.state_dict(), FILE))"
        )

    def _build(self, state: object) -> None:
        target = self.stack[-1]
        if isinstance(target, Buildable):
            target.build(state)
        elif type(target) is not OrderedDict:
            raise RefusedError("its pickle sets attributes of an object, which no weight file needs")
        # The attributes of an OrderedDict (a state dict's _metadata) tell nothing about the tensors.

    def _take(self, count: int) -> list[Any]:
        """The top `count` values, taken off the stack."""
        start = len(self.stack) - count
        if start < (self._marks[-1] if self._marks else 0):
            raise ValueError("the pickle takes a value that is not there")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("the pickle appends to what is no list")
        self.stack[-1].extend(values)

    def _set(self, values: list[Any]) -> None:
        if type(self.stack[-1]) not in (dict, OrderedDict):
            raise ValueError("the pickle sets an item of what is no dictionary")
        for key, value in _pairs(values):
            _put(self.stack[-1], key, value)


def _call(function: object, arguments: object) -> object:
    if not isinstance(function, Call):
        raise RefusedError("its pickle calls something that is no function of tensors")
    if type(arguments) is not tuple:
        raise ValueError("the pickle calls without arguments")
    return function.function(*arguments)


def _pairs(values: list[Any]) -> Iterable[tuple[object, object]]:
    return zip(values[::2], values[1::2], strict=True)


def _put(mapping: dict[Any, Any], key: object, value: object) -> None:
    # Plain keys only: hashing a tuple nested a million deep would bring the interpreter down.
    if not isinstance(key, str | int | float | bytes | None):
        raise RefusedError(f"a dictionary of its pickle has a key that is a {type(key).__name__}")
    mapping[key] = value
