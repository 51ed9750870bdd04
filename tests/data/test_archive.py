import os
import struct
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from alljax.data.archive import Archive
from alljax.errors import ConfigError, DataError


@pytest.mark.parametrize("zipped", [False, True])
def test_files_and_folders_without_system_files(plant, zipped):
    files = {"a/2.png": b"2", "a/10.png": b"10", "b/c/x.txt": b"x"}
    hidden = ["__MACOSX/a/._2.png", "a/.DS_Store", "a/Thumbs.db", ".git/1.png"]
    archive = Archive(plant(files | dict.fromkeys(hidden, b""), zipped))
    folders = () if zipped else ("a/", "b/", "b/c/")
    assert sorted(archive.paths) == sorted(("a/2.png", "a/10.png", "b/c/x.txt", *folders))
    assert archive.images == ("a/2.png", "a/10.png")
    assert archive.read("a/10.png") == b"10"


def test_threads_read_one_zip(plant):
    contents = {f"a/{i}.png": os.urandom(20_000) for i in range(60)}
    archive = Archive(plant(contents, zipped=True))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(archive.read, contents)) == [*contents.values()]


def test_windows_separators_in_a_zip(plant):
    archive = Archive(plant({"a\\b\\1.png": b"1"}, zipped=True))
    assert archive.paths == ("a/b/1.png",)
    assert archive.read("a/b/1.png") == b"1"


def test_names_without_the_utf8_flag(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for number in range(2):
            file.writestr(f"{number}--.png", str(number))
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(b"0--", "0é".encode()).replace(b"1--", b"1\xa1x"))
    archive = Archive(tmp_path / "a.zip")
    assert {path: archive.read(path) for path in archive.paths} == {"0é.png": b"0", "1íx.png": b"1"}


def test_names_that_are_not_utf8(plant):
    root = plant({"a/1.png": b"1"})
    (root / os.fsdecode(b"a/\xff.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"source: names that are not valid UTF-8: b'a/\\xff\.png'; rename"):
        Archive(root)


def test_damaged_zips(plant):
    root = plant({"a/1.png": os.urandom(3000)}, zipped=True)
    data = root.read_bytes()
    root.write_bytes(data[:1000] + b"0123456789" + data[1010:])
    with pytest.raises(DataError, match=r"source\.zip: cannot read a/1\.png"):
        Archive(root).read("a/1.png")
    root.write_bytes(data[:2000])
    with pytest.raises(DataError, match=r"source\.zip: no image, complete zip"):
        Archive(root)


def test_members_expand_to_no_more_than_they_declare(plant, monkeypatch):
    """A member of 200 MB that declares 2 GB, or 100 bytes."""
    root = plant({"a/1.png": bytes(200_000_000)}, zipped=True)
    declared, data = struct.pack("<I", 200_000_000), root.read_bytes()
    assert data.count(declared) == 2, "in both headers"
    root.write_bytes(data.replace(declared, struct.pack("<I", 2_000_000_000)))
    with pytest.raises(DataError, match=r"a/1\.png needs 2\.00 GB of memory, more than 0\.25 GB \(ALLJAX_READ_GB=4"):
        Archive(root).read("a/1.png")
    root.write_bytes(data.replace(declared, struct.pack("<I", 100)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"cannot read a/1\.png: Bad CRC"):
        Archive(root).read("a/1.png")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    monkeypatch.setenv("ALLJAX_READ_GB", "4 GB")
    with pytest.raises(ConfigError, match="ALLJAX_READ_GB='4 GB' is no number of gigabytes"):
        Archive(root).read("a/1.png")


def test_unreadable_files(plant):
    archive = Archive(plant({"a/1.png": b"1", "a/2.txt": b""}))
    with pytest.raises(DataError, match=r"2\.txt: no image, complete zip, folder or .csv"):
        Archive(archive.root / "a/2.txt")
    (archive.root / "a/1.png").unlink()
    for function in (archive.read, archive.stamp):
        with pytest.raises(DataError, match=r"cannot read .*a/1\.png: No such file"):
            function("a/1.png")


def test_a_link_to_a_parent_folder_is_not_followed(plant) -> None:
    root = plant(["a/1.png", "b/2.png"])
    (root / "a/loop").symlink_to("..")
    assert Archive(root).images == ("a/1.png", "b/2.png")
