"""Decoding of every format that users have, and resizing with the bits of Pillow and the values of tf.image.resize."""

import io
import math
import struct
import zlib

import jax
import numpy as np
import pytest
from data.conftest import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageFile

from alljax.data import cnmc, images
from alljax.data.archive import Archive
from alljax.data.dataset import Dataset, Record
from alljax.errors import DataError

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))


def decoded(image: Image.Image, form: str = "PNG", **options: object) -> np.ndarray:
    return images.decode(encode(image, form, **options), "x")


def bmp(height: int = 40, offset: int = 54, header: int = 40) -> bytes:
    """Returns NOISE as a BMP file, stored bottom-up unless the height is negative."""
    pixels = np.asarray(NOISE)[:, :, ::-1]
    packed = b"".join(row.tobytes() + b"\0\0" for row in (pixels if height < 0 else pixels[::-1]))
    size = 54 + len(packed)
    start = struct.pack("<2sIIIIiiHHII16x", b"BM", size, 0, offset, header, 30, height, 1, 24, 0, 0)
    return start + bytes(offset - 54) + packed


@pytest.mark.parametrize("options", [{"offset": 54 + 84, "header": 124}, {"height": -40}], ids=["v5", "top-down"])
def test_bmp_variants(options: dict) -> None:
    assert np.array_equal(images.decode(bmp(**options), "x"), NOISE)


@pytest.mark.parametrize("form", ["BMP", "PNG", "TIFF", "PPM"])
def test_color_is_unchanged_and_gray_gets_three_equal_channels(form: str) -> None:
    assert np.array_equal(decoded(NOISE, form), NOISE)
    assert np.array_equal(decoded(NOISE.convert("L"), form), np.stack([NOISE.convert("L")] * 3, -1))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(form: str) -> None:
    values = np.array([[0, 257, 128 * 257, 65535, 300, 30_000]], np.uint16)
    assert decoded(Image.fromarray(values), form)[0, :, 0].tolist() == [0, 1, 128, 255, 1, 117]


def test_transparent_pixels_become_black() -> None:
    layer, alpha = NOISE.convert("RGBA"), np.zeros((40, 30), np.uint8)
    alpha[:20], alpha[20:30] = 255, 128
    layer.putalpha(Image.fromarray(alpha))
    got = decoded(layer)
    assert np.array_equal(got[:20], np.asarray(NOISE)[:20])
    assert np.abs(got[20:30] - np.asarray(NOISE)[20:30] * (128 / 255)).max() <= 1
    assert not got[30:].any()
    palette = NOISE.quantize(16)
    hidden = np.asarray(palette) == 3
    assert np.array_equal(decoded(palette), palette.convert("RGB"))
    assert not decoded(palette, transparency=3)[hidden].any()


def test_cmyk_animation_and_orientation() -> None:
    assert decoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG").mean((0, 1)) == pytest.approx(
        [255, 0, 0], abs=8
    )
    red, green = (Image.new("RGB", (8, 8), color) for color in ((255, 0, 0), (0, 255, 0)))
    assert (decoded(red, "TIFF", save_all=True, append_images=[green]) == (255, 0, 0)).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decoded(NOISE, "JPEG", exif=exif).shape == (40, 30, 3)


@pytest.mark.parametrize("form", ["BMP", "PNG", "JPEG", "GIF", "PPM", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_truncated_files(form: str, share: float) -> None:
    data = encode(NOISE, form)
    with pytest.raises(DataError, match=r"^a/x\.bmp: (damaged|not an image).*replace or remove it$"):
        images.decode(data[: int(share * len(data))], "a/x.bmp")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"<html>not found</html>" * 100, "not an image"),
        (b"BM" + bytes(100), "damaged|not an image"),
        (bmp(offset=6000)[:300], "damaged|not an image"),
        (encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), ".*floating-point"),
        (encode(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"), ".*more than 16 bits"),
    ],
    ids=["empty", "html", "zeros", "BMP offset beyond the end", "float", "32 bits"],
)
def test_unusable_files(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"^x\.bmp: ({message})"):
        images.decode(data, "x.bmp")


def png(width: int, height: int) -> bytes:
    """Returns a PNG file whose header declares a size that its pixels do not have."""
    header = b"IHDR" + struct.pack(">2I", width, height) + bytes((8, 2, 0, 0, 0))
    return encode(NOISE)[:12] + header + struct.pack(">I", zlib.crc32(header)) + encode(NOISE)[33:]


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize(
    ("side", "message"),
    [
        (9_400, r"an image of 9,400 × 9,400 pixels needs 0\.27 GB .*0\.25 GB \(ALLJAX_READ_GB=4, .* 16 threads\)"),
        (99_999, r"Image size \(9999800001 pixels\) exceeds limit of \d+ pixels"),
    ],
)
def test_declared_size_is_checked_first(side: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("allocated"))
    with pytest.raises(DataError, match=rf"^x: {message}; replace or remove it$"):
        images.decode(png(side, side), "x")


