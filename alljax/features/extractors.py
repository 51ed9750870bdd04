"""Features that are computed from the pixels of one image, without a network."""

import contextlib
import functools
import hashlib
import importlib.metadata
import itertools
import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.data.dataset import Dataset, Record
from alljax.data.images import READING_VERSION, load, mask_cell, resize
from alljax.data.inspection import read_ahead
from alljax.features import dct, texture

VERSIONS = {"texture": texture.VERSION, "dct": dct.VERSION}
LIBRARIES = "numpy", "scipy", "scikit-learn", "pillow"
SIZE = 224
"""Pixels per side of the image for DCT, unless ``preprocessing.image_size`` is set."""


@dataclass(frozen=True)
class Extractor:
    """One of `VERSIONS`, with all settings that its features depend on."""

    name: str
    settings: tuple[tuple[str, Any], ...]  # dotted keys and values
    masked: bool  # see `alljax.data.images.mask_cell`

    @classmethod
    def of(cls, name: str, config: ConfigDict) -> "Extractor":
        """Returns the extractor that a config describes."""
        read = {key: value for key, value in configs.flatten(config).items() if key.startswith("texture.")}
        if name == "dct":
            read = {"preprocessing.image_size": config.preprocessing.image_size or SIZE}
        return cls(name, tuple(read.items()), config.preprocessing.cell == "masked")

    @functools.cached_property
    def config(self) -> ConfigDict:
        """The `settings` as a config."""
        return configs.vary(configs.default_config(), dict(self.settings))

    @property
    def sequence(self) -> tuple[int, int] | None:
        """The number of steps of the features and of values per step; None where they are no sequence."""
        return dct.dct_shape(self.config.preprocessing.image_size) if self.name == "dct" else None

    @property
    def feature_count(self) -> int:
        """D, the number of features."""
        return int(np.prod(self.sequence)) if self.sequence else len(texture.texture_names(self.config))

    def features(self, dataset: Dataset, record: Record) -> np.ndarray:
        """Returns the features of an image, float32 (D,); `DataError` if it cannot be read."""
        pixels = load(dataset, record)
        pixels = mask_cell(pixels) if self.masked else pixels
        if self.name == "texture":
            return texture.texture_features(pixels, self.config)
        square = np.zeros((self.config.preprocessing.image_size,) * 2 + (3,), np.uint8)
        resize(pixels, square, "bilinear", antialias=True)
        return dct.dct_features(square)

    def blocks(self, dataset: Dataset, size: int) -> Generator[np.ndarray, None, None]:
        """Yields the features (b, D) of `size` images at a time, which are read ahead in threads."""
        of_record = functools.partial(self.features, dataset)
        with contextlib.closing(read_ahead(of_record, dataset.records)) as found:
            while block := [features.result() for features in itertools.islice(found, size)]:
                yield np.stack(block)

    def key(self, digests: tuple[str, ...]) -> str:
        """Returns the hash of everything that the features of images with these SHA-256 depend on."""
        versions = [VERSIONS[self.name], READING_VERSION, *map(importlib.metadata.version, LIBRARIES)]
        parts = [digests, self.name, self.settings, self.masked, versions]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
