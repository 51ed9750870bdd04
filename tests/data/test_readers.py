import os
from pathlib import Path

import pytest

from alljax.data.readers import open_all, open_dataset
from alljax.errors import ConfigError, DataError


def test_generated_cells(settings):
    dataset = open_dataset(settings("synthetic"))
    assert (dataset.name, len(dataset.records)) == ("synthetic", 40)
    assert any("generated cells" in note for note in dataset.notes)


def test_fixed_classes_cannot_be_renamed(settings):
    assert open_dataset(settings("synthetic", classes=("hem", "all"))).classes == ("hem", "all")
    with pytest.raises(ConfigError, match="are hem, all in this order"):
        open_dataset(settings("synthetic", classes=("all", "hem")))


def test_generated_cells_have_no_other_part(settings):
    with pytest.raises(DataError, match=r"synthetic: has no part 'prelim' .*; there is train \(40 images\)"):
        open_dataset(settings("synthetic", subset="prelim"))


def test_a_source_is_opened_whole_to_be_looked_at(plant):
    tree = ["train/b/1.png", "train/a/1.png", "val/a/2.png", "c/p1_2.png"]
    dataset = open_all(str(plant(tree)), name_pattern="(?P<subject>p[0-9]+)_")
    assert {(r.subset, dataset.classes[r.label], r.subject) for r in dataset.records} == {
        *(("train", "a", ""), ("train", "b", ""), ("val", "a", ""), ("train", "c", "p1")),
    }
    assert open_all(str(plant(tree)), classes=("b", "a")).classes == ("b", "a")
    assert len(open_all("synthetic").records) == 600
    with pytest.raises(ConfigError, match="are hem, all in this order"):
        open_all("synthetic", classes=("all", "hem"))


def test_several_parts_are_kept_apart(plant, settings):
    root = plant(["train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png", "val/a/3.png"])
    dataset = open_dataset(settings(root), ("train", "test"))
    assert sorted(r.subset for r in dataset.records) == ["test", "test", "train", "train"]
    assert dataset.notes[-1] == (
        "only the parts 'train' and 'test' are used (data.subset, split.test_subset); left out: 1 of val"
    )
    assert len(open_dataset(settings(root), ("train", "train")).records) == 2
    with pytest.raises(DataError, match=r"no part 'prelim' \(split.test_subset\); there is test \(2 images\), train"):
        open_dataset(settings(root), ("train", "prelim"))


def test_the_parts_of_a_prepared_folder_are_used_like_others(settings, tmp_path, monkeypatch):
    from alljax.data import prepared

    cells = open_all("synthetic")
    monkeypatch.setattr(prepared, "find", lambda path: tmp_path if path == tmp_path else None)
    monkeypatch.setattr(prepared, "read", lambda path: cells)
    assert open_dataset(settings(tmp_path)).records == cells.records
    with pytest.raises(DataError, match="has no part 'prelim'"):
        open_dataset(settings(tmp_path, subset="prelim"))


@pytest.mark.real
def test_the_real_cells_by_part(cnmc_zip, settings):
    dataset = open_dataset(settings(cnmc_zip, allow_partial=True))
    assert (dataset.name, len(dataset.records)) == ("cnmc", 512)
    assert dataset.notes[-1].endswith("left out: 14 of prelim")
    assert len(open_dataset(settings(cnmc_zip, allow_partial=True), ("train", "prelim")).records) == 526
    assert len(open_all(str(cnmc_zip)).records) == 526
    with pytest.raises(DataError, match=r"10,149 images of C-NMC 2019 missing .*alljax data verify --source .*\.zip`"):
        open_dataset(settings(cnmc_zip))


def test_written_generated_cells_are_read_as_cnmc(settings, plant):
    made = open_dataset(settings("synthetic"))
    root = plant({f"{made.classes[r.label]}/{r.path}": made.read(r) for r in made.records})
    again = open_dataset(settings(root, allow_partial=True))
    assert again.name == "cnmc"
    assert {(r.subject, r.field, r.cell, r.label) for r in again.records} == {
        (r.subject, r.field, r.cell, r.label) for r in made.records
    }


def test_a_name_pattern_is_for_folders(settings):
    with pytest.raises(ConfigError, match="synthetic names its people itself"):
        open_dataset(settings("synthetic", name_pattern="(?P<subject>x)"))


def test_a_name_that_is_not_text(settings, plant):
    root = plant(["a/1.png", "a/2.png", "b/1.png"])
    (root / "a/1.png").rename(root / "a" / os.fsdecode(b"M\xfcller.png"))
    with pytest.raises(DataError, match=r"M\\xfcller.png' is not UTF-8 text; rename"):
        open_dataset(settings(root))


def test_a_source_whose_own_name_is_not_text(settings, plant):
    root = plant({"a/1.png": None, "b/1.png": None, "cells.csv": b"path,label\na/1.png,a\nb/1.png,b\n"})
    odd = root.rename(root.parent / os.fsdecode(b"M\xfcller"))
    for source in (odd, odd / "cells.csv"):
        with pytest.raises(DataError, match=r"M\\xfcller.*' is not UTF-8 text; rename"):
            open_dataset(settings(source))


def test_a_folder_that_may_not_be_searched(settings, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(DataError, match="Permission denied; mend its permissions"):
        open_dataset(settings("closed/cells"))
