import csv
import fcntl
import io
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image

from alljax.data import cnmc_tfds, prepare, prepared
from alljax.data.readers import open_all
from alljax.errors import DataError, WorkdirError

# Two folds, and ten shards with three images in each.
PATHS = [
    f"training_data/fold_{n % 2}/{kind}/UID_{who}{n}_1_1_{kind}.bmp"
    for n in range(1, 13)
    for kind, who in (("all", ""), ("hem", "H"))
] + [f"testing_data/C-NMC_test_final_phase_data/{n}.bmp" for n in range(1, 5)]
KILL = """
import os, signal, sys
from pathlib import Path
from alljax.data import cnmc2019, prepare
after, serialize = int(sys.argv[3]), cnmc2019.serialize
def counting(record, data):
    global after
    after -= 1
    if after < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return serialize(record, data)
cnmc2019.serialize = counting
prepare.prepare(sys.argv[1], Path(sys.argv[2]), print)
"""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(cnmc_tfds, "SHARD", 3)


@pytest.fixture
def run(tmp_path):
    """run(source): prepares into tmp_path/out, returns the folder and what was said."""

    def prepared_from(source, out="out"):
        said = []
        return prepare.prepare(str(source), tmp_path / out, said.append), said

    return prepared_from


@pytest.fixture
def during(monkeypatch):
    """during(count, act): acts once, when `count` images were written; gives what was written."""

    def arrange(count, act):
        written, serialize, left = [], cnmc_tfds.serialize, [act]

        def counting(record, data):
            if len(written) == count and left:
                left.pop()()
            written.append(record)
            return serialize(record, data)

        monkeypatch.setattr(cnmc_tfds, "serialize", counting)
        return written

    return arrange


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class StoppedError(Exception):
    pass


def stop():
    raise StoppedError


@pytest.mark.parametrize("zipped", [False, True])
def test_the_same_source_gives_the_same_bytes(plant, run, zipped):
    source = plant(PATHS, zipped)
    first, said = run(source, "first")
    second, _ = run(source, "second")
    assert contents(first) == contents(second)
    assert first.name == "1.0.0"
    assert [path.name for path in first.parent.iterdir() if path.name != ".lock"] == ["1.0.0"]
    assert "cnmc2019-train.array_record-00007-of-00008" in contents(first)
    assert "cnmc2019-final.array_record-00000-of-00002" in contents(first)
    assert said[-1] == f"prepared 28 images: {first}"
    readers = [ArrayRecordReader(str(path)) for path in first.glob("*array_record*")]
    assert sum(reader.num_records() for reader in readers) == 28


def test_what_is_missing_is_said(plant, run):
    _, said = run(plant(PATHS))
    assert any("15,09" in line and "missing" in line and "alljax data verify" in line for line in said), said


def test_again_from_where_it_was_stopped(plant, run, during):
    source = plant(PATHS)
    expected = contents(run(source, "whole")[0])
    written = during(10, stop)
    with pytest.raises(StoppedError):
        run(source)
    written.clear()
    folder, said = run(source)
    assert len(written) == 28 - 9
    assert "kept from a run that was stopped: 3 of 10 shards" in said
    assert contents(folder) == expected


@pytest.mark.parametrize("after", [100, 270])
def test_killed_in_the_middle(plant, tmp_path, monkeypatch, after):
    monkeypatch.undo()  # shards as they are: 256 and 50 of train, 4 of final
    more = [f"training_data/fold_1/all/UID_90_{n}_1_all.bmp" for n in range(300 - 18)]
    source = plant([*PATHS, *more])
    command = [sys.executable, "-c", KILL, str(source), str(tmp_path / "killed")]
    done = subprocess.run([*command, str(after)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "killed/cnmc2019").glob("1.0.0*")] == ["1.0.0.incomplete"]
    done = subprocess.run([*command, "310"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("kept from a run that was stopped: 1 of 3 shards" in done.stdout) == (after > 256)
    whole = prepare.prepare(str(source), tmp_path / "whole", print)
    assert contents(tmp_path / "killed/cnmc2019/1.0.0") == contents(whole)


def test_shards_of_a_source_that_changed_are_redone(plant, run, during):
    source = plant(PATHS)
    during(10, stop)
    with pytest.raises(StoppedError):
        run(source)
    (source / PATHS[0]).write_bytes((source / PATHS[2]).read_bytes())
    folder, said = run(source)
    assert not any("kept" in line for line in said)
    expected, _ = run(source, "whole")
    assert contents(folder) == contents(expected)


def test_already_prepared(plant, run):
    source = plant(PATHS)
    folder, _ = run(source)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert run(source)[1][-1] == f"already prepared: {folder}"
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    os.utime(source / PATHS[0])
    with pytest.raises(WorkdirError, match="another source, or from files that changed since"):
        run(source)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def add(source):
    (source / "training_data/fold_0/all/UID_77_1_1_all.bmp").write_bytes((source / PATHS[0]).read_bytes())


def remove(source):
    (source / PATHS[-1]).unlink()


def lengthen(source):
    with (source / PATHS[0]).open("ab") as file:
        file.write(b"more")


def touch(source):
    os.utime(source / PATHS[20])


@pytest.mark.parametrize("change", [add, remove, lengthen, touch])
@pytest.mark.parametrize("when", [0, 10, 27])
def test_a_folder_that_changes_meanwhile(plant, run, during, change, when):
    source = plant(PATHS)
    during(when, lambda: change(source))
    with pytest.raises(DataError, match=r"source: changed while it was prepared \(.*\.bmp\); nothing was kept"):
        run(source)
    assert not list((source.parent / "out/cnmc2019").glob("1.0.0*"))
    folder, _ = run(source)
    assert contents(folder) == contents(run(source, "whole")[0])


def test_a_zip_that_changes_meanwhile(plant, run, during):
    source = plant(PATHS, zipped=True)

    def append():
        with zipfile.ZipFile(source, "a") as archive:
            archive.writestr("note.txt", "new")

    during(5, append)
    with pytest.raises(DataError, match="changed while it was prepared"):
        run(source)


def test_a_file_that_comes_between_listing_and_looking(plant, run, monkeypatch):
    source, stamps = plant(PATHS), prepare._stamps

    def late(root):
        if not (source / "training_data/fold_0/all/UID_77_1_1_all.bmp").exists():
            add(source)
        return stamps(root)

    monkeypatch.setattr(prepare, "_stamps", late)
    with pytest.raises(DataError, match=r"changed while it was prepared \(.*UID_77_1_1_all"):
        run(source)


def test_an_image_that_cannot_be_read(plant, run):
    source = plant([path for path in PATHS if "final" in path])
    plant([path for path in PATHS if "final" not in path], zipped=True, root="source/training_data")
    archive = source / "training_data.zip"
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        place = opened.infolist()[15].header_offset + 60
    data[place + 40 : place + 60] = bytes(20)
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"training_data.zip: cannot read .*\.bmp"):
        run(source)
    assert not (source.parent / "out/cnmc2019/1.0.0").exists()
    assert not list((source.parent / "out").rglob("*.part"))


def test_a_shard_that_was_kept_but_is_damaged(plant, run, during):
    source = plant(PATHS)
    during(10, stop)
    with pytest.raises(StoppedError):
        run(source)
    shard = source.parent / "out/cnmc2019/1.0.0.incomplete/cnmc2019-train.array_record-00001-of-00008"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match="00001-of-00008: damaged"):
        run(source)
    assert not (source.parent / "out/cnmc2019/1.0.0").exists()


