"""Small images for tests."""

import io

import numpy as np
from PIL import Image


def picture(seed: int = 0, mode: str = "RGB", suffix: str = "png") -> bytes:
    """Returns a 40 × 40 image of noise, encoded."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, {"png": "PNG", "bmp": "BMP"}[suffix])
    return content.getvalue()
