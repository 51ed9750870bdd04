"""What a pickle of PyTorch tensors may build: claims of tensors, and the state dict among them.

Nothing here looks at numbers: a storage is a key, a type and a count, a tensor a
view of one in offset, sizes and strides, all as the pickle claims them.
`alljax.weights.torch_files` checks the claims against the file.

Source of the names: `torch/_utils.py` and `torch/_weights_only_unpickler.py` of PyTorch 2.13.
"""

from dataclasses import dataclass
from typing import TypeGuard

import ml_dtypes
import numpy as np

from alljax.weights import restricted_pickle
from alljax.weights.restricted_pickle import Buildable, Call, Forbidden, RefusedError


@dataclass(frozen=True)
class Storage:
    """`count` numbers of one type, from number `start` on of the stored run of numbers called `key`."""

    key: str
    dtype: np.dtype
    count: int
    start: int = 0


@dataclass
class Tensor(Buildable):
    """A view of a storage; offset and strides count numbers, not bytes."""

    storage: object = None
    offset: object = 0
    shape: object = ()
    stride: object = ()
    dtype: object = None

    def build(self, state: object) -> None:
        """Takes storage and layout: before 0.2 a tensor was pickled as an empty object and these."""
        if type(state) is not tuple or len(state) != 4:
            raise ValueError("a tensor's state is not its storage, offset, size and stride")
        self.storage, self.offset, self.shape, self.stride = state


@dataclass
class _Parameter(Buildable):
    """A tensor that was trained; before 0.4 state dicts held these themselves."""

    data: object = None
    requires_grad: object = True

    def build(self, state: object) -> None:
        # (requires_grad, volatile, hooks), or in the first versions with the data in front.
        if type(state) is tuple and state and isinstance(state[0], Tensor):
            self.data = state[0]


