"""A record's pixels, by the shortest way: plain BMP files, which C-NMC consists of, are read where they lie."""

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alljax.data.dataset import Dataset, Record
from alljax.data.images import crop_box, decode

# Magic, offset of the pixels, header's size, width, height, planes, bits, packing.
_HEADER = struct.Struct("<2s8xIIiiHHI")


def read(dataset: Dataset, record: Record) -> tuple[NDArray[np.uint8], bool]:
    """Reads and decodes a record's image, cut as `Dataset.crops` says: the pixels of `alljax.data.images.load`.

    Returns:
        Shape (H, W, 3), not to be written to; and whether blue comes first, red last.

    Raises:
        DataError: as `alljax.data.images.load`.
    """
    data = dataset.read(record)
    bitmap = plain_bitmap(data)
    pixels = np.asarray(decode(data, record.path)) if bitmap is None else bitmap
    height, width, _ = pixels.shape
    if box := crop_box(dataset, (width, height)):
        left, top, right, bottom = box
        pixels = pixels[top:bottom, left:right]
    return pixels, bitmap is not None


def plain_bitmap(data: bytes) -> NDArray[np.uint8] | None:
    """Returns the pixels of a whole BMP file of 24 bits, not packed, stored from the bottom up; None for all else.

    Pillow takes ten times as long for it and lets no other thread run meanwhile.

    Args:
        data: any file.

    Returns:
        A view of `data`, shape (H, W, 3), rows from the top, blue first.
    """
    if len(data) < 54:
        return None
    magic, offset, size, width, height, planes, bits, packing = _HEADER.unpack_from(data)
    if (magic, planes, bits, packing) != (b"BM", 1, 24, 0) or size < 40 or offset < 14 + size:
        return None
    row = -(-3 * width // 4) * 4
    if width < 1 or height < 1 or width * height > (Image.MAX_IMAGE_PIXELS or 0) or len(data) < offset + height * row:
        return None
    rows = np.frombuffer(data, np.uint8, height * row, offset).reshape(height, row)
    return rows[::-1, : 3 * width].reshape(height, width, 3)
