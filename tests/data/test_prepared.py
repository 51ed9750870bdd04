import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from alljax.data import cnmc_tfds, images, prepare, prepared
from alljax.data.dataset import UNLABELED
from alljax.data.readers import open_all, open_dataset
from alljax.errors import DataError

PATHS = [
    f"training_data/fold_{n % 2}/{kind}/UID_{who}{n}_1_1_{kind}.bmp"
    for n in range(1, 6)
    for kind, who in (("all", ""), ("hem", "H"))
] + [f"testing_data/C-NMC_test_final_phase_data/{n}.bmp" for n in (1, 2)]


@pytest.fixture
def folder(plant, tmp_path, monkeypatch, picture):
    """A prepared folder; its source is tmp_path/source."""
    monkeypatch.setattr(cnmc_tfds, "SHARD", 4)
    # Noise does not compress: every record reaches over many blocks of its shard.
    source = plant({path: picture(path, 600 if "final" in path else 150) for path in PATHS})
    return prepare.prepare(str(source), tmp_path / "out", lambda line: None)


def test_the_same_records_as_the_source(folder, tmp_path):
    source, dataset = open_all(str(tmp_path / "source")), prepared.read(folder)
    for name in ("name", "classes", "records", "notes", "known_subjects", "crops"):
        assert getattr(dataset, name) == getattr(source, name)
    assert [dataset.read(record) for record in dataset.records] == [source.read(record) for record in source.records]
    final = [record for record in dataset.records if record.subset == "final"]
    assert [record.label for record in final] == [UNLABELED, UNLABELED]
    assert {images.load(dataset, record).size for record in final} == {(450, 450)}


def test_found_from_above(folder, tmp_path):
    for place in (folder, folder.parent, folder.parent.parent):
        assert prepared.find(place) == folder
        assert len(prepared.read(place).records) == len(PATHS)
    assert prepared.find(tmp_path / "source") is None
    assert prepared.find(tmp_path / "nowhere") is None
    with pytest.raises(DataError, match="no prepared C-NMC 2019"):
        prepared.read(tmp_path / "source")


def test_a_source_like_others(folder, settings):
    dataset = open_dataset(settings(folder.parents[1], allow_partial=True))
    assert len(dataset.records) == 10
    assert images.load(dataset, dataset.records[3]).size == (150, 150)


def test_in_any_order_from_many_threads(folder, tmp_path):
    dataset, source = prepared.read(folder), tmp_path / "source"
    records = [*reversed(dataset.records)] * 20
    with ThreadPoolExecutor(8) as pool:
        for record, data in zip(records, pool.map(dataset.read, records), strict=True):
            assert data == (source / record.path).read_bytes()


def test_in_another_process(folder, tmp_path):
    dataset, source = prepared.read(folder), tmp_path / "source"
    before = [dataset.read(record) for record in dataset.records]  # the shards are open
    again = pickle.loads(pickle.dumps(dataset))
    assert [again.read(record) for record in again.records] == before
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for record, data in zip(dataset.records, pool.map(dataset.read, dataset.records), strict=True):
            assert data == (source / record.path).read_bytes()


def shards(folder):
    return sorted(folder.glob("*train.array_record*"))


@pytest.mark.parametrize("keep", [0, 100, 70_000, -1])
def test_a_truncated_shard(folder, keep):
    shard = shards(folder)[1]
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train.array_record-00001-of-00003: damaged .*prepare the set again") as told:
        prepared.read(folder)
    assert "\n" not in str(told.value)


def test_a_missing_shard(folder):
    shards(folder)[2].unlink()
    with pytest.raises(DataError, match="00002-of-00003: damaged or incomplete"):
        prepared.read(folder)


def test_a_shard_of_another_set(folder):
    shards(folder)[0].write_bytes(shards(folder)[2].read_bytes())
    with pytest.raises(DataError, match="00000-of-00003: .*2 images instead of 4"):
        prepared.read(folder)


def test_damage_inside_a_shard(folder, tmp_path):
    shard = shards(folder)[0]
    data = bytearray(shard.read_bytes())
    data[100_000:100_008] = bytes(8)
    shard.write_bytes(data)
    dataset = prepared.read(folder)
    damaged = []
    for record in dataset.records:
        try:
            assert dataset.read(record) == (tmp_path / "source" / record.path).read_bytes()
        except DataError as error:
            damaged.append(str(error))
    (line,) = damaged
    assert f"{shard}: damaged or incomplete (training_data/fold_0/" in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "metadata.json"])
@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b"[]", b'{"records": {"train": [{"no": 1}]}, "notes": []}', b"\xff"]
)
def test_damaged_lists(folder, name, content):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match="damaged or incomplete") as told:
        prepared.read(folder)
    assert "\n" not in str(told.value)


def test_lists_and_shards_of_two_makings(folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["records"]["train"].pop()
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(DataError, match="damaged or incomplete"):
        prepared.read(folder)
