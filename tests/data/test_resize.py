"""Resizing has the bits of Pillow with antialiasing and the values of tf.image.resize without it."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alljax.data import images as module
from alljax.errors import ConfigError

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
SIZES = st.integers(4, 90)


def resize(image: Image.Image, size: int, interpolation: str, antialias: bool) -> np.ndarray:
    square, reversed_colors = np.zeros((size, size, 3), np.uint8), np.zeros((size, size, 3), np.uint8)
    pixels = np.asarray(image)
    module.resize(pixels, square, interpolation, antialias)
    module.resize(np.ascontiguousarray(pixels[..., ::-1])[..., ::-1], reversed_colors, interpolation, antialias)
    assert np.array_equal(square, reversed_colors)
    return square


@st.composite
def images(draw: st.DrawFn, width: int, height: int) -> Image.Image:
    """Noise in a rectangle on black."""
    left, right = sorted((draw(st.integers(0, width)), draw(st.integers(0, width))))
    top, bottom = sorted((draw(st.integers(0, height)), draw(st.integers(0, height))))
    pixels = np.zeros((height, width, 3), np.uint8)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels[top:bottom, left:right] = random.integers(0, 256, (bottom - top, right - left, 3))
    return Image.fromarray(pixels)


@settings(max_examples=200, deadline=None)
@given(st.data(), SIZES, SIZES, SIZES, st.sampled_from(FILTERS))
def test_antialiased_has_the_bits_of_pillow(
    data: st.DataObject, width: int, height: int, size: int, interpolation: str
) -> None:
    image = data.draw(images(width, data.draw(st.sampled_from((width, height)))))
    expected = image.resize((size, size), Image.Resampling[interpolation.upper()])
    assert np.array_equal(resize(image, size, interpolation, True), expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [224, 299])
def test_size_of_the_data_set_has_the_bits_of_pillow(size: int, interpolation: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(6):
        pixels = np.zeros((450, 450, 3), np.uint8)
        top, left = random.integers(0, 200, 2)
        pixels[top : top + 210, left : left + 190] = random.integers(0, 256, (210, 190, 3))
        image = Image.fromarray(pixels)
        expected = image.resize((size, size), Image.Resampling[interpolation.upper()])
        assert np.array_equal(resize(image, size, interpolation, True), expected)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=st.sampled_from(((5, 7, 9), (31, 64, 32), (90, 64, 9), (64, 64, 20), (31, 5, 50))))
@pytest.mark.parametrize(("interpolation", "method"), [("bilinear", "linear"), ("bicubic", "cubic")])
def test_not_antialiased_equals_jax(
    data: st.DataObject, shape: tuple[int, int, int], interpolation: str, method: str
) -> None:
    width, height, size = shape
    image = data.draw(images(width, height))
    expected = jax.image.resize(np.asarray(image, np.float32), (size, size, 3), method, antialias=False)
    assert np.abs(resize(image, size, interpolation, False) - np.clip(expected, 0, 255)).max() < 0.51


@pytest.mark.parametrize("interpolation", ["box", "hamming", "lanczos"])
def test_filters_that_are_always_antialiased(interpolation: str) -> None:
    with pytest.raises(ConfigError, match=f"'{interpolation}' is always antialiased; without it use nearest"):
        module.check_interpolation(interpolation, antialias=False)


def test_unknown_filter() -> None:
    with pytest.raises(ConfigError, match="'cubic' is unknown; choose one of nearest"):
        module.check_interpolation("cubic", antialias=True)
