import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from alljax.data import images, pipeline, synthetic
from alljax.data.records import Dataset, Record
from alljax.errors import ConfigError, DataError


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
    assert images.inspect(dataset, threads=threads).digests == pipeline.inspect(dataset, threads=1).digests


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
    found = images.inspect(dataset)
    assert found.sizes == {(450, 450): 526}
    assert found.modes == {"RGB": 526}
    # The background averages 83 % of the pixels.
    assert 0.12 < found.areas.mean() < 0.2
    assert sum(int(batch.mask.sum()) for batch in pipeline.batches(dataset, 224, "bilinear", 32)) == 526