def _rebuild(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> Tensor:
    if metadata:
        raise RefusedError("holds a tensor with a conjugate or negative flag, which is not read")
    return Tensor(storage, offset, size, stride)


def _rebuild_typed(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    dtype: object,
    metadata: object = None,
) -> Tensor:
    tensor = _rebuild(storage, offset, size, stride, requires_grad, hooks, metadata)
    tensor.dtype = dtype
    return tensor


def _rebuild_parameter(data: object, *others: object) -> object:
    return data


def size(sizes: object = ()) -> tuple[object, ...]:
    """`torch.Size`: a tuple of whatever the pickle claims to be extents."""
    if not isinstance(sizes, list | tuple):
        raise ValueError("a size that is no list")
    return tuple(sizes)


_NUMBERS = {
    "Float": ("float32", "float"),
    "Half": ("float16", "half"),
    "Double": ("float64", "double"),
    "Long": ("int64", "long"),
    "Int": ("int32", "int"),
    "Short": ("int16", "short"),
    "Char": ("int8",),
    "Byte": ("uint8",),
    "Bool": ("bool",),
    "BFloat16": ("bfloat16",),
}
_NOT_READ = {
    "quantized": (
        "torch.QInt8Storage",
        "torch.QUInt8Storage",
        "torch.QInt32Storage",
        "torch.QUInt4x2Storage",
        "torch.QUInt2x4Storage",
        "torch._utils._rebuild_qtensor",
    ),
    "complex": ("torch.ComplexFloatStorage", "torch.ComplexDoubleStorage"),
    "sparse": ("torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_sparse_csr_tensor"),
    "nested": ("torch._utils._rebuild_nested_tensor",),
    "empty (meta)": ("torch._utils._rebuild_meta_tensor_no_storage",),
}


def _allowed() -> dict[str, object]:
    allowed: dict[str, object] = {
        "collections.OrderedDict": Call(restricted_pickle.ordered),
        "torch._utils._rebuild_tensor": Call(_rebuild),
        "torch._utils._rebuild_tensor_v2": Call(_rebuild),
        "torch._utils._rebuild_tensor_v3": Call(_rebuild_typed),
        "torch._utils._rebuild_parameter": Call(_rebuild_parameter),
        "torch._utils._rebuild_parameter_with_state": Call(_rebuild_parameter),
        "torch.nn.parameter.Parameter": Call(_Parameter),
        "torch.Size": Call(size),
        "torch.storage.UntypedStorage": np.dtype("uint8"),
        "torch.UntypedStorage": np.dtype("uint8"),
    }
    for prefix, names in _NUMBERS.items():
        dtype = np.dtype(ml_dtypes.bfloat16) if prefix == "BFloat16" else np.dtype(names[0])
        allowed[f"torch.{prefix}Storage"] = dtype
        allowed[f"torch.{prefix}Tensor"] = Call(Tensor)
        allowed |= {f"torch.{name}": dtype for name in names}
    # Types without a storage class of their own: an untyped storage and this name beside it.
    allowed |= {f"torch.{name}": np.dtype(name) for name in ("uint16", "uint32", "uint64")}
    for kind, names in _NOT_READ.items():
        allowed |= dict.fromkeys(names, Forbidden(f"holds {kind} tensors, which are not read"))
    return allowed


ALLOWED = _allowed()
"""Names that a pickle of tensors may use; see `restricted_pickle.load`."""


def claimed_storage(identity: object) -> Storage:
    """The storage that a persistent id claims.

    Raises:
        RefusedError: a persistent id of anything else.
        ValueError: a storage without type, key or count.
    """
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
        raise RefusedError("its pickle refers to something outside that is no storage")
    _, dtype, key, _, count, *view = identity
    if not isinstance(dtype, np.dtype) or not isinstance(key, str) or not natural(count):
        raise ValueError("a storage without type, key or count")
    if not view or view[0] is None:
        return Storage(key, dtype, count)
    # The legacy container has storages that are stretches of another.
    _, start, length = view[0]
    if not natural(start) or not natural(length):
        raise ValueError("a stretch of a storage without start or length")
    return Storage(key, dtype, length, start)


def natural(value: object) -> TypeGuard[int]:
    """Whether `value` is an integer of 0 or more, and no bool."""
    return type(value) is int and value >= 0


def extents(shape: object) -> TypeGuard[tuple[int, ...]]:
    """Whether `shape` is a tuple of as many extents, and as large ones, as an array can have.

    Their product is computed before anything else is known of them; without a
    limit a small file asks for one of a million factors.
    """
    return type(shape) is tuple and len(shape) <= 64 and all(natural(extent) and extent < 2**63 for extent in shape)


_WRAPPERS = ("state_dict", "model_state_dict", "model")


def state_dict(loaded: object) -> tuple[dict[str, Tensor], list[str]]:
    """Finds the state dict in what was loaded.

    A dictionary with tensors in it is the state dict.  One without is a
    checkpoint: its entry ``state_dict``, ``model_state_dict`` or ``model`` (the
    first there is) is read.  A ``module.`` before every name, which
    DataParallel puts there, is taken off.

    Returns:
        Tensors by name in the file's order, and a note on each of these steps that was taken.

    Raises:
        RefusedError: no dictionary of tensors in there.
    """
    notes = []
    if not isinstance(loaded, dict):
        raise RefusedError("holds no dictionary of tensors; save model.state_dict() with torch.save")
    if not any(_tensor(value) for value in loaded.values()):
        for key in _WRAPPERS:
            if isinstance(inner := loaded.get(key), dict) and any(_tensor(value) for value in inner.values()):
                notes.append(f"of the checkpoint ({_keys(loaded)}) the entry {key!r} was read")
                loaded = inner
                break
        else:
            raise RefusedError(f"holds no tensors by name; it has {_keys(loaded)}")
    found = {str(name): _tensor(value) for name, value in loaded.items()}
    tensors = {name: tensor for name, tensor in found.items() if tensor}
    if left := [name for name in found if name not in tensors]:
        notes.append(f"entries that are no tensors were left out: {_keys(left)}")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        notes.append("the prefix 'module.' of DataParallel was taken off every name")
    return tensors, notes


def _tensor(value: object) -> Tensor | None:
    value = value.data if isinstance(value, _Parameter) else value
    return value if isinstance(value, Tensor) else None


def _keys(keys: object) -> str:
    first = [repr(key)[:40] for key in list(keys)[:9]]  # type: ignore[call-overload]
    return ", ".join(first[:8]) + (", ..." if len(first) > 8 else "") if first else "nothing"
