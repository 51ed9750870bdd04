"""Records to decoded, resized, padded batches, with Grain's threads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alljax.data.images import load, threads_to_use
from alljax.data.records import Dataset, Record
from alljax.errors import ConfigError


@dataclass(frozen=True)
class Batch:
    """Images as the device gets them.

    Attributes:
        images: uint8 (B, S, S, 3), RGB; zeros where there is no image.
        mask: bool (B,), false where the last batch is padded.
    """

    images: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def batches(
    dataset: Dataset, image_size: int, interpolation: str, batch_size: int, threads: int | None = None
) -> Iterator[Batch]:
    """Yields all images once, in the order of the records whatever the number of threads.

    An image is stretched to a square.  When it shrinks, the filter is widened,
    so that it is antialiased (as torchvision does, and plain Keras does not).

    Args:
        dataset: the records to read.
        image_size: side S in pixels.
        interpolation: a Pillow filter: nearest, box, bilinear, hamming, bicubic or lanczos.
        batch_size: B; the last batch is padded with zeros.
        threads: how many decode at once; two a core unless told.

    Raises:
        ConfigError: no such interpolation.
        DataError: an image that cannot be read.
    """
    import grain  # takes about a second, and not every command makes batches

    if interpolation.upper() not in Image.Resampling.__members__:
        known = ", ".join(name.lower() for name in Image.Resampling.__members__)
        raise ConfigError(f"interpolation {interpolation!r} is unknown; take one of {known}")
    resampling = Image.Resampling[interpolation.upper()]

    def resized(record: Record) -> NDArray[np.uint8]:
        return np.asarray(load(dataset, record).resize((image_size, image_size), resampling))

    def stack(images: Sequence[NDArray[np.uint8]]) -> Batch:
        padded = np.zeros((batch_size, image_size, image_size, 3), np.uint8)
        np.stack(images, out=padded[: len(images)])
        return Batch(padded, np.arange(batch_size) < len(images))

    # Grain reads ahead by single images here, so two batches of them wait at most.
    threads = threads or threads_to_use()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2 * batch_size, threads))
    images = grain.MapDataset.source(dataset.records).map(resized).to_iter_dataset(options)
    yield from images.batch(batch_size, drop_remainder=False, batch_fn=stack)
