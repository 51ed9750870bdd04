import hashlib
import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from alljax.data import pipeline, synthetic
from alljax.data.records import Dataset, Record
from alljax.errors import ConfigError, DataError


def encode(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(image, form="PNG", **options):
    return np.asarray(pipeline.decode(encode(image, form, **options), "x"))


def memory(contents):
    records = tuple(Record(path, number % 2) for number, path in enumerate(contents))
    return Dataset("folder", ("a", "b"), records, read=lambda record: contents[record.path])


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))


@pytest.mark.parametrize("form", ["BMP", "PNG", "TIFF", "PPM"])
def test_rgb_stays_as_it_is(form):
    decoded = pipeline.decode(encode(NOISE, form), "x")
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
    assert pipeline.decode(encode(NOISE, "JPEG", exif=exif), "x").size == NOISE.size


def truncations():
    # TIFF is left out: cut short, its pixels may be whole and only tags missing.
    return [pytest.param(encode(NOISE, form), id=form) for form in ("BMP", "PNG", "JPEG", "GIF", "PPM", "WEBP")]


@pytest.mark.parametrize("data", truncations())
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(data, share):
    with pytest.raises(DataError, match=r"^a/x\.bmp: (damaged or truncated|not an image).*replace or remove it$"):
        pipeline.decode(data[: int(share * len(data))], "a/x.bmp")


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
        pipeline.decode(data, "x.bmp")


@pytest.mark.parametrize("side", [12_000, 20_000])
def test_a_decompression_bomb_is_not_opened(side):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"^x\.png: more than 89,478,485 pixels"):
        pipeline.decode(bomb, "x.png")


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
    found = pipeline.inspect(memory(contents), seen.append)
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
        pipeline.inspect(memory(contents))
    message = str(caught.value)
    assert message.startswith("7 of 14 images cannot be read, replace or remove them: 0.png: not an image; 2.png:")
    assert message.endswith("8.png: not an image; and 2 more")
    assert "\n" not in message
    with pytest.raises(DataError, match=r"^b\.png: empty \(0 bytes\); replace or remove it$"):
        pipeline.inspect(memory({"a.png": good, "b.png": b""}))


@pytest.fixture(scope="module")
def cells():
    return synthetic.read(5, 53, 60, 1)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_batches_equal_plain_decoding(cells, interpolation):
    resampling = Image.Resampling[interpolation.upper()]
    wanted = [
        np.asarray(Image.open(io.BytesIO(cells.read(record))).resize((24, 24), resampling)) for record in cells.records
    ]
    got = list(pipeline.batches(cells, 24, interpolation, 8))
    assert [batch.images.shape for batch in got] == [(8, 24, 24, 3)] * 7
    assert got[0].images.dtype == np.uint8
    assert [int(batch.mask.sum()) for batch in got] == [8] * 6 + [5]
    assert got[-1].mask.tolist() == [True] * 5 + [False] * 3
    assert not got[-1].images[5:].any()
    assert np.array_equal(np.concatenate([batch.images[batch.mask] for batch in got]), wanted)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads_gives_the_same_order(threads):
    def slow_at_first(record):
        time.sleep(0.02 if int(record.path) % 5 == 0 else 0)
        return encode(Image.new("RGB", (4, 4), (int(record.path), 0, 0)), "BMP")

    records = tuple(Record(str(number), 0) for number in range(40))
    dataset = Dataset("folder", ("a", "b"), records, slow_at_first)
    got = [batch.images[batch.mask][:, 0, 0, 0] for batch in pipeline.batches(dataset, 4, "nearest", 16, threads)]
    assert np.concatenate(got).tolist() == list(range(40))
    assert pipeline.inspect(dataset, threads=threads).digests == pipeline.inspect(dataset, threads=1).digests


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    dataset = memory({"a.png": encode(Image.fromarray(stripes))})
    (batch,) = pipeline.batches(dataset, 8, "bilinear", 1)
    # Half of the stripes are white; without antialiasing one would get all black or all white.
    assert np.abs(batch.images.astype(int) - 127).max() <= 8


def test_other_shapes_are_stretched():
    dataset = memory({"a.png": encode(Image.new("RGB", (30, 10), (9, 9, 9)))})
    (batch,) = pipeline.batches(dataset, 16, "bilinear", 2)
    assert (batch.images[0] == 9).all()


def test_a_bad_image_is_named_from_within_grain():
    contents = {f"{number}.png": encode(NOISE) for number in range(20)} | {"bad.png": b"x"}
    with pytest.raises(DataError, match=r"^bad\.png: not an image"):
        list(pipeline.batches(memory(contents), 8, "bilinear", 4))


def test_an_unknown_interpolation():
    with pytest.raises(ConfigError, match="'cubic' is unknown; take one of nearest"):
        next(pipeline.batches(memory({"a.png": encode(NOISE)}), 8, "cubic", 4))


def test_threads_end_when_the_batches_are_dropped(cells):
    before = threading.active_count()
    batches = pipeline.batches(cells, 8, "bilinear", 4)
    next(batches)
    batches.close()
    del batches
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before


@pytest.mark.real
def test_real_cells_in_batches(cnmc_zip):
    from alljax.data import cnmc
    from alljax.data.tree import open_tree

    dataset = cnmc.read(open_tree(cnmc_zip))
    found = pipeline.inspect(dataset)
    assert found.sizes == {(450, 450): 526}
    assert found.modes == {"RGB": 526}
    # The background averages 83 % of the pixels.
    assert 0.12 < found.areas.mean() < 0.2
    assert sum(int(batch.mask.sum()) for batch in pipeline.batches(dataset, 224, "bilinear", 32)) == 526