def test_postscript_named_png_reaches_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: pytest.fail("Ghostscript runs"))
    with pytest.raises(DataError, match=r"^x\.png: not an image in a supported format; replace or remove it$"):
        images.decode(encode(NOISE, "EPS"), "x.png")


def test_crop_of_larger_images() -> None:
    dataset = Dataset(
        "folder", ("a", "b"), (Record("x", 0),), read=lambda record: encode(NOISE), crops={(30, 40): (6, 4)}
    )
    pixels = images.load(dataset, dataset.records[0])
    assert np.array_equal(pixels, np.asarray(NOISE)[18:22, 12:18])
    assert images.pixel_digest(pixels) != images.pixel_digest(np.asarray(NOISE))
    assert images.pixel_digest(decoded(NOISE, "BMP")) == images.pixel_digest(np.asarray(NOISE))


def resized(image: Image.Image, size: int, interpolation: str, antialias: bool) -> np.ndarray:
    square, of_reversed, pixels = *np.zeros((2, size, size, 3), np.uint8), np.asarray(image)
    images.resize(pixels, square, interpolation, antialias)
    images.resize(np.ascontiguousarray(pixels[..., ::-1])[..., ::-1], of_reversed, interpolation, antialias)
    assert np.array_equal(square, of_reversed)
    return square


@st.composite
def cells(draw: st.DrawFn, width: int, height: int) -> Image.Image:
    """Noise in a rectangle on black."""
    left, right = sorted((draw(st.integers(0, width)), draw(st.integers(0, width))))
    top, bottom = sorted((draw(st.integers(0, height)), draw(st.integers(0, height))))
    pixels = np.zeros((height, width, 3), np.uint8)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels[top:bottom, left:right] = random.integers(0, 256, (bottom - top, right - left, 3))
    return Image.fromarray(pixels)


SHAPES = st.one_of(st.tuples(*[st.integers(4, 90)] * 3), st.sampled_from([(450, 450, 224), (450, 450, 299)]))


@settings(max_examples=60, deadline=None)
@given(st.data(), SHAPES, st.sampled_from(FILTERS))
def test_antialiased_has_the_bits_of_pillow(data: st.DataObject, shape: tuple, interpolation: str) -> None:
    width, height, size = shape
    image = data.draw(cells(width, data.draw(st.sampled_from((width, height)))))
    expected = image.resize((size, size), Image.Resampling[interpolation.upper()])
    assert np.array_equal(resized(image, size, interpolation, True), expected)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=st.sampled_from(((5, 7, 9), (31, 64, 32), (90, 64, 9), (64, 64, 20), (31, 5, 50))))
def test_not_antialiased_equals_jax(data: st.DataObject, shape: tuple[int, int, int]) -> None:
    width, height, size = shape
    image = data.draw(cells(width, height))
    expected = jax.image.resize(np.asarray(image, np.float32), (size, size, 3), "linear", antialias=False)
    assert np.abs(resized(image, size, "bilinear", False) - np.clip(expected, 0, 255)).max() < 0.51


@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=st.sampled_from(((450, 450, 224), (450, 300, 65), (90, 64, 9), (31, 5, 50))))
def test_rectangles_and_bands_do_not_change_bits(data: st.DataObject, shape: tuple[int, int, int]) -> None:
    *lengths, size = shape
    image = data.draw(cells(*lengths))
    expected = np.asarray(image, np.float32)
    for axis, length in enumerate(expected.shape[:2]):
        centers = ((np.arange(size) + 0.5) * length / size - 0.5).clip(0, length - 1)
        first = np.floor(centers).astype(int)
        weight = np.expand_dims((centers - first), (1 - axis, 2))
        after = expected.take((first + 1).clip(max=length - 1), axis) * (1 - np.abs(weight - 1)).astype(np.float32)
        expected = expected.take(first, axis) * (1 - weight).astype(np.float32) + after
    assert np.array_equal(resized(image, size, "bilinear", False), np.rint(expected))


@pytest.mark.real
def test_real_images_equal_pillow(cnmc_zip) -> None:
    dataset = cnmc.read_cnmc(Archive(cnmc_zip))
    for record in dataset.records[::9]:
        data = dataset.read(record)
        assert np.array_equal(images.decode(data, "x"), Image.open(io.BytesIO(data)))


def test_masked_cells_keep_outline_and_background() -> None:
    cell = np.zeros((8, 10, 3), np.uint8)
    cell[2:5, 3:7] = [200, 0, 30]
    cell[3, 4] = 0  # a black pixel inside
    masked = images.mask_cell(cell)
    assert (masked == np.where(cell.any(2)[..., None], 128, 0)).all()
    field = np.random.default_rng(0).integers(129, 256, (40, 60, 3), np.uint8)
    gray = (images.mask_cell(field) == 128).all(2)
    assert np.array_equal(images.mask_cell(field)[~gray], field[~gray])
    assert gray[20, 30]
    assert gray.sum() == pytest.approx(math.pi * 10 * 15, rel=0.05)
