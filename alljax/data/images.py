"""Image files to pixels: one decoder for all formats."""

import hashlib
import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from alljax.data.dataset import Dataset, Record
from alljax.errors import DataError

Pixels = NDArray[np.uint8]
"""An RGB image, uint8 (H, W, 3); possibly a read-only view of the file's bytes."""

READING_VERSION = 1
"""Increased by every change of decoding or resizing that changes pixels: features of other versions are not used."""

FIX = "; replace or remove it"

# Magic, offset of the pixels, size of the header, width, height, planes, bits per pixel, compression.
_BMP_HEADER = struct.Struct("<2s8xIIiiHHI")


def decode(data: bytes, path: str) -> Pixels:
    """Decodes an image file to 8-bit RGB at its original size.

    Gray images get three equal channels, 16 bits are scaled to 8, transparent pixels are blended with black (the
    background of segmented cells), and the first frame of an animation is used.  The EXIF orientation is ignored, as in
    Keras and torchvision.

    Args:
        data: the encoded file.
        path: its name, for messages.

    Raises:
        DataError: the file is truncated, no image, larger than `PIL.Image.MAX_IMAGE_PIXELS`, or of a type without a
            defined range (32 bits).
    """
    return decode_with_mode(data, path)[0]


def decode_with_mode(data: bytes, path: str) -> tuple[Pixels, str]:
    """Returns the image, as `decode`, and the Pillow mode in which the file stores it."""
    if (bitmap := _plain_bmp(data)) is not None:
        return bitmap, "RGB"
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Pillow warns only, up to twice its limit.
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
                raise Image.DecompressionBombError
            image.load()
            return np.asarray(_to_rgb(image)), image.mode
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: {'not an image' if data else 'empty (0 bytes)'}{FIX}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels{FIX}") from error
    except Exception as error:  # Pillow's decoders raise many types of exceptions for damaged files
        raise DataError(f"{path}: damaged, truncated or of another type ({error}){FIX}") from error


def load(dataset: Dataset, record: Record) -> Pixels:
    """Reads and decodes the image of a record, cropped as `Dataset.crops` says.

    Raises:
        DataError: as `decode`, or the file cannot be read.
    """
    return crop(dataset, decode(dataset.read(record), record.path))


def crop(dataset: Dataset, pixels: Pixels) -> Pixels:
    """Returns the center of an image whose size is in `Dataset.crops`, and other images unchanged."""
    height, width, _ = pixels.shape
    if (width, height) not in dataset.crops:
        return pixels
    new_width, new_height = dataset.crops[width, height]
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return pixels[top : top + new_height, left : left + new_width]


def pixel_digest(pixels: Pixels) -> str:
    """Returns the SHA-256 of size and pixels, hexadecimal: equal for the same image in different lossless formats."""
    height, width, _ = pixels.shape
    return hashlib.sha256(b"%d %d " % (width, height) + pixels.tobytes()).hexdigest()


def _plain_bmp(data: bytes) -> Pixels | None:
    """Returns the pixels of an uncompressed 24-bit BMP file stored bottom-up, as a view; None for all other files.

    C-NMC consists of such files.  Pillow takes ten times as long for them and blocks other threads meanwhile.
    """
    if len(data) < 54:
        return None
    magic, offset, size, width, height, planes, bits, compression = _BMP_HEADER.unpack_from(data)
    if (magic, planes, bits, compression) != (b"BM", 1, 24, 0) or size < 40 or offset < 14 + size:
        return None
    row = -(-3 * width // 4) * 4
    if width < 1 or height < 1 or width * height > (Image.MAX_IMAGE_PIXELS or 0) or len(data) < offset + height * row:
        return None
    rows = np.frombuffer(data, np.uint8, height * row, offset).reshape(height, row)
    return rows[::-1, : 3 * width].reshape(height, width, 3)[..., ::-1]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("more than 16 bits per pixel; save it with 8 or 16")
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels of unknown range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(layer, mask=layer.getchannel("A"))
        return black
    return image.convert("RGB")
