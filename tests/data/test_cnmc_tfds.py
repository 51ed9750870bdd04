import hashlib
import io
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from alljax.data import cnmc_tfds, prepared
from alljax.data.readers import open_all
from alljax.errors import DataError

TABLE = b"Patient_ID,new_names,labels\r\nUID_57_29_1_all.bmp,1.bmp,1\r\nUID_H33_2_2_hem.bmp,10.bmp,0\r\n"
KAGGLE = {
    "C-NMC_Leukemia/training_data/fold_0/all/UID_2_1_1_all.bmp": None,
    "C-NMC_Leukemia/training_data/fold_0/all/UID_11_1_10_all.bmp": None,
    "C-NMC_Leukemia/training_data/fold_2/hem/UID_h3_4_1_hem.bmp": None,
    "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data/1.bmp": None,
    "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data/10.bmp": None,
    "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data_labels.csv": TABLE,
    "C-NMC_Leukemia/testing_data/C-NMC_test_final_phase_data/2.bmp": None,
}
WITHOUT_TENSORFLOW = """
import sys
from pathlib import Path
import tensorflow_datasets as tfds
import alljax.data.cnmc2019
from alljax.data import prepare, prepared
manual, first, second = sys.argv[1:]
builder = tfds.builder("cnmc2019", data_dir=first)
builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=manual), file_format="array_record"
)
prepare.prepare(manual, Path(second), print)
for place in (first, second):
    images = [cell["image"].shape for cell in tfds.data_source("cnmc2019", split="train", data_dir=place)]
    dataset = prepared.read(Path(place))
    assert images == [(12, 12, 3)] * 3 and all(dataset.read(record) for record in dataset.records)
assert not {"tensorflow", "torch", "jax"} & set(sys.modules)
"""


@pytest.fixture(autouse=True)
def _no_litter(tmp_path, monkeypatch):
    """A TFDS builder without data leaves an empty temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def build(manual_dir, data_dir):
    builder = tfds.builder("cnmc2019", data_dir=data_dir)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config, file_format="array_record")
    return builder


@pytest.mark.parametrize("zipped", [False, True])
def test_tfds_own_way(plant, tmp_path, zipped):
    root = plant(KAGGLE, zipped, root="manual/set").parent
    builder = build(root, tmp_path / "out")
    assert builder.name == "cnmc2019"
    assert str(builder.version) == "1.0.0"
    assert list(builder.info.splits) == ["train", "prelim", "final"]
    assert builder.info.features["label"].names == ["hem", "all"]
    assert "tcia.2019.dc64i46r" in builder.info.homepage
    dataset = open_all(str(root))
    expected = {record.path: (record, dataset.read(record)) for record in dataset.records}
    stored = [
        cell
        for split in builder.info.splits
        for cell in tfds.data_source("cnmc2019", split=split, data_dir=tmp_path / "out")
    ]
    assert len(stored) == len(expected) == 6
    for cell in stored:
        record, data = expected[cell["path"].decode()]
        said = [cell[name].decode() for name in ("subject", "field", "cell", "fold", "phase", "sha256")]
        whose = [record.subject, record.field, record.cell, record.fold, record.subset]
        assert said == [*whose, hashlib.sha256(data).hexdigest()]
        assert cell["label"] == record.label
        np.testing.assert_array_equal(cell["image"], np.asarray(Image.open(io.BytesIO(data))))
    assert [cell["label"] for cell in stored] == [1, 1, 0, 1, 0, -1]
    assert [cell["subject"] for cell in stored] == [b"2", b"11", b"H3", b"57", b"H33", b""]


def test_what_tfds_made_is_read_as_records(plant, tmp_path):
    root = plant(KAGGLE)
    build(root, tmp_path / "out")
    dataset, expected = prepared.read(tmp_path / "out"), open_all(str(root))
    assert dataset.records == expected.records
    assert [dataset.read(record) for record in dataset.records] == [
        expected.read(record) for record in expected.records
    ]


def test_only_the_phases_that_are_there(plant, tmp_path):
    root = plant([path for path in KAGGLE if "training_data" in path])
    assert list(build(root, tmp_path / "out").info.splits) == ["train"]


def test_stored_bytes_are_those_given(plant, tmp_path):
    root = plant(KAGGLE)
    builder = build(root, tmp_path / "out")
    cells = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    for cell in cells:
        assert cell["image"] == (root / cell["path"].decode()).read_bytes()


def test_other_folders_are_refused(plant, tmp_path):
    with pytest.raises(DataError, match="not C-NMC 2019"):
        build(plant(["cats/1.png", "dogs/1.png"]), tmp_path / "out")
    with pytest.raises(DataError, match="synthetic: not C-NMC 2019"):
        cnmc_tfds.open_cnmc("synthetic")


def test_images_that_the_table_does_not_know_are_nothing_to_prepare(plant):
    root = plant({"phase2/3.bmp": None, "phase2.csv": TABLE})
    with pytest.raises(DataError, match=r"no image of C-NMC 2019 in it \(1 image left out, not in the label CSV"):
        cnmc_tfds.open_cnmc(str(root))


def test_tensorflow_is_never_imported(plant, tmp_path):
    places = [str(plant(KAGGLE)), str(tmp_path / "first"), str(tmp_path / "second")]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW, *places], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_opening_sources_imports_no_tfds():
    code = "import sys, alljax.data.source, alljax.data.prepared; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow_datasets", "array_record"}.intersection(done.stdout.split())
