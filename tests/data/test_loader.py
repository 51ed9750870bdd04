"""Batches: their order, padding and sharding, for any number of threads and hosts."""

import io
import threading

import numpy as np
import pytest
from data.conftest import encode
from PIL import Image

from alljax import files
from alljax.data import folder, loader, synthetic
from alljax.data.archive import Archive
from alljax.data.dataset import Dataset, Record
from alljax.data.loader import ImageReader, Sampler, load_batches
from alljax.errors import DataError

FIELDS = ("images", "labels", "rows", "mask")


def numbered(count: int) -> ImageReader:
    """Images whose pixels are their number."""
    files = {str(number): encode(Image.new("RGB", (4, 4), (number, 0, 0))) for number in range(count)}
    records = tuple(Record(path, int(path) % 3) for path in files)
    return ImageReader(Dataset("folder", ("a", "b", "c"), records, lambda record: files[record.path]), 4, "nearest")


def rows_of(loader) -> list[list[int]]:
    """Returns the rows of each batch after checking that images, labels and mask agree with them."""
    seen = []
    for batch in loader:
        assert [getattr(batch, name).dtype for name in FIELDS] == [np.uint8, np.int32, np.int32, np.bool_]
        assert np.array_equal(batch.images[:, 0, 0, 0], batch.rows)
        assert np.array_equal(batch.labels, batch.rows % 3)
        assert not batch.rows[~batch.mask].any()
        seen.append(batch.rows[batch.mask].tolist())
    return seen


def sampler(count: int, batch_size: int, epochs: int = 1, **options) -> Sampler:
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(count, dtype=np.int32), (epochs, 1)), axis=1)
    return Sampler(orders if epochs > 1 else np.arange(count, dtype=np.int32), batch_size, **options)


def test_batches_equal_plain_decoding() -> None:
    dataset = synthetic.read_synthetic(5, 53, 60, 1)
    files = [Image.open(io.BytesIO(dataset.read(record))) for record in dataset.records]
    expected = [np.asarray(file.resize((24, 24), Image.Resampling.BICUBIC)) for file in files]
    found = list(load_batches(ImageReader(dataset, 24, "bicubic"), sampler(53, 8)))
    assert found[-1].mask.tolist() == [True] * 5 + [False] * 3
    assert not found[-1].images[5:].any()
    assert np.array_equal(np.concatenate([batch.images for batch in found])[:53], expected)
    assert np.concatenate([batch.labels for batch in found])[:53].tolist() == [each.label for each in dataset.records]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_the_global_batches(processes: int) -> None:
    expected = list(load_batches(numbered(13), sampler(13, 5, epochs=2, multiple=8)))
    parts = [
        list(load_batches(numbered(13), sampler(13, 5, epochs=2, multiple=8, shard=(index, processes))))
        for index in range(processes)
    ]
    for number, batch in enumerate(expected):
        assert len(batch.rows) == 8
        for name in FIELDS:
            shares = [getattr(part[number], name) for part in parts]
            assert {len(share) for share in shares} == {8 // processes}
            assert np.array_equal(np.concatenate(shares), getattr(batch, name))
    assert rows_of(expected) == rows_of(load_batches(numbered(13), sampler(13, 5, epochs=2)))


def test_any_start_continues_exactly() -> None:
    complete = rows_of(load_batches(numbered(11), sampler(11, 4, epochs=3)))
    for start in range(len(complete) + 1):
        assert rows_of(load_batches(numbered(11), sampler(11, 4, epochs=3), start=start)) == complete[start:]


def test_threads_end_when_batches_are_dropped() -> None:
    before = threading.active_count()
    some = load_batches(numbered(40), sampler(40, 4))
    next(some)
    some.close()
    assert threading.active_count() <= before


def test_an_unreadable_image_is_named(plant) -> None:
    bad = ImageReader(folder.read_folder(Archive(plant({"a/1.png": None, "b/2.png": b"bad"}))), 8)
    with pytest.raises(DataError, match=r"^b/2\.png: not an image"):
        list(load_batches(bad, sampler(2, 1)))


class CountingReader(ImageReader):
    """Counts the decoded images."""

    def take(self, rows, mask):
        self.__dict__["decoded"] = self.__dict__.get("decoded", 0) + int(mask.sum())
        return super().take(rows, mask)


def test_batches_are_equal_and_decoded_once() -> None:
    reader = CountingReader(synthetic.read_synthetic(4, 23, 40, 1), 16)
    rows = np.random.default_rng(0).permuted(np.tile(np.arange(23), (3, 1)), axis=1)[:, :19]
    sampler = Sampler(rows, 4)
    expected = list(load_batches(reader, sampler))
    reader.__dict__["decoded"] = 0
    cached = loader.cache_images("auto", reader)
    batches = list(load_batches(cached, sampler))
    assert reader.decoded == 23
    for ours, theirs in zip(batches, expected, strict=True):
        for name in ("images", "labels", "rows", "mask"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    assert loader.cache_images("none", reader) is reader


@pytest.mark.parametrize(
    ("setting", "free", "cached"), [("auto", 3.7, True), ("auto", 3.5, False), ("none", 9.9, False)]
)
def test_images_are_cached_where_they_fit(
    setting: str, free: float, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "host_memory", lambda: int(free * 1e9))
    reader = ImageReader(synthetic.read_synthetic(4, 12_000, 40, 1), 224)  # 1.8 GB
    monkeypatch.setattr(loader, "load_batches", lambda *arguments: [])
    assert (loader.cache_images(setting, reader) is not reader) == cached
