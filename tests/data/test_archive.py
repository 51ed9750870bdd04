import contextlib
import gc
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alljax.data.archive import natural, open_tree, parts
from alljax.errors import DataError


def test_numbers_sort_by_value():
    assert natural(["a10.bmp", "a2.bmp", "A1.bmp", "b"]) == ["A1.bmp", "a2.bmp", "a10.bmp", "b"]


def test_an_inner_zip_counts_by_its_name():
    assert parts("x/fold_0.zip/all/1.zip") == ("x", "fold_0", "all", "1.zip")


@pytest.mark.parametrize("zipped", [False, True])
def test_files_and_folders_without_litter(plant, zipped):
    root = plant(
        {
            "a/2.png": b"2",
            "a/10.png": b"10",
            "b/c/x.txt": b"x",
            "__MACOSX/a/._2.png": b"",
            "a/.DS_Store": b"",
            "a/Thumbs.db": b"",
            ".git/1.png": b"",
        },
        zipped,
    )
    tree = open_tree(root)
    assert tree.files == ("a/2.png", "a/10.png", "b/c/x.txt")
    assert tree.folders == ("a", "b", "b/c")
    assert tree.images() == ("a/2.png", "a/10.png")
    assert tree.read("a/10.png") == b"10"


def test_zips_in_a_folder_read_like_folders(plant):
    plant({"all/1.png": b"1"}, zipped=True, root="source/sub/fold_1")
    root = plant({"readme.txt": b""})
    tree = open_tree(root)
    assert tree.files == ("readme.txt", "sub/fold_1.zip/all/1.png")
    assert tree.folders == ("sub", "sub/fold_1.zip", "sub/fold_1.zip/all")
    assert tree.read("sub/fold_1.zip/all/1.png") == b"1"


def test_many_threads_read_one_zip(plant):
    contents = {f"a/{i}.png": os.urandom(20_000) for i in range(60)}
    tree = open_tree(plant(contents, zipped=True))
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(tree.read, [*contents] * 5))
    assert got == [*contents.values()] * 5


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are seen on Linux only")
def test_the_zip_is_closed_with_the_tree(plant):
    root = plant({"a/1.png": b"1"}, zipped=True)
    tree = open_tree(root)
    tree.read("a/1.png")

    def handles():
        paths = []
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the one that lists them is gone again
                paths.append(each.readlink())
        return paths.count(root)

    assert handles() == 1
    del tree
    gc.collect()
    assert handles() == 0


def test_a_loop_of_links_ends(plant):
    root = plant({"a/1.png": b"1", "b/2.png": b"2"})
    (root / "a/up").symlink_to(root)
    (root / "a/to_b").symlink_to(root / "b")
    (root / "b/to_a").symlink_to(root / "a")
    assert open_tree(root).files == (
        "a/1.png",
        "a/to_b/2.png",
        "b/2.png",
        "b/to_a/1.png",
    )


def test_a_link_to_itself_is_named(plant):
    root = plant({"a/1.png": b"1"})
    (root / "a/self").symlink_to(root / "a/self")
    with pytest.raises(DataError, match=r"cannot read .*a/self: Too many levels of symbolic links"):
        open_tree(root)


@pytest.mark.parametrize("odd", [b"b/M\xfcller/1.png", b"b/M\xfcller.txt", b"M\xfcller"])
def test_names_that_are_not_text_are_refused(plant, odd):
    root = plant(["a/1.png", "b/2.png"])
    place = root / os.fsdecode(odd)
    place.parent.mkdir(exist_ok=True)
    if place.suffix:
        place.write_bytes(b"1")
    else:
        place.mkdir()
    with pytest.raises(DataError, match=r"M\\xfcller.*' is not UTF-8 text; rename it"):
        open_tree(root)


def test_an_odd_name_that_is_never_read_is_no_matter(plant):
    root = plant(["a/1.png"])
    (root / os.fsdecode(b".M\xfcller")).write_bytes(b"")
    assert open_tree(root).files == ("a/1.png",)


def test_a_folder_that_may_not_be_listed_is_named(plant, monkeypatch):
    root = plant(["a/1.png", "b/1.png"])
    scandir = os.scandir

    def refuse(folder):
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot read .*source/b: Permission denied"):
        open_tree(root)


def test_a_truncated_zip_is_named(plant):
    root = plant({f"a/{i}.png": os.urandom(3000) for i in range(9)}, zipped=True)
    root.write_bytes(root.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"source\.zip: not a whole zip"):
        open_tree(root)


def test_a_file_of_another_kind_is_named(plant):
    root = plant({"a.png": None})
    with pytest.raises(DataError, match=r"a\.png: not a folder, a zip or a CSV"):
        open_tree(root / "a.png")


def test_a_damaged_member_is_named(plant):
    root = plant({"a/1.png": os.urandom(3000)}, zipped=True)
    data = bytearray(root.read_bytes())
    data[1000:1010] = b"0123456789"
    root.write_bytes(data)
    tree = open_tree(root)
    with pytest.raises(DataError, match=r"source\.zip: cannot read a/1\.png"):
        tree.read("a/1.png")


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:\\evil.png"])
def test_a_path_that_leaves_the_zip_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(DataError, match="leaves the archive"):
        open_tree(tmp_path / "x.zip")


def test_windows_separators_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a\\b\\1.png", b"1")
    tree = open_tree(tmp_path / "x.zip")
    assert tree.files == ("a/b/1.png",)
    assert tree.folders == ("a", "a/b")
    assert tree.read("a/b/1.png") == b"1"


def test_a_file_that_vanished_is_named(plant):
    root = plant({"a/1.png": b"1"})
    tree = open_tree(root)
    (root / "a/1.png").unlink()
    with pytest.raises(DataError, match=r"cannot read .*a/1\.png: No such file"):
        tree.read("a/1.png")
