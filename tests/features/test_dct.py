"""Cosine spectra: a block's coefficients are those of the definition, in zig-zag order, at their place."""

import math

import numpy as np

from alljax.config import default_config
from alljax.features.extractors import Extractor, dct_features

ZIGZAG = [
    (0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (0, 3), (1, 2), (2, 1), (3, 0), (4, 0), (3, 1), (2, 2), (1, 3),
    (0, 4), (0, 5),
]  # fmt: skip


def test_coefficients_of_each_block() -> None:
    assert Extractor.of("dct", default_config()).sequence == (28, 448)
    pixels = np.random.default_rng(0).integers(0, 256, (44, 44, 3), np.uint8)
    steps = dct_features(pixels).reshape(5, 5, 16)
    n = np.arange(8)
    for row, column in ((0, 0), (3, 1), (4, 4)):
        block = pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] @ (0.299, 0.587, 0.114)
        expected = []
        for pair in ZIGZAG:
            down, across = (math.sqrt((1 if k else 0.5) / 4) * np.cos(math.pi * (2 * n + 1) * k / 16) for k in pair)
            expected.append(down @ block @ across)
        np.testing.assert_allclose(steps[row, column], expected, atol=1e-3)
