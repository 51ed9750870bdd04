import dataclasses
import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from alljax.data import images
from alljax.data.dataset import Dataset, Record, check
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


def test_gray_becomes_three_equal_channels():
    gray = NOISE.convert("L")
    assert np.array_equal(pixels(gray), np.stack([gray] * 3, -1))
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
    frames = [Image.new("RGB", (8, 8), color) for color in ((255, 0, 0), (0, 255, 0))]
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


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, color, pixels):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def bmp(width, height, size):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, size, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + size, 0, 0, 54) + header + bytes(size)


@pytest.mark.parametrize("side", [12_000, 20_000])
@pytest.mark.parametrize("make", [lambda side: png(side, side, 8, 2, bytes(1000)), lambda side: bmp(side, side, 1000)])
def test_a_decompression_bomb_is_not_opened(side, make, monkeypatch):
    # Whoever loads the pixels would have to allocate them; Pillow's message would then be another.
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("allocated"))
    contents = {"a.png": encode(NOISE), "x.png": make(side)}
    with pytest.raises(
        DataError, match=r"^x\.png: more than 89,478,485 pixels, no picture of a cell; replace or remove"
    ):
        images.decode(contents["x.png"], "x.png")
    monkeypatch.undo()
    assert images.inspect(memory(contents), on_error="skip").unreadable == {
        "x.png": "more than 89,478,485 pixels, no picture of a cell"
    }


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["L", "RGB", "LA", "RGBA"])
def test_sixteen_bits_a_channel(color, channels):
    values = np.array([[0, 257, 128 * 257, 65535, 30_000]], ">u2")
    rows = np.repeat(values[..., None], channels, axis=2)
    if channels in (2, 4):
        rows[..., -1] = 65535  # opaque
    got = np.asarray(images.decode(png(5, 1, 16, color, b"\0" + rows.tobytes()), "x.png"))
    assert np.abs(got.astype(int) - np.array([0, 1, 128, 255, 117])[:, None]).max() <= 1


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
    assert found.pixels[1] != found.pixels[2] == found.pixels[3] != found.pixels[0]
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


def test_the_digest_of_pixels_is_that_of_the_whole_image():
    large = np.zeros((60, 60, 3), np.uint8)
    large[0, 0] = 9  # outside of what is cut out
    contents = {"1.png": encode(Image.fromarray(large)), "2.png": encode(Image.new("RGB", (60, 60)))}
    dataset = dataclasses.replace(memory(contents), crops={(60, 60): (40, 40)})
    found = images.inspect(dataset)
    assert found.sizes == {(40, 40): 2}
    assert len(set(found.pixels)) == 2
    assert found.pixels[0] == images.inspect(memory(contents)).pixels[0]


def test_unreadable_images_among_thousands_are_left_out_and_named():
    good, gray = encode(NOISE), encode(NOISE.convert("L"))
    contents = {f"{number}.png": (good, gray)[number % 2] for number in range(3000)}
    contents |= {"70.png": b"", "1501.png": good[:500], "2999.png": b"hello"}
    dataset = memory(contents)
    found = images.inspect(dataset, on_error="skip", threads=4)
    assert list(found.unreadable) == ["70.png", "1501.png", "2999.png"]
    assert found.unreadable["70.png"] == "empty (0 bytes)"
    assert found.unreadable["2999.png"] == "not an image"
    assert found.modes == {"RGB": 1499, "L": 1498}
    left = images.readable(dataset, found)
    assert len(left.records) == len(found.digests) == len(found.areas) == len(found.pixels) == 2997
    assert [record.path for record in left.records] == [path for path in contents if path not in found.unreadable]
    wanted = [hashlib.sha256(contents[record.path]).hexdigest() for record in left.records]
    assert list(found.digests) == wanted
    (note,) = left.notes
    assert note.startswith("3 images left out, cannot be read (data.on_error=skip): 70.png (empty (0 bytes)), 1501.png")
    assert note.endswith("2999.png (not an image)")
    assert "replace or remove" not in note
    assert check(left, "source") is left


def test_nothing_to_leave_out():
    dataset = memory({"a.png": encode(NOISE), "b.png": encode(NOISE)})
    assert images.readable(dataset, images.inspect(dataset, on_error="skip")) is dataset


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (range(0, 8), r"^source: no labeled images found \(8 images left out, cannot be read .* and 3 more\)"),
        (range(1, 8, 2), r"^source: class 'b' has no image"),
    ],
)
def test_a_set_or_class_of_which_nothing_can_be_read(bad, message):
    contents = {f"{number}.png": b"bad" if number in bad else encode(NOISE) for number in range(8)}
    dataset = memory(contents)
    left = images.readable(dataset, images.inspect(dataset, on_error="skip"))
    with pytest.raises(DataError, match=message):
        check(left, "source")


def test_files_that_cannot_be_opened_are_left_out_too():
    def read(record):
        raise DataError(f"cannot read /there/{record.path}: Permission denied")

    dataset = dataclasses.replace(memory({"a.png": b""}), read=read)
    found = images.inspect(dataset, on_error="skip")
    assert found.unreadable == {"a.png": "cannot read /there/a.png: Permission denied"}
