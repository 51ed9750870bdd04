"""Near duplicates on generated and real images."""

import io
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from data.conftest import encode
from PIL import Image

from alljax.data import images, synthetic
from alljax.data.duplicates import near_pairs, reduce
from alljax.data.readers import open_all

T, R = Image.Transpose, Image.Resampling


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, "JPEG", quality=quality)))


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize([round(factor * side) for side in image.size], R.BILINEAR)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "rotated 90": lambda image: image.transpose(T.ROTATE_90),
    "rotated 270": lambda image: image.transpose(T.ROTATE_270),
    "rotated 180": lambda image: image.transpose(T.ROTATE_180),
    "mirrored": lambda image: image.transpose(T.FLIP_LEFT_RIGHT),
    "mirrored and rotated": lambda image: image.transpose(T.TRANSVERSE),
    "JPEG 75": lambda image: jpeg(image, 75),
    "JPEG 50": lambda image: jpeg(image, 50),
    "50 %": lambda image: scaled(image, 0.5),
    "110 %": lambda image: scaled(image, 1.1),
    "all": lambda image: jpeg(scaled(image.transpose(T.TRANSPOSE), 0.9), 75),
}


def reduced(pictures: Iterable[Image.Image]) -> list[np.ndarray]:
    return [reduce(np.asarray(picture.convert("RGB"))) for picture in pictures]


@pytest.fixture(scope="module")
def cells() -> list[Image.Image]:
    made = synthetic.read_synthetic(6, 20, 225, 0)
    return [Image.open(io.BytesIO(made.read(record))) for record in made.records]


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_nothing_else(cells: list[Image.Image], kind: str) -> None:
    pairs = near_pairs(reduced([*cells, *map(COPIES[kind], cells)]))
    assert pairs.tolist() == [[row, row + 20] for row in range(20)]


def test_constant_and_tiny_images_are_no_pairs() -> None:
    blank = [Image.new("RGB", (20 + shade, 20), (shade,) * 3) for shade in (0, 0, 100, 255)]
    tiny = [Image.new("RGB", size, (9, 9, 9)) for size in ((1, 1), (1, 7), (3, 1))]
    assert len(near_pairs(reduced([*blank, *tiny]))) == 0
    assert near_pairs([]).shape == (0, 2)


@pytest.mark.real
@pytest.mark.parametrize("step", [24, pytest.param(1, marks=pytest.mark.long)])
def test_real_copies(cnmc_zip, step: int) -> None:
    dataset = open_all(str(cnmc_zip))
    pictures = [Image.fromarray(images.decode(dataset.read(record), record.path)) for record in dataset.records[::step]]
    small = reduced(pictures)
    for copy in COPIES.values():
        pairs = near_pairs(small + reduced(map(copy, pictures))).tolist()
        assert all([row, row + len(small)] in pairs for row in range(len(small)))
