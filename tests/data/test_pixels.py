import io
import struct

import numpy as np
import pytest
from PIL import Image

from alljax.data import cnmc, images, pixels
from alljax.data.archive import open_tree
from alljax.data.dataset import Dataset, Record
from alljax.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)


def encode(image, form="BMP", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def of_one(data, **options):
    return Dataset("folder", ("a", "b"), (Record("x", 0),), read=lambda record: data, **options)


def read(dataset, record):
    found, blue_first = pixels.read(dataset, record)
    return found[..., ::-1] if blue_first else found


def bitmap(bits=24, height=9, packing=0, offset=54, header=40, planes=1):
    """A BMP by hand: NOISE, from the bottom up unless the height is negative."""
    rows = NOISE[:, :, ::-1] if height < 0 else NOISE[::-1, :, ::-1]
    packed = b"".join(row.tobytes() + b"\0" for row in rows)
    start = struct.pack(
        "<2sIIIIiiHHII16x", b"BM", 54 + len(packed), 0, offset, header, 13, height, planes, bits, packing, 0
    )
    return start + bytes(offset - 54) + packed


@pytest.mark.parametrize("width", [1, 2, 3, 4, 13])  # rows are padded to four bytes
def test_plain_bitmaps_are_read_where_they_lie(width):
    data = encode(Image.fromarray(NOISE[:, :width]))
    assert pixels.plain_bitmap(data) is not None
    assert np.array_equal(read(of_one(data), Record("x", 0)), NOISE[:, :width])


def test_a_longer_header():
    data = bitmap(offset=54 + 84, header=124)  # as those of C-NMC's preliminary phase
    assert pixels.plain_bitmap(data) is not None
    assert np.array_equal(read(of_one(data), Record("x", 0)), NOISE)
    assert np.array_equal(images.decode(data, "x"), NOISE)


@pytest.mark.parametrize(
    "data",
    [
        bitmap(height=-9),  # from the top down
        encode(Image.fromarray(NOISE).convert("L")),
        encode(Image.fromarray(NOISE).convert("P")),
        encode(Image.fromarray(NOISE).convert("RGBA")),
        encode(Image.fromarray(NOISE), "PNG"),
        encode(Image.fromarray(NOISE), "TIFF"),
    ],
    ids=["top down", "gray", "palette", "32 bits", "png", "tiff"],
)
def test_all_else_is_left_to_pillow(data):
    assert pixels.plain_bitmap(data) is None
    assert np.array_equal(read(of_one(data), Record("x", 0)), images.decode(data, "x"))


@pytest.mark.parametrize(
    "data",
    [b"", b"BM", bitmap()[:53], bitmap()[:-5], bitmap(offset=600)[:300], b"x" * 1000],
    ids=["empty", "two bytes", "half a header", "five bytes short", "offset beyond the end", "no image"],
)
def test_damage_is_named_as_ever(data):
    with pytest.raises(DataError) as expected:
        images.decode(data, "x")
    with pytest.raises(DataError) as found:
        pixels.read(of_one(data), Record("x", 0))
    assert str(found.value) == str(expected.value)


def test_giant_bitmaps_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="x: more than 100 pixels"):
        pixels.read(of_one(bitmap()), Record("x", 0))


@pytest.mark.parametrize("form", ["BMP", "PNG"])
def test_images_are_cut_like_those_of_load(form):
    dataset = of_one(encode(Image.fromarray(NOISE), form), crops={(13, 9): (6, 4)})
    assert read(dataset, dataset.records[0]).shape == (4, 6, 3)
    assert np.array_equal(read(dataset, dataset.records[0]), images.load(dataset, dataset.records[0]))


@pytest.mark.real
def test_real_cells(cnmc_zip):
    dataset = cnmc.read(open_tree(cnmc_zip))
    for record in dataset.records[::5]:
        assert pixels.plain_bitmap(dataset.read(record)) is not None
        assert np.array_equal(read(dataset, record), images.load(dataset, record))
