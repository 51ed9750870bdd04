import io
import zipfile
from collections import Counter

import numpy as np
import pytest

from alljax.data import images
from alljax.data.medmnist import read_medmnist
from alljax.data.readers import open_all, open_labeled
from alljax.errors import ConfigError, DataError

COUNTS = {"train": 23, "val": 5, "test": 7}


def arrays(channels=(3,), column=True, classes=12):
    """Returns the arrays of a MedMNIST file."""
    result = {}
    for seed, (subset, count) in enumerate(COUNTS.items()):
        generator = np.random.default_rng(seed)
        result[f"{subset}_images"] = generator.integers(0, 256, (count, 9, 11, *channels), np.uint8)
        labels = np.resize(np.arange(classes, dtype=np.uint8), count)
        result[f"{subset}_labels"] = labels[:, None] if column else labels
    return result


@pytest.fixture
def write(tmp_path):
    def save(**contents):
        np.savez_compressed(tmp_path / "cells.npz", **contents)
        return tmp_path / "cells.npz"

    return save


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_pixels_and_labels_are_unchanged(write, channels, column):
    expected = arrays(channels, column)
    dataset = read_medmnist(write(**expected))
    assert (dataset.name, dataset.classes) == ("npz", tuple(map(str, range(12)))), "sorted by value, not as text"
    assert Counter(r.subset for r in dataset.records) == COUNTS
    for record in dataset.records:
        subset, _, row = record.path.partition("/")
        assert record.subset == subset
        assert dataset.classes[record.label] == str(expected[f"{subset}_labels"].ravel()[int(row)])
        pixels = expected[f"{subset}_images"][int(row)].reshape(9, 11, -1)
        np.testing.assert_array_equal(images.load(dataset, record), np.broadcast_to(pixels, (9, 11, 3)))


def test_open_dataset(write, settings):
    path = write(**arrays(classes=3))
    dataset = open_labeled(settings(path, subset="test", classes=(1, 0)))
    assert (len(dataset.records), dataset.classes) == (5, ("1", "0"))
    assert dataset.notes[0].startswith("skipped 10 images, of none of the classes: test/000002, test/000005, train")
    assert dataset.notes[-1].endswith("skipped: 16 of train, 4 of val")
    with pytest.raises(ConfigError, match="name_pattern is for folders"):
        open_all(str(path), name_pattern="(?P<subject>x)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": np.zeros((23, 14), np.uint8)}, r"train_labels is uint8 \(23, 14\); expected one integer"),
        ({"train_labels": np.array([None] * 23)}, "cannot be read: Object arrays"),
        ({"train_labels": np.zeros(22, int)}, r"train_images is uint8 \(23, .* expected uint8 \(22, "),
        ({"train_images": np.zeros((23, 9, 9, 2), np.uint8)}, r"train_images is uint8 \(23, 9, 9, 2\)"),
        ({"train_images": None}, "train_images is missing"),
        (None, "expected the arrays train_images and train_labels"),
    ],
)
def test_invalid_arrays(write, change, message):
    contents = arrays() | change if change else {"x": np.zeros(3)}
    path = write(**{name: array for name, array in contents.items() if array is not None})
    with pytest.raises(DataError, match=r"cells\.npz: .*" + message):
        [dataset.read(record) for dataset in [read_medmnist(path)] for record in dataset.records]


def test_declared_sizes_are_checked_before_arrays_are_read(write, monkeypatch):
    path, header = write(x=np.zeros(1)), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_labels.npy", header.getvalue())
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda *arguments: pytest.fail("read"))
    with pytest.raises(
        DataError, match=r"cells\.npz: train_labels needs 10,000\.00 GB .* \(ALLJAX_READ_GB=4\); replace"
    ):
        read_medmnist(path)


def test_damaged_files(write):
    path = write(**arrays())
    data = path.read_bytes()
    for damaged in (data[:600] + bytes(20) + data[620:], data[:-200], b"", b"x"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cells\.npz: .* download the file again"):
            read_medmnist(path)
