import io
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import numpy as np
import pytest

from alljax.config import default_config
from alljax.data import images, medmnist
from alljax.data.readers import open_all, open_dataset
from alljax.errors import ConfigError, DataError

COUNTS = {"train": 23, "val": 5, "test": 7}


def arrays(channels=(3,), column=True, classes=12):
    """What MedMNIST stores: each part's images and its labels in one column."""
    made = {}
    for seed, (part, count) in enumerate(COUNTS.items()):
        generator = np.random.default_rng(seed)
        made[f"{part}_images"] = generator.integers(0, 256, (count, 9, 11, *channels), np.uint8)
        labels = np.resize(np.arange(classes, dtype=np.uint8), count)
        made[f"{part}_labels"] = labels[:, None] if column else labels
    return made


@pytest.fixture
def write(tmp_path):
    def save(compressed=True, **contents):
        (np.savez_compressed if compressed else np.savez)(tmp_path / "cells.npz", **contents)
        return tmp_path / "cells.npz"

    return save


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_pixels_and_labels_come_through_unchanged(write, channels, column, compressed):
    made = arrays(channels, column)
    dataset = medmnist.read(write(compressed, **made))
    assert dataset.name == "npz"
    assert dataset.classes == tuple(map(str, range(12))), "by value, not as text"
    assert [r.path for r in dataset.records] == [
        f"{part}/{row:06}" for part in ("test", "train", "val") for row in range(COUNTS[part])
    ]
    for record in dataset.records:
        part, _, row = record.path.partition("/")
        assert record.subset == part
        assert dataset.classes[record.label] == str(made[f"{part}_labels"].ravel()[int(row)])
        pixels = made[f"{part}_images"][int(row)]
        expected = pixels if channels else np.repeat(pixels[..., None], 3, -1)
        np.testing.assert_array_equal(np.asarray(images.load(dataset, record)), expected)
    assert dataset.notes == ("no subjects known: cell-level only",)


def test_other_processes_and_many_threads_get_the_same_bytes(write):
    dataset = medmnist.read(write(**arrays()))
    for record in dataset.records[::3]:
        dataset.read(record)
    again = pickle.loads(cloudpickle.dumps(dataset))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(again.read, dataset.records)) == [dataset.read(r) for r in dataset.records]
    assert len(cloudpickle.dumps(dataset.read)) < 1000, "the file is read anew, its pixels are not sent"


def test_only_the_parts_that_are_used_are_read(write, monkeypatch):
    dataset = medmnist.read(write(**arrays()))
    monkeypatch.setattr(zipfile.ZipFile, "open", opens(opened := [], zipfile.ZipFile.open))
    for record in dataset.records:
        if record.subset == "val":
            dataset.read(record)
    assert opened == ["val_images.npy"]


def opens(opened, original):
    def watched(archive, name, *arguments):
        opened.append(name)
        return original(archive, name, *arguments)

    return watched


def test_classes_are_chosen_and_ordered(write):
    path = write(**arrays())
    dataset = medmnist.read(path, ("7", "10"))
    assert dataset.classes == ("7", "10")
    assert {r.label for r in dataset.records} == {0, 1}
    assert len(dataset.records) == 4
    assert dataset.notes[0] == "31 images left out: their labels are not in data.classes"
    with pytest.raises(DataError, match="names '12', but the classes there are 0, 1, 2"):
        medmnist.read(path, ("7", "12"))


def test_as_a_source(write):
    path = write(**arrays(classes=2))
    data = default_config().data
    data.source, data.subset, data.classes = str(path), "test", (1, 0)
    dataset = open_dataset(data)
    assert (len(dataset.records), dataset.classes) == (7, ("1", "0"))
    assert dataset.notes[-1].endswith("left out: 23 of train, 5 of val")
    assert len(open_all(str(path)).records) == 35
    with pytest.raises(ConfigError, match="name_pattern is for folders"):
        open_all(str(path), name_pattern="(?P<subject>x)")


def test_a_part_may_be_absent_and_other_arrays_are_no_matter(write):
    made = arrays(classes=2)
    dataset = medmnist.read(write(test_images=made["test_images"], test_labels=made["test_labels"], names=np.zeros(3)))
    assert {r.subset for r in dataset.records} == {"test"}


def changed(**changes):
    return {name: array for name, array in {**arrays(), **changes}.items() if array is not None}


OBJECTS = np.array([{"a": 1}] * 23, object)
IMAGES = arrays()["train_images"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"x": np.zeros(3)}, r"no arrays train_images and train_labels .*; there is x"),
        ({}, "there is nothing"),
        (changed(val_labels=None), "the array val_labels is missing"),
        (changed(val_images=None), "the array val_images is missing"),
        (changed(train_labels=np.zeros((23, 14), np.uint8)), r"\(23, 14\), several labels an image"),
        (changed(train_labels=np.zeros(23)), "train_labels is float64"),
        (changed(train_labels=np.zeros((23, 1, 1), int)), "train_labels is int64"),
        (changed(train_labels=np.zeros(22, int)), "23 train_images but 22 train_labels"),
        (changed(train_labels=OBJECTS), "train_labels holds pickled Python objects"),
        (changed(train_images=OBJECTS), "train_images holds pickled Python objects"),
        (changed(train_images=IMAGES / 255), "train_images is float64"),
        (changed(train_images=IMAGES[..., :2]), r"train_images is uint8 \(23, 9, 11, 2\)"),
        (changed(train_images=np.zeros((23, 9, 9, 9), np.uint8)), r"train_images is uint8 \(23, 9, 9, 9\)"),
        (changed(train_images=IMAGES[:, :0]), r"train_images is uint8 \(23, 0, 11, 3\)"),
    ],
)
def test_what_cannot_be_read_is_said(write, contents, message):
    with pytest.raises(DataError, match=r"cells\.npz: .*" + message):
        medmnist.read(write(**contents))


@pytest.mark.parametrize("damage", [lambda data: data[:-200], lambda data: data[:50], lambda data: b"", lambda _: b"x"])
def test_a_truncated_file(write, damage):
    path = write(**arrays())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"cells\.npz: not a whole \.npz file"):
        medmnist.read(path)


def test_pixels_that_are_damaged_or_gone(write):
    made = arrays()
    path = write(**made)
    dataset = medmnist.read(path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("test_images.npy").header_offset + 600
    data[place : place + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cells\.npz: not a whole \.npz file"):
        dataset.read(dataset.records[0])
    path.unlink()
    with pytest.raises(DataError, match=r"No such file"):
        dataset.read(dataset.records[0])


def test_an_array_shorter_than_it_says(tmp_path, write):
    path = write(**arrays())
    file = io.BytesIO()
    np.save(file, IMAGES)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "short.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, file.getvalue()[:-1] if name == "train_images.npy" else old.read(name))
    with pytest.raises(DataError, match=r"short\.npz: .* train_images is shorter than its shape"):
        medmnist.read(tmp_path / "short.npz")
