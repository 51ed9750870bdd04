"""Image files to pixels, and one look at every image of a set."""

import hashlib
import io
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from alljax.data.records import Dataset, Record
from alljax.errors import DataError
from alljax.progress import Advance, ignore

_MEND = "; replace or remove it"


@dataclass(frozen=True)
class Inspection:
    """What one look at every image found, in the order of the records.

    Attributes:
        digests: SHA-256 of each file's bytes, hexadecimal.
        areas: share of each image's pixels that are not black, float32 (N,), at original size.
        modes: how many images are stored in each Pillow mode; whatever is not ``RGB`` gets converted.
        sizes: how many images have each (width, height).
    """

    digests: tuple[str, ...]
    areas: NDArray[np.float32]
    modes: Counter[str]
    sizes: Counter[tuple[int, int]]


def decode(data: bytes, path: str) -> Image.Image:
    """Decodes an image file to 8-bit RGB at its own size.

    Grey becomes three equal channels, 16 bits are scaled to 8, transparency is
    laid on black (the background of segmented cells), of several frames the
    first counts.  An EXIF orientation is left alone, as in Keras and
    torchvision: cells have no upside.

    Args:
        data: the encoded file.
        path: its name, for messages.

    Raises:
        DataError: empty, truncated, not an image, too large to be a picture of a cell
            (`PIL.Image.MAX_IMAGE_PIXELS`), or of a kind that has no defined range (32 bits).
    """
    return _decode(data, path)[0]


def load(dataset: Dataset, record: Record) -> Image.Image:
    """Reads and decodes a record's image: 8-bit RGB at its own size, cut as `Dataset.crops` says.

    Raises:
        DataError: as `decode`, or the file cannot be read.
    """
    return _load(dataset, dataset.read(record), record.path)[0]


def inspect(dataset: Dataset, advance: Advance = ignore, threads: int | None = None) -> Inspection:
    """Reads and decodes every image once.

    Args:
        dataset: what to look at.
        advance: told of each image.
        threads: how many at once; two a core unless told.

    Raises:
        DataError: names the images that cannot be read (the first five and how many more).
    """

    def look(record: Record) -> _Look | DataError:
        try:
            return _look(dataset, record)
        except DataError as error:
            return error

    looks: list[_Look] = []
    bad: list[str] = []
    with ThreadPoolExecutor(threads or threads_to_use()) as pool:
        for look_or_error in pool.map(look, dataset.records):
            if isinstance(look_or_error, DataError):
                bad.append(str(look_or_error))
            else:
                looks.append(look_or_error)
            advance(1)
    if len(bad) == 1:
        raise DataError(bad[0])
    if bad:
        listed = "; ".join(message.removesuffix(_MEND) for message in bad[:5])
        rest = f"; and {len(bad) - 5:,} more" if len(bad) > 5 else ""
        raise DataError(
            f"{len(bad):,} of {len(dataset.records):,} images cannot be read, replace or remove them: {listed}{rest}"
        )
    return Inspection(
        digests=tuple(each.digest for each in looks),
        areas=np.array([each.area for each in looks], np.float32),
        modes=Counter(each.mode for each in looks),
        sizes=Counter(each.size for each in looks),
    )


@dataclass(frozen=True)
class _Look:
    digest: str
    area: float
    mode: str
    size: tuple[int, int]


def _look(dataset: Dataset, record: Record) -> _Look:
    data = dataset.read(record)
    image, mode = _load(dataset, data, record.path)
    red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    area = np.count_nonzero(red | green | blue) / red.size
    return _Look(hashlib.sha256(data).hexdigest(), area, mode, image.size)


def _load(dataset: Dataset, data: bytes, path: str) -> tuple[Image.Image, str]:
    image, mode = _decode(data, path)
    if image.size in dataset.crops:
        width, height = dataset.crops[image.size]
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return image, mode


def _decode(data: bytes, path: str) -> tuple[Image.Image, str]:
    """Returns the RGB image and the mode it was stored in."""
    if not data:
        raise DataError(f"{path}: empty (0 bytes){_MEND}")
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Pillow only warns up to twice its limit; no cell is that large.
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
                raise Image.DecompressionBombError
            image.load()
            return _rgb(image, path), image.mode
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image{_MEND}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise DataError(f"{path}: more than {limit:,} pixels, no picture of a cell{_MEND}") from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        raise DataError(f"{path}: damaged or truncated ({error}){_MEND}") from error


def _rgb(image: Image.Image, path: str) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{path}: more than 16 bits a pixel; save it with 8 or 16")
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise DataError(f"{path}: floating-point pixels of unknown range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(layer, mask=layer.getchannel("A"))
        return black
    # A copy even of RGB, because the opened file is closed.
    return image.convert("RGB")


def threads_to_use() -> int:
    """Returns how many threads read and decode at once."""
    # Two a core: while one reads, another decodes.
    return min(2 * (os.cpu_count() or 1), 16)
