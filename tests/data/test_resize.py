import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alljax.data import resize as module
from alljax.data.resize import check
from alljax.errors import ConfigError
from alljax.models.backbones import INTERPOLATIONS


def resize(pixels, size, interpolation, antialias):
    squared = np.zeros((size, size, 3), np.uint8)
    module.resize(np.asarray(pixels), squared, interpolation, antialias)
    turned = np.zeros((size, size, 3), np.uint8)
    module.resize(np.asarray(pixels)[..., ::-1], turned[..., ::-1], interpolation, antialias)
    assert np.array_equal(squared, turned)
    return squared


SIZES = st.integers(4, 90)


@st.composite
def pictures(draw, width, height):
    """Noise in a rectangle on black; seldom all black or all noise."""
    left, right = sorted((draw(st.integers(0, width)), draw(st.integers(0, width))))
    top, bottom = sorted((draw(st.integers(0, height)), draw(st.integers(0, height))))
    pixels = np.zeros((height, width, 3), np.uint8)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels[top:bottom, left:right] = random.integers(0, 256, (bottom - top, right - left, 3))
    return Image.fromarray(pixels)


def test_known_are_the_filters_of_the_catalogue():
    for interpolation in INTERPOLATIONS:
        check(interpolation, antialias=True)


@settings(max_examples=400, deadline=None)
@given(st.data(), SIZES, SIZES, SIZES, st.sampled_from(INTERPOLATIONS))
def test_antialiased_has_the_bits_of_pillow(data, width, height, size, interpolation):
    image = data.draw(pictures(width, data.draw(st.sampled_from((width, height)))))
    wanted = image.resize((size, size), Image.Resampling[interpolation.upper()])
    assert np.array_equal(resize(image, size, interpolation, True), wanted)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [224, 96, 299])
def test_the_usual_size_has_the_bits_of_pillow(size, interpolation):
    random = np.random.default_rng(0)
    for _ in range(12):
        pixels = np.zeros((450, 450, 3), np.uint8)
        top, left = random.integers(0, 200, 2)
        pixels[top : top + 210, left : left + 190] = random.integers(0, 256, (210, 190, 3))
        image = Image.fromarray(pixels)
        wanted = image.resize((size, size), Image.Resampling[interpolation.upper()])
        assert np.array_equal(resize(image, size, interpolation, True), wanted)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), shape=st.sampled_from(((5, 7, 9), (31, 64, 32), (90, 64, 9), (64, 64, 20), (31, 5, 50))))
@pytest.mark.parametrize(("interpolation", "theirs"), [("bilinear", "linear"), ("bicubic", "cubic")])
def test_not_antialiased_is_what_jax_computes(data, shape, interpolation, theirs):
    width, height, size = shape
    image = data.draw(pictures(width, height))
    wanted = jax.image.resize(np.asarray(image, np.float32), (size, size, 3), theirs, antialias=False)
    assert np.abs(resize(image, size, interpolation, False) - np.clip(wanted, 0, 255)).max() < 0.51


def test_not_antialiased_takes_the_nearest_pixels_by_hand():
    # Pixel 0 of 2 has its center at 2 of 8 pixels, the border between the second and the third: their mean.
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :, 0] = [0, 10, 20, 90, 0, 40, 61, 0]
    assert resize(pixels, 2, "bilinear", False)[..., 0].tolist() == [[15, 50], [15, 50]]
    assert resize(pixels, 2, "bilinear", True)[..., 0].tolist() != [[15, 50], [15, 50]]


def test_antialiasing_averages_stripes():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, 1::4] = stripes[:, 2::4] = 255
    # Half of the stripes are white; between two output centers lie two periods.
    assert np.abs(resize(stripes, 8, "bilinear", True).astype(int) - 127).max() <= 8
    assert set(np.unique(resize(stripes, 8, "bilinear", False))) <= {0, 128, 255}


@pytest.mark.parametrize("antialias", [True, False])
def test_black_stays_black(antialias):
    assert not resize(np.zeros((40, 50, 3), np.uint8), 16, "bilinear", antialias).any()


@pytest.mark.parametrize("interpolation", ["box", "hamming", "lanczos"])
def test_filters_that_are_always_antialiased(interpolation):
    with pytest.raises(ConfigError, match=f"'{interpolation}' is always antialiased here; without it take nearest"):
        check(interpolation, antialias=False)
