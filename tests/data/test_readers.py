from pathlib import Path

import pytest

from alljax.data import cnmc
from alljax.data.dataset import UNLABELED
from alljax.data.readers import open_labeled, open_unlabeled
from alljax.errors import ConfigError, DataError


def test_synthetic(settings):
    dataset = open_labeled(settings("synthetic", classes=("hem", "all")))
    assert (dataset.name, dataset.classes, len(dataset.records)) == ("synthetic", ("hem", "all"), 40)
    assert dataset.class_names == ("HEM (normal)", "ALL (leukemic blast)")
    with pytest.raises(DataError, match="no labeled images .*only 'prelim' used .*skipped: 40 of train"):
        open_labeled(settings("synthetic", subset="prelim"))
    with pytest.raises(ConfigError, match="are hem, all in this order"):
        open_labeled(settings("synthetic", classes=("all", "hem")))
    with pytest.raises(ConfigError, match="synthetic has its own subject names"):
        open_labeled(settings("synthetic", name_pattern="(?P<subject>x)"))


def test_unusable_sources(plant, settings, tmp_path):
    for source in (tmp_path / "missing", "x" * 300, ""):
        with pytest.raises(DataError, match="no such file or folder; use a folder, zip"):
            open_labeled(settings(source))
    with pytest.raises(
        DataError, match="no labeled images found .*formats that are not read: 1 .txt .first: a/readme.txt"
    ):
        open_labeled(settings(plant({"a/readme.txt": b""})))


def test_open_unlabeled_reads_all_images_of_several_sources(plant, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plant(["phase3/1.bmp", "phase3/2.bmp", "phase3/3.bmp"], root="cells")
    plant(["train/a/1.png", "c.png"], root="synthetic")  # a folder, not generated cells
    plant({"lists/1.png": None, "lists/list.csv": b"image,age\n1.png,7\n"}, root=".")
    dataset = open_unlabeled([Path("cells"), Path("synthetic"), Path("lists/list.csv"), Path("cells/phase3/2.bmp")])
    assert [record.path for record in dataset.records] == [
        *("cells/phase3/1.bmp", "cells/phase3/2.bmp", "cells/phase3/3.bmp"),
        *("synthetic/c.png", "synthetic/train/a/1.png", "lists/1.png"),
    ]
    assert {record.label for record in dataset.records} == {UNLABELED}
    assert dataset.read(dataset.records[-1]) == picture("lists/1.png")
    assert dataset.crops == cnmc.CROPS
    assert [note[:16] for note in dataset.notes] == ["columns read und", "columns not used"]


def test_open_unlabeled_reads_subjects_where_they_are_stated(plant, tmp_path, monkeypatch):
    """In a CSV, in C-NMC file names, or by a name pattern."""
    monkeypatch.chdir(tmp_path)
    plant(
        {"1.png": None, "p7_2.png": None, "UID_H3_1_2_hem.bmp": None, "a.csv": b"image,patient\n1.png,P1\n"}, root="."
    )
    images = [Path("a.csv"), Path("p7_2.png"), Path("UID_H3_1_2_hem.bmp")]
    dataset = open_unlabeled(images, name_pattern=r"^(?P<subject>p\d+)_")
    assert [record.subject for record in dataset.records] == ["P1", "p7", "H3"]
