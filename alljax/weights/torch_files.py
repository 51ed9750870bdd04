"""PyTorch's two containers, read without PyTorch.

*Zip* (since 1.6): an uncompressed zip with the pickle ``data.pkl`` and one entry
``data/KEY`` a storage.  *Legacy*: four pickles in a row (magic number, protocol,
system, object), a pickled list of storage keys, then for each key an int64 count
and the raw numbers.  A tensor is a view of a storage: offset, sizes, strides.

Source of both layouts: `torch/serialization.py` of PyTorch 2.13.
Arrays are read-only views of the memory-mapped file: nothing is copied.
"""

import io
import math
import mmap
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

from alljax.weights import restricted_pickle
from alljax.weights.restricted_pickle import RefusedError
from alljax.weights.torch_pickle import ALLOWED, Storage, Tensor, claimed_storage, extents, natural, size, state_dict

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""The first pickle of the legacy container."""

_PROTOCOL = 1001

Found = tuple[dict[str, np.ndarray], list[str]]
"""Tensor names with read-only arrays in the file's order, and notes on what was unwrapped."""

_Place = Callable[[str], tuple[int, int]]  # a storage's key to (start, length) in bytes of the file


def read_zip(data: mmap.mmap) -> Found:
    """Reads the zip container.

    Args:
        data: the whole file.

    Raises:
        RefusedError: not such a container, or it holds what no weight file needs.
        Exception: of almost any kind, where the file is damaged.
    """
    try:
        with zipfile.ZipFile(_Window(data)) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except zipfile.BadZipFile as error:
        raise EOFError("the table of contents at its end is missing or broken") from error
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise RefusedError(_foreign(list(entries)))
    (root,) = roots
    if f"{root}constants.pkl" in entries:
        raise RefusedError("a TorchScript program, not tensors; save model.state_dict() with torch.save")

    def place(name: str) -> tuple[int, int]:
        return _stored(data, entries[root + name])

    def content(name: str) -> bytes:
        start, length = place(name)
        return data[start : start + length]

    order = content("byteorder") if f"{root}byteorder" in entries else b"little"
    if order not in (b"little", b"big"):
        raise ValueError("its byte order is neither little nor big")
    loaded = restricted_pickle.load(io.BytesIO(content("data.pkl")), ALLOWED, claimed_storage)
    return _arrays(data, loaded, lambda key: place(f"data/{key}"), big_endian=order == b"big")


def read_legacy(data: mmap.mmap) -> Found:
    """Reads the legacy container; see `read_zip` for the argument, the result and the errors."""
    data.seek(0)
    if restricted_pickle.load(data, {}) != MAGIC_NUMBER or restricted_pickle.load(data, {}) != _PROTOCOL:
        raise ValueError("its magic number or protocol is wrong")
    # This pickle describes the writer's machine; the numbers are little-endian whatever it says.
    restricted_pickle.load(data, {})
    widths: dict[str, int] = {}

    def storage(identity: object) -> Storage:
        claimed = claimed_storage(identity)
        widths.setdefault(claimed.key, claimed.dtype.itemsize)
        return claimed

    loaded = restricted_pickle.load(data, ALLOWED, storage)
    keys = restricted_pickle.load(data, {})
    places = _consecutive(data, keys, widths)
    return _arrays(data, loaded, places.__getitem__, big_endian=False)


def _consecutive(data: mmap.mmap, keys: object, widths: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Where the legacy container has each storage: after an int64 count, one behind the other."""
    if type(keys) is not list:
        raise ValueError("its storage keys are no list")
    places = {}
    position = data.tell()
    for key in keys:
        if not isinstance(key, str):  # hashing tuples in tuples may never end
            raise ValueError("a storage key is no text")
        count = int.from_bytes(data[position : position + 8], "little", signed=True)
        length = count * widths[key]
        position += 8
        if count < 0 or position + length > len(data):
            raise EOFError("a storage reaches past the end of the file")
        places[key] = (position, length)
        position += length
    return places


class _Window:
    """A memory-mapped file as `zipfile` reads one: every read stays inside the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._position = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        position = offset + (0, self._position, len(self._data))[whence]
        if position < 0:
            raise ValueError("a place before the start of the file")
        self._position = position
        return position

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._position + size
        block = self._data[self._position : end]
        self._position += len(block)
        return block


def _foreign(names: list[str]) -> str:
    if any(name.endswith("model.weights.h5") for name in names):
        return "a .keras archive; load it in Keras and write it with model.save('FILE.h5')"
    if any(name.endswith(".npy") for name in names):
        return "a NumPy .npz archive, which is no weight file known here; write it as .safetensors"
    return "a zip archive without PyTorch's data.pkl; unpack it and give the weight file inside"


def _stored(data: mmap.mmap, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of an uncompressed entry lie: (start, length).  Its checksum is compared."""
    name = entry.filename[:60]
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise RefusedError(
            f"its entry {name!r} is compressed or encrypted, which torch.save never does; "
            "use the file as torch.save wrote it"
        )
    header = data[entry.header_offset : entry.header_offset + 30]
    # The name and the extra field of the local header, which pads the numbers to 64 bytes.
    before = 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start, length = entry.header_offset + before, entry.file_size
    if header[:4] != b"PK\x03\x04" or entry.header_offset < 0 or start + length > len(data):
        raise EOFError(f"entry {name!r} reaches past the end of the file")
    with memoryview(data) as whole, whole[start : start + length] as view:
        # torch.serialization.set_crc32_options(False) writes 0 for "not computed".
        if entry.CRC and zlib.crc32(view) != entry.CRC:
            raise ValueError(f"the checksum of entry {name!r} is wrong")
    return start, length


def _arrays(data: mmap.mmap, loaded: object, place: _Place, big_endian: bool) -> Found:
    tensors, notes = state_dict(loaded)
    places: dict[str, tuple[int, int]] = {}
    arrays = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor.storage, Storage):
            raise ValueError(f"tensor {name[:60]!r} has no storage")
        if (key := tensor.storage.key) not in places:
            places[key] = place(key)
        arrays[name] = _array(data, tensor, tensor.storage, places[key], big_endian)
    return arrays, notes


def _array(data: mmap.mmap, tensor: Tensor, storage: Storage, place: tuple[int, int], big_endian: bool) -> np.ndarray:
    """One tensor as a view of the file, once all that it claims has been found true."""
    start, length = place
    dtype = tensor.dtype if isinstance(tensor.dtype, np.dtype) else storage.dtype
    first, room = storage.start * storage.dtype.itemsize, storage.count * storage.dtype.itemsize
    if first + room > length:
        raise EOFError(f"a storage claims {first + room} bytes and has {length}")
    offset = tensor.offset
    shape, stride = size(tensor.shape), size(tensor.stride)
    if not natural(offset) or not extents(shape) or not extents(stride) or len(stride) != len(shape):
        raise ValueError("a tensor has an impossible layout")
    count = math.prod(shape)
    if not count:
        return np.zeros(shape, dtype)
    last = offset + sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True))
    if (last + 1) * dtype.itemsize > room or count * dtype.itemsize > len(data):
        raise ValueError(f"a tensor of shape {shape} points outside its storage")
    view = np.ndarray(
        shape,
        # bfloat16 knows no byte order: swap it as the unsigned integer of its width.
        np.dtype(f">u{dtype.itemsize}") if big_endian else dtype,
        buffer=data,
        offset=start + first + offset * dtype.itemsize,
        strides=[step * dtype.itemsize for step in stride],
    )
    if not big_endian:
        return view
    native = view.astype(view.dtype.newbyteorder("=")).view(dtype)
    native.flags.writeable = False
    return native
