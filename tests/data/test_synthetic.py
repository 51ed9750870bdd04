import hashlib
import io
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from alljax.data.inspection import inspect
from alljax.data.synthetic import read_synthetic, render_cell
from alljax.errors import ConfigError


@pytest.mark.parametrize(("subjects", "images"), [(2, 2), (3, 100), (24, 600), (101, 101)])
def test_records_are_named_like_the_real_ones(subjects, images):
    dataset = read_synthetic(subjects, images, 32, 7)
    assert dataset.classes == ("hem", "all")
    assert len({r.path for r in dataset.records}) == images
    assert len({r.subject for r in dataset.records}) == len({(r.subject, r.label) for r in dataset.records}) == subjects
    for record in dataset.records:
        match = re.fullmatch(r"UID_(H?\d+)_(\d+)_(\d+)_(all|hem)\.bmp", record.path)
        assert match.groups() == (record.subject, record.field, record.cell, dataset.classes[record.label])
        assert record.subject.startswith("H") == (record.label == 0)
    with pytest.raises(ConfigError, match=r"data\.synthetic\.images=9 must be at least data\.synthetic\.subjects=10"):
        read_synthetic(10, 9, 32, 0)


def test_images_are_rgb_on_black():
    dataset = read_synthetic(24, 60, 224, 0)
    colors = []
    for record in dataset.records:
        image = Image.open(io.BytesIO(dataset.read(record)))
        assert (image.format, image.mode, image.size) == ("BMP", "RGB", (224, 224))
        pixels = np.asarray(image)
        cell = pixels.any(-1)
        assert 0.04 < cell.mean() < 0.5
        assert cell[1:-1, 1:-1].sum() == cell.sum(), "the cell is inside the image"
        colors.append(pixels[cell].mean(0))
    # The mean of the real cells is (69, 30, 80).
    assert np.mean(colors, axis=0) == pytest.approx([69, 30, 80], abs=8)


@pytest.mark.parametrize("size", [8, 33, 450])
def test_pixels_and_sizes(size):
    pixels = render_cell(0, "3", 1, 1, 64)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "170a60548c783ad0"
    other = render_cell(0, "3", 1, 1, size)
    assert other.shape == (size, size, 3)
    assert other.any(-1).mean() == pytest.approx(pixels.any(-1).mean(), rel=0.15)


def test_cells_depend_only_on_seed_subject_field_and_cell():
    def contents(subjects, images, seed):
        dataset = read_synthetic(subjects, images, 48, seed)
        return {record.path: dataset.read(record) for record in dataset.records}

    few, many = contents(4, 20, 3), contents(9, 200, 3)
    shared = few.keys() & many.keys()
    assert len(shared) >= 10
    assert all(few[path] == many[path] for path in shared)
    assert len(set(many.values())) == len(many), "all cells differ"
    other = contents(4, 20, 4)
    assert not any(few[path] == other[path] for path in few.keys() & other.keys())


def test_size_is_as_informative_as_in_the_real_data():
    dataset = read_synthetic(73, 3_000, 32, 0)
    labels, areas = np.array([r.label for r in dataset.records]), inspect(dataset)[1].areas
    assert roc_auc_score(labels, areas) == pytest.approx(0.82, abs=0.04)
    # Real cells, of 450 × 450 pixels: HEM 26,544 ± 7,762, ALL 36,244 ± 7,176.
    by_class = [areas[labels == label] * 450**2 for label in (0, 1)]
    assert [values.mean() for values in by_class] == pytest.approx([26_544, 36_244], abs=2_500)
    assert [values.std() for values in by_class] == pytest.approx([7_762, 7_176], abs=1_500)
