import hashlib
import io
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data.test_cnmc import KAGGLE
from PIL import Image

from alljax.data import cnmc_tfds
from alljax.data.readers import open_all, open_labeled
from alljax.errors import DataError, WorkdirError

WITHOUT_TENSORFLOW = """
import sys
from pathlib import Path
import tensorflow_datasets as tfds
from alljax.data import cnmc_tfds
source, out = sys.argv[1:]
dataset = cnmc_tfds.read_prepared(cnmc_tfds.prepare(source, Path(out)))
shapes = [example["image"].shape for example in tfds.data_source("cnmc2019", split="train", data_dir=out)]
assert shapes == [(12, 12, 3)] * 5 and all(map(dataset.read, dataset.records))
assert not {"tensorflow", "torch", "jax"} & set(sys.modules)
"""


@pytest.fixture(autouse=True)
def _temporary_folder(tmp_path, monkeypatch):
    """A TFDS builder without data leaves an empty temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cnmc_tfds, "SHARD", 2)


@pytest.fixture
def prepared(plant, tmp_path):
    """A prepared folder of KAGGLE; its source is tmp_path/source."""
    return cnmc_tfds.prepare(str(plant(KAGGLE)), tmp_path / "out")


def test_read_prepared_equals_the_source(prepared, tmp_path, settings):
    assert len(open_labeled(settings(tmp_path / "out", allow_partial=True)).records) == 5
    source, dataset = open_all(str(tmp_path / "source")), open_all(str(prepared))
    for name in ("name", "classes", "class_names", "records", "notes", "known_subjects", "crops"):
        assert getattr(dataset, name) == getattr(source, name)
    expected = [source.read(record) for record in source.records]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(dataset.read, [*dataset.records] * 10)) == expected * 10


def test_tfds_reads_the_prepared_data(prepared, tmp_path):
    builder = tfds.builder_from_directory(prepared)
    assert (builder.name, str(builder.version)) == ("cnmc2019", "1.0.0")
    source = open_all(str(tmp_path / "source"))
    records = {record.path: record for record in source.records}
    for subset in ("train", "prelim", "final"):
        for example in tfds.data_source("cnmc2019", split=subset, data_dir=tmp_path / "out"):
            record = records.pop(example["path"].decode())
            data = source.read(record)
            values = [example[name].decode() for name in ("subject", "field", "cell", "fold", "phase", "sha256")]
            identity = [record.subject, record.field, record.cell, record.fold, record.subset]
            assert values == [*identity, hashlib.sha256(data).hexdigest()]
            assert (example["label"], record.subset) == (record.label, subset)
            np.testing.assert_array_equal(example["image"], np.asarray(Image.open(io.BytesIO(data))))
    assert not records


def test_prepare_again(prepared, plant, tmp_path, messages):
    assert cnmc_tfds.prepare(str(tmp_path / "source"), tmp_path / "out") == prepared
    assert messages[-1] == f"prepared 9 images: {prepared}"
    other = plant([path for path in KAGGLE if "training_data" in path], zipped=True)
    folder = cnmc_tfds.prepare(str(other), tmp_path / "other")
    assert [record.subset for record in cnmc_tfds.read_prepared(folder).records] == ["train"] * 5
    with pytest.raises(WorkdirError, match="was prepared from another source; remove it"):
        cnmc_tfds.prepare(str(other), tmp_path / "out")


def test_prepare_fails(plant, tmp_path):
    with pytest.raises(DataError, match="not C-NMC 2019"):
        cnmc_tfds.prepare(str(plant(["cats/1.png", "dogs/1.png"], root="pets")), tmp_path / "out")
    root = plant(KAGGLE, zipped=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write .*Not a directory"):
        cnmc_tfds.prepare(str(root), tmp_path / "file/out")
    data = root.read_bytes()
    root.write_bytes(data[:200] + bytes(20) + data[220:])
    with pytest.raises(DataError, match=r"cannot read .*\.bmp"):
        cnmc_tfds.prepare(str(root), tmp_path / "out")
    assert not [*(tmp_path / "out/cnmc2019/1.0.0").glob("*")]


def test_prepared_folder_does_not_choose_the_code_that_runs(prepared, tmp_path, monkeypatch):
    (tmp_path / "foreign.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for path in prepared.glob("*.json"):
        path.write_text(re.sub(r"tensorflow_datasets[\w.]*\.(\w+)", r"foreign.\1", path.read_text()))
    assert "foreign" in (prepared / "features.json").read_text()
    dataset = cnmc_tfds.read_prepared(prepared)
    assert all(map(dataset.read, dataset.records))


@pytest.mark.parametrize("name", ["metadata.json", "cnmc2019-train.array_record-00001-of-00003"])
@pytest.mark.parametrize("content", [None, b"{}"])
def test_damaged_prepared_data(prepared, name, content):
    (prepared / name).unlink()
    if content is not None:
        (prepared / name).write_bytes(content)

    def read_all():
        dataset = cnmc_tfds.read_prepared(prepared)
        return [dataset.read(record) for record in dataset.records]

    with pytest.raises(DataError, match="damaged or incomplete") as caught:
        read_all()
    assert "\n" not in str(caught.value)


def test_without_tensorflow(plant, tmp_path):
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, plant(KAGGLE), tmp_path / "new"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
