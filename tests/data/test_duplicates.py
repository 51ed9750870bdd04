"""Exact and near duplicates on generated and real images."""

import io
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from PIL import Image

from alljax.data import duplicates, images, synthetic
from alljax.data.dataset import Dataset, Record
from alljax.data.duplicates import compute_fingerprints, exact_groups, near_pairs
from alljax.data.readers import open_all

T, R = Image.Transpose, Image.Resampling


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, "JPEG", quality=quality)))


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize([round(factor * side) for side in image.size], R.BILINEAR)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "rotated 90": lambda image: image.transpose(T.ROTATE_90),
    "rotated 180": lambda image: image.transpose(T.ROTATE_180),
    "mirrored": lambda image: image.transpose(T.FLIP_LEFT_RIGHT),
    "mirrored and rotated": lambda image: image.transpose(T.TRANSVERSE),
    "JPEG 75": lambda image: jpeg(image, 75),
    "JPEG 50": lambda image: jpeg(image, 50),
    "50 %": lambda image: scaled(image, 0.5),
    "110 %": lambda image: scaled(image, 1.1),
    "all": lambda image: jpeg(scaled(image.transpose(T.TRANSPOSE), 0.9), 75),
}


def memory(contents: dict[str, bytes]) -> Dataset:
    return Dataset("folder", ("a",), tuple(Record(path, 0) for path in contents), lambda record: contents[record.path])


def fingerprints(pictures: Iterable[Image.Image]) -> duplicates.Fingerprints:
    return compute_fingerprints(memory({f"{number}.png": encode(each) for number, each in enumerate(pictures)}))


@pytest.fixture(scope="module")
def cells() -> list[Image.Image]:
    made = synthetic.read_synthetic(6, 20, 225, 0)
    return [Image.open(io.BytesIO(made.read(record))) for record in made.records]


def test_equal_pixels_in_any_format(cells: list[Image.Image]) -> None:
    first, second = cells[0], cells[1]
    contents = {
        "a.bmp": encode(first, "BMP"),
        "b.png": encode(second),
        "c.tif": encode(first, "TIFF", compression="tiff_lzw"),
        "d.png": encode(second.transpose(T.ROTATE_90)),
        "e.bmp": encode(second, "BMP"),
        "f.png": b"no image",
    }
    found = compute_fingerprints(memory(contents))
    assert exact_groups(found.pixels) == [[0, 2], [1, 4]]
    assert found.unreadable == {"f.png": "not an image"}
    wide = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(4, 8, 3))
    assert exact_groups(fingerprints([wide, Image.frombytes("RGB", (4, 8), wide.tobytes())]).pixels) == []


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_nothing_else(cells: list[Image.Image], kind: str) -> None:
    small = np.concatenate([fingerprints(cells).small, fingerprints(COPIES[kind](cell) for cell in cells).small])
    assert near_pairs(small).tolist() == [[row, row + 20] for row in range(20)]


def test_pairs_do_not_depend_on_the_order(cells: list[Image.Image]) -> None:
    small = fingerprints([*cells, *(cell.transpose(T.ROTATE_90) for cell in cells[:7])]).small
    expected = {frozenset((row, 20 + row)) for row in range(7)}
    assert {frozenset(pair) for pair in near_pairs(small).tolist()} == expected
    assert {frozenset(26 - row for row in pair) for pair in near_pairs(small[::-1]).tolist()} == expected


def test_constant_and_tiny_images_are_no_pairs() -> None:
    blank = [Image.new("RGB", (20 + shade, 20), (shade,) * 3) for shade in (0, 0, 100, 255)]
    tiny = [Image.new("RGB", size, (9, 9, 9)) for size in ((1, 1), (1, 7), (3, 1))]
    assert len(near_pairs(fingerprints([*blank, *tiny]).small)) == 0
    assert near_pairs(fingerprints([]).small).shape == (0, 2)


@pytest.mark.real
@pytest.mark.parametrize("step", [24, pytest.param(1, marks=pytest.mark.long)])
def test_real_copies(cnmc_zip, step: int) -> None:
    dataset = open_all(str(cnmc_zip))
    pictures = [Image.fromarray(images.decode(dataset.read(record), record.path)) for record in dataset.records[::step]]
    small = fingerprints(pictures).small
    for copy in COPIES.values():
        pairs = near_pairs(np.concatenate([small, fingerprints(map(copy, pictures)).small])).tolist()
        assert all([row, row + len(small)] in pairs for row in range(len(small)))


@pytest.mark.real
def test_real_near_duplicates(cnmc_zip) -> None:
    dataset = open_all(str(cnmc_zip))
    found = compute_fingerprints(dataset)
    names = [record.path.rpartition("UID_")[2].removesuffix(".bmp") for record in dataset.records]
    assert [{names[row] for row in group} for group in exact_groups(found.pixels)] == [
        {"20_1_1_all", "21_1_1_all"},
        {"20_1_2_all", "21_1_2_all"},
        {"H2_26_1_hem", "H4_7_1_hem"},
    ]
    first = [row for row, digest in enumerate(found.pixels) if found.pixels.index(digest) == row]
    pairs = [sorted(names[first[row]].split("_")[:2] for row in pair) for pair in near_pairs(found.small[first])]
    assert len(pairs) == 20
    two_names = [pair for pair in pairs if pair[0][0] != pair[1][0]]
    assert [{one[0], other[0]} for one, other in two_names] == [{"H2", "H6"}, {"H2", "H6"}, {"H10", "h3"}]
    assert all(one[1] != other[1] for one, other in pairs if one[0] == other[0]), "two fields of one subject"
