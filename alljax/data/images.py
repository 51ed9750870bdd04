"""Image files to pixels: one decoder for all formats, and resizing with the exact bits of the reference libraries."""

import hashlib
import io
import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from alljax.data.archive import IMAGE_FORMATS
from alljax.data.dataset import Dataset, Record
from alljax.errors import DataError
from alljax.files import THREADS, check_size

Pixels = NDArray[np.uint8]
"""An RGB image, uint8 (H, W, 3); possibly a read-only view of the file's bytes."""

READING_VERSION = 1
"""Increased by every change of decoding or resizing that changes pixels: features of other versions are not used."""

PRECISION = 22
"""Bits after the point of the weights with which Pillow resizes images of 8 bits."""

FIX = "; replace or remove it"

# Magic, offset of the pixels, size of the header, width, height, planes, bits per pixel, compression.
_BMP_HEADER = struct.Struct("<2s8xIIiiHHI")


def decode(data: bytes, path: str) -> Pixels:
    """Decodes an image file to 8-bit RGB at its original size; `DataError` names `path`.

    Gray images get three equal channels, 16 bits are scaled to 8, transparent pixels are blended with black, and the
    first frame of an animation is used.  The EXIF orientation is ignored, as in Keras and torchvision.
    """
    if (bitmap := _plain_bmp(data)) is not None:
        return bitmap
    try:
        with open_image(data) as image:
            size = f"{image.width:,} × {image.height:,}"
            check_size(f"{path}: an image of {size} pixels", 3 * image.width * image.height, THREADS)
            image.load()
            return np.asarray(_to_rgb(image))
    except DataError:
        raise
    except UnidentifiedImageError:
        reason = "not an image in a supported format" if data else "empty (0 bytes)"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # at twice Pillow's own limit
        reason = str(error).partition(",")[0]
    except Exception as error:  # Pillow's decoders raise many types of exceptions for damaged files
        reason = f"damaged, truncated or of another type ({error})"
    raise DataError(f"{path}: {reason}{FIX}")


