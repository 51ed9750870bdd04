"""Image files to pixels: one decoder for all formats, and resizing with the exact bits of the reference libraries."""

import hashlib
import io
import struct
from functools import lru_cache
from math import gcd
from typing import Any

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

FIX = "; replace or remove it"

REACH = {"nearest": 0, "box": 0, "bilinear": 1, "hamming": 1, "bicubic": 2, "lanczos": 3}
"""Pillow's filters and their radius in input pixels where an image does not shrink."""

# Magic, offset of the pixels, size of the header, width, height, planes, bits per pixel, compression.
_BMP_HEADER = struct.Struct("<2s8xIIiiHHI")


def decode(data: bytes, path: str) -> Pixels:
    """Decodes an image file to 8-bit RGB at its original size.

    Gray images get three equal channels, 16 bits are scaled to 8, transparent pixels are blended with black (the
    background of segmented cells), and the first frame of an animation is used.  The EXIF orientation is ignored, as in
    Keras and torchvision.  `DataError`, which names the file by `path`: the file is truncated, of another format or
    without a defined range of values (32 bits), or too large (`files.check_size`).
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
    """Returns an image with a gray cell: only its outline and size, or the background, can be recognized.

    The cell is the pixels that are not black; where most of the outermost pixels are not black, it is a centered disc
    with half the height and width of the image.
    """
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

    With antialiasing the filter widens where the image shrinks, and the result has the bits of Pillow's ``resize``,
    which torchvision uses on Pillow images.  Without it the filter uses the nearest 2 × 2 (bilinear) or 4 × 4 (bicubic)
    pixels, as ``tf.image.resize`` does in Keras's ``image_dataset_from_directory``, rounded to 8 bits.
    """
    if pixels.strides[2] < 0:  # a BMP file stores blue first: its bytes are resized in their own order
        pixels, square = pixels[..., ::-1], square[..., ::-1]
    height, width, _ = pixels.shape
    size = len(square)
    # Pillow chooses the order of its two passes by the shape of the image; for a square it is the order used here.
    if not REACH[interpolation] or (antialias and width != height):
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling[interpolation.upper()])
        square[...] = np.asarray(image)
        return
    # Segmented cells are on black, which stays black under every filter: only the rectangle around them is computed.
    flat = pixels.reshape(height, 3 * width)
    down, across = np.flatnonzero(flat.max(1)), np.flatnonzero(flat.max(0)) // 3
    if len(down):
        rows = _output_range(down[0], down[-1] + 1, height, size, interpolation)
        columns = _output_range(across[0], across[-1] + 1, width, size, interpolation)
        part = _antialiased if antialias else _sampled
        square[slice(*rows), slice(*columns)] = part(pixels, size, interpolation, rows, columns)


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


def _output_range(first: int, last: int, length: int, size: int, interpolation: str) -> tuple[int, int]:
    """Returns the bounds of the output pixels that depend on the input pixels first … last - 1.

    The bounds are multiples of the odd part of the reduced denominator of length / size: there the positions in the
    input are exact in float32.
    """
    scale = length / size
    reach = REACH[interpolation] * max(scale, 1) + 1
    step = size // gcd(size, length)
    step //= step & -step
    low = max(int((first - reach) / scale) // step * step, 0)
    high = -(-int((last + reach) / scale + 1) // step) * step
    return low, min(high, size)


def _antialiased(
    pixels: Pixels, size: int, interpolation: str, rows: tuple[int, int], columns: tuple[int, int]
) -> Pixels:
    """Returns these rows and columns of the resized image, equal to those of resizing all of it."""
    resampling, scale = Image.Resampling[interpolation.upper()], len(pixels) / size
    reach = REACH[interpolation] * max(scale, 1) + 1
    top, left = (max(int(first * scale - reach), 0) for first in (rows[0], columns[0]))
    bottom, right = (int(last * scale + reach) + 1 for last in (rows[1], columns[1]))
    image = Image.fromarray(pixels[top:bottom, left:right])
    wide, high = columns[1] - columns[0], rows[1] - rows[0]
    across = (columns[0] * scale - left, 0, columns[1] * scale - left, image.height)
    down = (0, rows[0] * scale - top, wide, rows[1] * scale - top)
    return np.asarray(image.resize((wide, image.height), resampling, across).resize((wide, high), resampling, down))


def _sampled(pixels: Pixels, size: int, interpolation: str, rows: tuple[int, int], columns: tuple[int, int]) -> Pixels:
    """Returns these rows and columns of an image resized without antialiasing."""
    sides = zip(pixels.shape[:2], (rows, columns), strict=True)
    down, across = (_weights(length, size, interpolation)[slice(*bounds)] for length, bounds in sides)
    needed = [slice(weights.indices.min(), weights.indices.max() + 1) for weights in (down, across)]
    blended = pixels[tuple(needed)].astype(np.float32)
    for weights, part in zip((down, across), needed, strict=True):
        blended = (weights[:, part] @ blended.reshape(len(blended), -1)).reshape(-1, *blended.shape[1:]).swapaxes(0, 1)
    return np.rint(blended).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _weights(length: int, size: int, interpolation: str) -> Any:
    """Returns the weight of each input pixel in each output pixel, sparse (size, length).

    Pixel centers are at half-integers.  Bicubic is the kernel of Keys (1981) with a = -0.5.  Weights of pixels outside
    the image are redistributed among those inside.
    """
    from scipy import sparse  # importing it takes a tenth of a second

    reach = REACH[interpolation]
    centers = (np.arange(size) + 0.5) * length / size - 0.5
    positions = np.floor(centers).astype(np.int32)[:, None] + np.arange(1 - reach, 1 + reach, dtype=np.int32)
    distances = np.abs(centers[:, None] - positions)
    if interpolation == "bilinear":
        weights = 1 - distances
    else:
        near = (1.5 * distances - 2.5) * distances**2 + 1
        far = ((2.5 - 0.5 * distances) * distances - 4) * distances + 2
        weights = np.where(distances < 1, near, far)
    weights[(positions < 0) | (positions >= length)] = 0
    weights /= weights.sum(1, keepdims=True)
    starts = np.arange(0, positions.size + 1, 2 * reach, dtype=np.int32)
    columns = positions.clip(0, length - 1).ravel()
    return sparse.csr_array((weights.astype(np.float32).ravel(), columns, starts), (size, length))
