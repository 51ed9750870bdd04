"""`as_dataset`: arrays, lists of arrays, paths and data sets."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from alljax.data.images import load
from alljax.data.readers import as_dataset
from alljax.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)  # rows of a BMP have padding


def test_images_of_any_kind_are_decoded_to_the_same_pixels(tmp_path: Path) -> None:
    for number, pixels in enumerate(IMAGES):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    kinds = IMAGES, list(IMAGES), jnp.asarray(IMAGES), [*map(Image.open, paths)], paths, [*map(str, paths)], tmp_path
    for images in kinds:
        dataset = as_dataset(images)
        assert as_dataset(dataset) is dataset
        np.testing.assert_array_equal([load(dataset, record) for record in dataset.records], IMAGES)
    mixed = as_dataset([IMAGES[0], IMAGES[1, :2]])
    assert [load(mixed, record).shape for record in mixed.records] == [(5, 7, 3), (2, 7, 3)]


@pytest.mark.parametrize(
    ("images", "found", "fix"),
    [
        ([], "list without images", ""),
        (None, "NoneType without images", ""),
        (np.uint8(3), r"images\[0\]: uint8 \(\)", ""),
        (IMAGES / 255, r"images\[0\]: float64 \(5, 7, 3\) with values up to ", "by 255"),
        (IMAGES.astype(np.int64), r"images\[0\]: int64 \(5, 7, 3\)", ""),
        ([IMAGES[0], IMAGES[0, ..., :1]], r"images\[1\]: uint8 \(5, 7, 1\)", ""),
        (IMAGES.transpose(0, 3, 1, 2), r"uint8 \(3, 5, 7\)", "move channels last"),
        (IMAGES[..., 0], r"uint8 \(5, 7\)", "repeat gray"),
        (IMAGES[0], r"uint8 \(7, 3\)", "single image"),
        (IMAGES // 255, "uint8 with values up to 1", "by 255"),
        (IMAGES[:, :0], r"uint8 \(0, 7, 3\)", ""),
        ([IMAGES[0], "cell.png"], r"images\[1\]: <U8 \(\)", ""),
    ],
)
def test_other_arrays_are_refused_with_what_is_expected(images: object, found: str, fix: str) -> None:
    with pytest.raises(DataError, match=rf"{found}.*expected RGB images, uint8 \(N, H, W, 3\).*{fix}"):
        as_dataset(images)
