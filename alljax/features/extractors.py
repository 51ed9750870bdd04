"""Features that are computed from the pixels of one image, without a network: of texture, or a cosine transform."""

import contextlib
import functools
import itertools
import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict
from numpy.typing import NDArray
from scipy.fft import dctn

from alljax.data.dataset import Dataset, Record
from alljax.data.images import load, mask_cell, resize
from alljax.data.inspection import read_ahead
from alljax.features import texture

VERSION = 1  # increased by every change of the features: stored ones of other versions are not used
SIZE = 224  # pixels per side of the image for DCT, unless ``preprocessing.image_size`` is set
BLOCK = 8
COEFFICIENTS = 16

# Diagonals from the lowest frequencies, in alternating direction as in JPEG (ITU-T T.81, figure 5).
_ROW, _COLUMN = np.indices((BLOCK, BLOCK)).reshape(2, -1)
ZIGZAG = np.lexsort((np.where((_ROW + _COLUMN) % 2, _ROW, _COLUMN), _ROW + _COLUMN))[:COEFFICIENTS]


def dct_features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the spectra (T · d,) of an image (S, S, 3): T = S / 8 rows of blocks of d = S / 8 · 16 values.

    A block of 8 × 8 lumas has the first 16 coefficients, in zig-zag order, of its orthonormal DCT-II.
    """
    count = len(pixels) // BLOCK
    luma = pixels[: count * BLOCK, : count * BLOCK] @ texture.LUMA
    blocks = luma.reshape(count, BLOCK, count, BLOCK).swapaxes(1, 2)
    spectra = dctn(blocks, axes=(2, 3), norm="ortho").reshape(count, count, -1)
    return spectra[..., ZIGZAG].ravel().astype(np.float32)


@dataclass(frozen=True)
class Extractor:
    """``texture`` or ``dct``, with all settings that its features depend on."""

    name: str
    config: FrozenConfigDict

    @classmethod
    def of(cls, name: str, config: ConfigDict) -> "Extractor":
        """Returns the extractor that a config describes."""
        preprocessing = {"cell": config.preprocessing.cell}
        if name == "texture":
            return cls(name, FrozenConfigDict({"preprocessing": preprocessing, "texture": config.texture.to_dict()}))
        preprocessing["image_size"] = config.preprocessing.image_size or SIZE
        return cls(name, FrozenConfigDict({"preprocessing": preprocessing}))

    @property
    def sequence(self) -> tuple[int, int] | None:
        """The number of steps of the features and of values per step; None where they are no sequence."""
        if self.name == "texture":
            return None
        count = self.config.preprocessing.image_size // BLOCK
        return count, count * COEFFICIENTS

    @property
    def feature_count(self) -> int:
        """D, the number of features."""
        if self.sequence:
            return math.prod(self.sequence)
        shape = texture.SHAPE if self.config.texture.shape else ()
        return 2 * len(texture.COOCCURRENCE) + len(texture.RUNS) + len(shape)

    def features(self, dataset: Dataset, record: Record) -> np.ndarray:
        """Returns the features of an image, float32 (D,); `DataError` if it cannot be read."""
        pixels, settings = load(dataset, record), self.config.preprocessing
        pixels = mask_cell(pixels) if settings.cell == "masked" else pixels
        if self.name == "texture":
            return texture.texture_features(pixels, self.config)
        square = np.zeros((settings.image_size, settings.image_size, 3), np.uint8)
        resize(pixels, square, "bilinear", antialias=True)
        return dct_features(square)

    def blocks(self, dataset: Dataset, size: int) -> Generator[np.ndarray, None, None]:
        """Yields the features (b, D) of `size` images at a time, which are read ahead in threads."""
        of_record = functools.partial(self.features, dataset)
        with contextlib.closing(read_ahead(of_record, dataset.records)) as found:
            while block := [features.result() for features in itertools.islice(found, size)]:
                yield np.stack(block)