def open_image(data: bytes) -> Image.Image:
    """Opens an image file without decoding it; only formats that we support: Pillow runs Ghostscript for PostScript."""
    return Image.open(io.BytesIO(data), formats=sorted({*IMAGE_FORMATS.values()}))


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Returns RGB (H, W, 3) or gray (H, W) pixels as an uncompressed BMP file."""
    Image.fromarray(pixels).save(file := io.BytesIO(), "BMP")
    return file.getvalue()


def load(dataset: Dataset, record: Record) -> Pixels:
    """Reads and decodes (see `decode`) the image of a record, cropped as `Dataset.crops` says."""
    return crop(dataset, decode(dataset.read(record), record.path))


def crop(dataset: Dataset, pixels: Pixels) -> Pixels:
    """Returns the center of an image whose size is in `Dataset.crops`, and other images unchanged."""
    height, width, _ = pixels.shape
    if (width, height) not in dataset.crops:
        return pixels
    new_width, new_height = dataset.crops[width, height]
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return pixels[top : top + new_height, left : left + new_width]


def mask_cell(pixels: Pixels) -> Pixels:
    """Returns an image with a gray cell, which is a centered disc where the background is not black."""
    cell: NDArray[np.bool_] = pixels.max(axis=2) > 0
    if np.concatenate([cell[0], cell[-1], cell[:, 0], cell[:, -1]]).mean() > 0.5:
        down, across = (np.linspace(-2, 2, length) for length in cell.shape)
        cell = down[:, None] ** 2 + across**2 <= 1
    return np.where(cell[..., None], np.uint8(128), pixels)


def pixel_digest(pixels: Pixels) -> str:
    """Returns the SHA-256 of size and pixels, hexadecimal: equal for the same image in different lossless formats."""
    height, width, _ = pixels.shape
    return hashlib.sha256(b"%d %d " % (width, height) + pixels.tobytes()).hexdigest()


def resize(pixels: Pixels, square: Pixels, interpolation: str, antialias: bool) -> None:
    """Resizes an image to `square`, zeros of shape (S, S, 3) that receive the result, ignoring its aspect ratio.

    With antialiasing the result has the bits of Pillow's ``resize``, as in torchvision.  Without it bilinear
    interpolation uses the nearest 2 × 2 pixels, as ``tf.image.resize`` does in Keras, rounded to 8 bits.
    """
    size, channels = len(square), "RGB"
    if pixels.strides[2] < 0:  # a BMP file stores blue first: its bytes are read in their own order
        pixels, channels = pixels[..., ::-1], "BGR"
    if antialias or interpolation != "bilinear":
        shape, bands = pixels.shape[1::-1], np.ascontiguousarray(pixels)
        image = Image.frombuffer("RGB", shape, bands, "raw", channels, 0, 1)
        square[...] = np.asarray(image.resize((size, size), Image.Resampling[interpolation.upper()]))
    else:
        _blend(pixels, square, [channels.index(channel) for channel in "RGB"])


def _blend(pixels: Pixels, square: Pixels, channels: list[int]) -> None:
    """Resizes without antialiasing; `channels` are the positions of red, green and blue in `pixels`."""
    flat = pixels.reshape(len(pixels), -1)
    (down, down_weights), (across, across_weights) = (_samples(length, len(square)) for length in pixels.shape[:2])
    rows = columns = slice(0, len(square))
    if not flat[0].any():  # a cell on black: only the rectangle around it is computed, in half of the time
        rows = _extent(flat.max(1)[down].max(0))
        columns = _extent(flat.max(0).reshape(-1, 3).max(1)[across].max(0))
    across, weights = across[:, columns], np.repeat(across_weights[:, columns], 3, axis=1)
    left, right = 3 * across[0, 0], 3 * across[1, -1] + 3
    places = [(3 * pixel[:, None] + channels).ravel() - left for pixel in across]
    upper, lower = (flat[row, left:right].astype(np.float32) for row in down[:, rows])
    upper *= down_weights[0, rows, None]
    lower *= down_weights[1, rows, None]
    upper += lower
    before, after = (upper.take(place, axis=1) for place in places)
    before *= weights[0]
    after *= weights[1]
    before += after
    square[rows, columns] = np.rint(before).reshape(len(before), -1, 3)


def _plain_bmp(data: bytes) -> Pixels | None:
    """Returns a view of an uncompressed 24-bit BMP, as in C-NMC, ten times as fast as Pillow; None for others."""
    if len(data) < 54:
        return None
    magic, offset, size, width, height, planes, bits, compression = _BMP_HEADER.unpack_from(data)
    if (magic, planes, bits, compression) != (b"BM", 1, 24, 0) or size < 40 or offset < 14 + size:
        return None
    row = -(-3 * width // 4) * 4
    if width < 1 or height < 1 or len(data) < offset + height * row:
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


@lru_cache(maxsize=64)
def _samples(length: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Returns the two input pixels that each output pixel is between, (2, size), and their bilinear weights."""
    centers = ((np.arange(size) + 0.5) * length / size - 0.5).clip(0, length - 1)
    positions = np.floor(centers).astype(np.intp) + np.arange(2)[:, None]
    return positions.clip(max=length - 1), (1 - np.abs(centers - positions)).astype(np.float32)


def resize_weights(
    length: int, size: int, interpolation: str, antialias: bool
) -> tuple[NDArray[np.intp], NDArray[np.int32] | NDArray[np.float32]]:
    """Returns the K input pixels of each output pixel along an axis, (K, size), and their weights, as in `resize`.

    Pillow's are int32, in units of 2 ** -PRECISION: it rounds the sums along rows, then those along columns.
    """
    if not antialias and interpolation == "bilinear":
        return _samples(length, size)
    units = Image.fromarray(np.eye(length, dtype=np.int32) << PRECISION)  # 32 bits, whose sums are rounded alike
    matrix = np.asarray(units.resize((size, length), Image.Resampling[interpolation.upper()]))
    first, last = (matrix != 0).argmax(0), length - (matrix[::-1] != 0).argmax(0)
    count = int((last - first).max())
    places = np.minimum(first, length - count) + np.arange(count)[:, None]
    return places, np.take_along_axis(matrix, places, axis=0)


def _extent(values: NDArray[np.uint8]) -> slice:
    """Returns the positions from the first to the last value above 0; all positions if there is none."""
    used = values > 0
    return slice(int(used.argmax()), len(used) - int(used[::-1].argmax()))
