import io
import re
import time
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from alljax.data import images, synthetic
from alljax.data.source import open_source
from alljax.errors import ConfigError


def test_records_are_named_like_the_real_ones():
    dataset = synthetic.read(24, 600, 224, 0)
    assert dataset.classes == ("hem", "all")
    assert len(dataset.records) == len({r.path for r in dataset.records}) == 600
    labels = defaultdict(set)
    for record in dataset.records:
        match = re.fullmatch(r"UID_(H?\d+)_(\d+)_(\d+)_(all|hem)\.bmp", record.path)
        assert match.groups() == (record.subject, record.field, record.cell, dataset.classes[record.label])
        assert record.subject.startswith("H") == (record.label == 0)
        labels[record.subject].add(record.label)
    assert len(labels) == 24
    assert all(len(seen) == 1 for seen in labels.values())
    sizes = sorted(Counter(r.subject for r in dataset.records).values())
    assert sizes[0] >= 1
    assert sizes[-1] > 3 * sizes[12], "subjects are unequal in size"
    assert 0.4 < np.mean([r.label for r in dataset.records]) < 0.8


@pytest.mark.parametrize(("subjects", "images"), [(2, 2), (3, 100), (101, 101), (200, 12_345)])
def test_any_number(subjects, images):
    dataset = synthetic.read(subjects, images, 32, 7)
    assert len(dataset.records) == images
    assert len({r.subject for r in dataset.records}) == subjects
    assert {r.label for r in dataset.records} == {0, 1}


@pytest.mark.parametrize("numbers", [(1, 10, 32, 0), (10, 9, 32, 0), (2, 2, 7, 0), (2, 2, 32, -1)])
def test_impossible_numbers(numbers):
    with pytest.raises(ConfigError, match=r"data\.synthetic needs"):
        synthetic.read(*numbers)


def test_an_image_is_an_rgb_bmp_on_pure_black():
    dataset = synthetic.read(6, 30, 224, 0)
    colours = []
    for record in dataset.records:
        image = Image.open(io.BytesIO(dataset.read(record)))
        assert (image.format, image.mode, image.size) == ("BMP", "RGB", (224, 224))
        pixels = np.asarray(image)
        cell = pixels.any(-1)
        assert 0.04 < cell.mean() < 0.5
        assert cell[1:-1, 1:-1].sum() == cell.sum(), "the cell lies within the image"
        colours.append(pixels[cell].mean(0))
    # The real cells' mean is (69, 30, 80).
    assert np.mean(colours, axis=0) == pytest.approx([69, 30, 80], abs=8)


@pytest.mark.parametrize("size", [8, 33, 64])
def test_other_sizes(size):
    pixels = synthetic.cell_image(0, "3", 1, 1, size)
    assert pixels.shape == (size, size, 3)
    assert 0.04 < pixels.any(-1).mean() < 0.6


def test_a_cell_depends_on_seed_subject_field_and_cell_alone():
    def contents(subjects, images, seed):
        dataset = synthetic.read(subjects, images, 48, seed)
        return {record.path: dataset.read(record) for record in dataset.records}

    few, many = contents(4, 20, 3), contents(9, 200, 3)
    shared = few.keys() & many.keys()
    assert len(shared) >= 10
    assert all(few[path] == many[path] for path in shared)
    assert len(set(many.values())) == len(many), "no two cells are alike"
    other = contents(4, 20, 4)
    assert not any(few[path] == other[path] for path in few.keys() & other.keys())


def test_size_says_much_but_not_all(settings):
    aucs = []
    for seed in range(3):
        made = settings("synthetic").synthetic
        made.__dict__.update(subjects=24, images=600, image_size=64, seed=seed)
        dataset = open_source(settings("synthetic", synthetic=made))
        labels = np.array([r.label for r in dataset.records])
        areas = images.inspect(dataset).areas
        cuts = np.quantile(areas, np.linspace(0, 1, 200))
        assert 0.7 < max(np.mean((areas > cut) == labels) for cut in cuts) < 0.88
        aucs.append(roc_auc_score(labels, areas))
        # Means near the real ones: .131 and .179 of the image.
        assert areas[labels == 0].mean() == pytest.approx(0.131, abs=0.02)
        assert areas[labels == 1].mean() == pytest.approx(0.179, abs=0.02)
    assert 0.78 < np.mean(aucs) < 0.92


def test_people_differ_more_than_their_own_cells():
    def colour(subject, cell):
        pixels = synthetic.cell_image(0, subject, 1, cell, 64)
        return pixels[pixels.any(-1)].mean()

    cells = np.array([[colour(str(subject), cell) for cell in range(12)] for subject in range(1, 25)])
    within = cells.var(axis=1, ddof=1).mean()
    between = cells.mean(axis=1).var(ddof=1) - within / 12
    assert between > 0.5 * within


def test_fast_enough():
    dataset = synthetic.read(4, 40, 224, 0)
    times = []
    for record in dataset.records:
        start = time.process_time()
        dataset.read(record)
        times.append(time.process_time() - start)
    assert np.median(times) < 0.03, "8 ms is the aim; this leaves room for a busy machine"
