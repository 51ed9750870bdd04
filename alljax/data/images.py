"""Image files to pixels, and one look at every image of a set."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from alljax import interrupts
from alljax.data.dataset import Dataset, Record
from alljax.errors import DataError, first_few, plural
from alljax.progress import Advance, ignore

READING_VERSION = 1
"""Increased by every change of decoding or resizing that changes pixels: features of other versions are not used."""

_MEND = "; replace or remove it"
_Seen = TypeVar("_Seen")


@dataclass(frozen=True)
class Inspection:
    """What one look at every image found: of the N that can be read, in the order of the records.

    Attributes:
        digests: SHA-256 of each file's bytes, hexadecimal.
        pixels: SHA-256 of each image's pixels (`pixel_digest`): equal for a BMP and its PNG copy.
        areas: share of each image's pixels that are not black, float32 (N,), at original size.
        modes: how many images are stored in each Pillow mode; whatever is not ``RGB`` gets converted.
        sizes: how many images have each (width, height).
        unreadable: why an image cannot be read, by its path.
    """

    digests: tuple[str, ...]
    pixels: tuple[str, ...]
    areas: NDArray[np.float32]
    modes: Counter[str]
    sizes: Counter[tuple[int, int]]
    unreadable: Mapping[str, str] = field(default_factory=dict)


def decode(data: bytes, path: str) -> Image.Image:
    """Decodes an image file to 8-bit RGB at its own size.

    Gray becomes three equal channels, 16 bits are scaled to 8, transparency is
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
    return _crop(dataset, decode(dataset.read(record), record.path))


def pixel_digest(image: Image.Image) -> str:
    """Returns the SHA-256 of an RGB image's size and pixels, hexadecimal: the same in whatever format they are kept."""
    return hashlib.sha256(b"%d %d " % image.size + image.tobytes()).hexdigest()


def inspect(
    dataset: Dataset, advance: Advance = ignore, threads: int | None = None, on_error: str = "raise"
) -> Inspection:
    """Reads and decodes every image once.

    Args:
        dataset: what to look at.
        advance: told of each image.
        threads: how many at once; two a core unless told.
        on_error: ``raise`` stops at images that cannot be read; ``skip`` leaves them out of all but
            `Inspection.unreadable`, for `readable` to drop.

    Raises:
        DataError: names the images that cannot be read (the first five and how many more).
    """
    looks, errors = survey(dataset, _look, advance, threads)
    if errors and on_error == "raise":
        raise _refusal(list(errors.values()), len(dataset.records))
    return Inspection(
        digests=tuple(each.digest for each in looks),
        pixels=tuple(each.pixels for each in looks),
        areas=np.array([each.area for each in looks], np.float32),
        modes=Counter(each.mode for each in looks),
        sizes=Counter(each.size for each in looks),
        unreadable={path: reason(error, path) for path, error in errors.items()},
    )


def survey(
    dataset: Dataset,
    look: Callable[[Dataset, Record], _Seen],
    advance: Advance = ignore,
    threads: int | None = None,
) -> tuple[list[_Seen], dict[str, DataError]]:
    """Looks at every image once, in threads.

    Args:
        dataset: what to look at.
        look: reads and decodes a record's image and says what is wanted of it; raises DataError
            where it cannot.
        advance: told of each image.
        threads: how many at once; two a core unless told.

    Returns:
        What `look` said of those it could read, in the order of the records, and the errors by path.
    """

    def attempt(record: Record) -> _Seen | DataError:
        try:
            return look(dataset, record)
        except DataError as error:
            return error

    seen: list[_Seen] = []
    errors: dict[str, DataError] = {}
    with ThreadPoolExecutor(threads or threads_to_use()) as pool:
        for record, result in zip(dataset.records, pool.map(attempt, dataset.records), strict=True):
            if isinstance(result, DataError):
                errors[record.path] = result
            else:
                seen.append(result)
            interrupts.check()
            advance(1)
    return seen, errors


def readable(dataset: Dataset, inspection: Inspection) -> Dataset:
    """Returns the set without the images that `inspection` could not read; a note says which and why.

    Whether enough is left to learn from is for `records.check` to say.
    """
    if not (bad := inspection.unreadable):
        return dataset
    listed = first_few(f"{path} ({why})" for path, why in bad.items())
    note = f"{plural(len(bad), 'image')} left out, cannot be read (data.on_error=skip): {listed}"
    records = tuple(record for record in dataset.records if record.path not in bad)
    return replace(dataset, records=records, notes=(*dataset.notes, note))


def reason(error: DataError, path: str) -> str:
    """Returns why `path` cannot be read, without the path and the mend, for lists."""
    return str(error).removeprefix(f"{path}: ").removesuffix(_MEND)


def _refusal(errors: list[DataError], images: int) -> DataError:
    if len(errors) == 1:
        return errors[0]
    listed = "; ".join(str(error).removesuffix(_MEND) for error in errors[:5])
    rest = f"; and {len(errors) - 5:,} more" if len(errors) > 5 else ""
    return DataError(f"{len(errors):,} of {images:,} images cannot be read, replace or remove them: {listed}{rest}")


@dataclass(frozen=True)
class _Look:
    digest: str
    pixels: str
    area: float
    mode: str
    size: tuple[int, int]


def _look(dataset: Dataset, record: Record) -> _Look:
    data = dataset.read(record)
    whole, mode = _decode(data, record.path)
    image = _crop(dataset, whole)
    red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    area = np.count_nonzero(red | green | blue) / red.size
    return _Look(hashlib.sha256(data).hexdigest(), pixel_digest(whole), area, mode, image.size)


def crop_box(dataset: Dataset, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Returns what `Dataset.crops` leaves of an image of this (width, height): left, top, right, bottom; None for all.

    Right and bottom are the first column and row left out.
    """
    if size not in dataset.crops:
        return None
    width, height = dataset.crops[size]
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def _crop(dataset: Dataset, image: Image.Image) -> Image.Image:
    box = crop_box(dataset, image.size)
    return image.crop(box) if box else image


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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2 * cores, 16)