def test_leftovers_are_cleared(plant, run, during):
    source = plant(PATHS)
    during(10, stop)
    with pytest.raises(StoppedError):
        run(source)
    work = source.parent / "out/cnmc2019/1.0.0.incomplete"
    (work / "cnmc2019-train.array_record-00004-of-00008.part").write_bytes(b"half")
    (work / "dataset_info.json").write_text("{")
    assert contents(run(source)[0]) == contents(run(source, "whole")[0])


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a disk that fills up was not checked: no right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up(plant, run, small_disk, picture):
    # An array_record takes at least 64 KiB: the ten shards fit, but not beside the other file.
    source = plant({path: picture(path, 40) for path in PATHS})
    (small_disk / "other").write_bytes(bytes(1_200_000))
    with pytest.raises(WorkdirError) as told:
        run(source, "disk")
    line = str(told.value)
    assert "No space left on device" in line
    assert "finished shards are kept" in line
    assert "\n" not in line
    work = small_disk / "cnmc2019/1.0.0.incomplete"
    kept = {path.name: path.stat().st_mtime_ns for path in work.glob("*array_record*")}
    assert kept
    assert not list(work.glob("*.part"))
    assert all(ArrayRecordReader(str(work / name)).num_records() == 3 for name in kept)
    (small_disk / "other").unlink()
    folder, said = run(source, "disk")
    assert any(line.startswith("kept from a run that was stopped") for line in said)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert contents(folder) == contents(run(source, "whole")[0])


def test_two_at_once(plant, run, tmp_path):
    place = tmp_path / "out/cnmc2019"
    place.mkdir(parents=True)
    source = plant(PATHS)
    with (place / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WorkdirError, match="another alljax prepares in"):
            run(source)
    run(source)


def test_places_that_do_not_do(plant, run, tmp_path):
    source = plant(PATHS)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write .*Not a directory"):
        run(source, "file/deeper")
    with pytest.raises(WorkdirError, match="lies in"):
        run(source, "source/out")
    assert not (source / "out").exists()


def test_other_sources_are_refused(plant, run):
    with pytest.raises(DataError, match="not C-NMC 2019"):
        run(plant(["cats/1.png", "dogs/1.png"]))
    with pytest.raises(DataError, match="no such file or folder"):
        run(Path("nowhere"))


@pytest.mark.real
def test_the_real_cells(cnmc_zip, cnmc_manifest, run):
    with cnmc_manifest.open(newline="") as file:
        hashes = {(row["phase"], row["file"]): row["sha256"] for row in csv.DictReader(file)}
    folder, said = run(cnmc_zip)
    assert "14,588 images of the complete set missing; `alljax data verify` lists them" in said
    given, dataset = open_all(str(cnmc_zip)), prepared.read(folder)
    assert dataset.records == given.records
    assert len(dataset.records) == 526
    data = {record.path: given.read(record) for record in given.records}
    assert all(dataset.read(record) == data[record.path] for record in dataset.records)
    for split, count in (("train", 512), ("prelim", 14)):
        cells = tfds.data_source("cnmc2019", split=split, data_dir=folder.parents[1])
        assert len(cells) == count
        for cell in (cells[number] for number in range(0, count, 6)):
            path = cell["path"].decode()
            assert cell["sha256"].decode() == hashes[split, path.rpartition("/")[2]]
            pixels = np.asarray(Image.open(io.BytesIO(data[path])))
            np.testing.assert_array_equal(cell["image"], pixels)
