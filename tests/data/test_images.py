import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from alljax.data import images
from alljax.data.records import Dataset, Record
from alljax.errors import DataError


def encode(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(image, form="PNG", **options):
    return np.asarray(images.decode(encode(image, form, **options), "x"))


def memory(contents):
    records = tuple(Record(path, number % 2) for number, path in enumerate(contents))
    return Dataset("folder", ("a", "b"), records, read=lambda record: contents[record.path])


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))


@pytest.mark.parametrize("form", ["BMP", "PNG", "TIFF", "PPM"])
def test_rgb_stays_as_it_is(form):
    decoded = images.decode(encode(NOISE, form), "x")
    assert decoded.mode == "RGB"
    assert np.array_equal(decoded, NOISE)


def test_grey_becomes_three_equal_channels():
    grey = NOISE.convert("L")
    assert np.array_equal(pixels(grey), np.stack([grey] * 3, -1))
    assert set(np.unique(pixels(NOISE.convert("1")))) == {0, 255}


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(form):
    values = np.array([[0, 257, 128 * 257, 65535, 300, 30_000]], np.uint16)
    got = pixels(Image.fromarray(values), form)
    assert got[0, :, 0].tolist() == [0, 1, 128, 255, 1, 117]
    assert np.array_equal(got[..., 0], got[..., 2])


def test_transparency_lies_on_black():
    layer = NOISE.convert("RGBA")
    alpha = np.zeros((40, 30), np.uint8)
    alpha[:20], alpha[20:30] = 255, 128
    layer.putalpha(Image.fromarray(alpha))
    got = pixels(layer)
    assert np.array_equal(got[:20], np.asarray(NOISE)[:20])
    assert np.abs(got[20:30] - np.asarray(NOISE)[20:30] * (128 / 255)).max() <= 1
    assert not got[30:].any()


def test_palettes_with_and_without_transparency():
    palette = NOISE.quantize(16)
    assert np.array_equal(pixels(palette), palette.convert("RGB"))
    clear = pixels(palette, transparency=3)
    hidden = np.asarray(palette) == 3
    assert hidden.any()
    assert not clear[hidden].any()
    assert np.array_equal(clear[~hidden], np.asarray(palette.convert("RGB"))[~hidden])


def test_cmyk_jpeg():
    got = pixels(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    assert got.mean((0, 1)) == pytest.approx([255, 0, 0], abs=8)


def test_an_animation_counts_by_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    got = pixels(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert (got == (255, 0, 0)).all()


def test_orientation_is_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert images.decode(encode(NOISE, "JPEG", exif=exif), "x").size == NOISE.size


def truncations():
    # TIFF is left out: cut short, its pixels may be whole and only tags missing.
    return [pytest.param(encode(NOISE, form), id=form) for form in ("BMP", "PNG", "JPEG", "GIF", "PPM", "WEBP")]


@pytest.mark.parametrize("data", truncations())
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(data, share):
    with pytest.raises(DataError, match=r"^a/x\.bmp: (damaged or truncated|not an image).*replace or remove it$"):
        images.decode(data[: int(share * len(data))], "a/x.bmp")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"hello", "not an image"),
        (b"<html>not found</html>" * 100, "not an image"),
        (b"BM" + bytes(100), "damaged|not an image"),
        (encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point"),
        (encode(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"), "more than 16 bits"),
    ],
)
def test_not_usable(data, message):
    with pytest.raises(DataError, match=r"^x\.bmp: (" + message + ")"):
        images.decode(data, "x.bmp")


@pytest.mark.parametrize("side", [12_000, 20_000])
def test_a_decompression_bomb_is_not_opened(side):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"^x\.png: more than 89,478,485 pixels"):
        images.decode(bomb, "x.png")


def test_inspection():
    half = np.zeros((10, 20, 3), np.uint8)
    half[:5, :, 2] = 1
    contents = {
        "1.png": encode(Image.fromarray(half)),
        "2.png": encode(NOISE.convert("L").point(lambda value: max(value, 1))),
        "3.bmp": encode(NOISE, "BMP"),
        "4.png": encode(NOISE.convert("RGBA")),
    }
    seen = []
    found = images.inspect(memory(contents), seen.append)
    assert found.digests == tuple(hashlib.sha256(data).hexdigest() for data in contents.values())
    assert found.areas.dtype == np.float32
    assert found.areas == pytest.approx([0.5, 1, 1, 1], abs=1e-3)
    assert found.modes == {"RGB": 2, "L": 1, "RGBA": 1}
    assert found.sizes == {(20, 10): 1, (30, 40): 3}
    assert sum(seen) == 4


def test_inspection_names_all_that_is_bad():
    good = encode(NOISE)
    contents = {f"{number}.png": good if number % 2 else b"bad" for number in range(14)}
    with pytest.raises(DataError) as caught:
        images.inspect(memory(contents))
    message = str(caught.value)
    assert message.startswith("7 of 14 images cannot be read, replace or remove them: 0.png: not an image; 2.png:")
    assert message.endswith("8.png: not an image; and 2 more")
    assert "\n" not in message
    with pytest.raises(DataError, match=r"^b\.png: empty \(0 bytes\); replace or remove it$"):
        images.inspect(memory({"a.png": good, "b.png": b""}))
