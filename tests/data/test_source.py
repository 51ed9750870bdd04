import os
from pathlib import Path

import pytest

from alljax.data.source import open_source
from alljax.errors import ConfigError, DataError


def test_generated_cells(settings):
    dataset = open_source(settings("synthetic"))
    assert (dataset.name, len(dataset.records)) == ("synthetic", 40)
    assert any("generated cells" in note for note in dataset.notes)


def test_fixed_classes_cannot_be_renamed(settings):
    assert open_source(settings("synthetic", classes=("hem", "all"))).classes == ("hem", "all")
    with pytest.raises(ConfigError, match="are hem, all in this order"):
        open_source(settings("synthetic", classes=("all", "hem")))


def test_generated_cells_have_no_other_part(settings):
    with pytest.raises(DataError, match=r"synthetic: has no part 'prelim' .*; there is train \(40 images\)"):
        open_source(settings("synthetic", split="prelim"))


@pytest.mark.real
def test_the_real_cells_by_part(cnmc_zip, settings):
    dataset = open_source(settings(cnmc_zip))
    assert (dataset.name, len(dataset.records)) == ("cnmc", 512)
    assert dataset.notes[-1].endswith("left out: 14 of prelim")


def test_written_generated_cells_are_read_as_cnmc(settings, plant):
    made = open_source(settings("synthetic"))
    root = plant({f"{made.classes[r.label]}/{r.path}": made.read(r) for r in made.records})
    again = open_source(settings(root))
    assert again.name == "cnmc"
    assert {(r.subject, r.field, r.cell, r.label) for r in again.records} == {
        (r.subject, r.field, r.cell, r.label) for r in made.records
    }


def test_a_name_pattern_is_for_folders(settings):
    with pytest.raises(ConfigError, match="synthetic names its people itself"):
        open_source(settings("synthetic", name_pattern="(?P<subject>x)"))


def test_a_name_that_is_not_text(settings, plant):
    root = plant(["a/1.png", "a/2.png", "b/1.png"])
    (root / "a/1.png").rename(root / "a" / os.fsdecode(b"M\xfcller.png"))
    with pytest.raises(DataError, match=r"M\\xfcller.png' is not UTF-8 text; rename"):
        open_source(settings(root))


def test_a_source_whose_own_name_is_not_text(settings, plant):
    root = plant({"a/1.png": None, "b/1.png": None, "cells.csv": b"path,label\na/1.png,a\nb/1.png,b\n"})
    odd = root.rename(root.parent / os.fsdecode(b"M\xfcller"))
    for source in (odd, odd / "cells.csv"):
        with pytest.raises(DataError, match=r"M\\xfcller.*' is not UTF-8 text; rename"):
            open_source(settings(source))


def test_a_folder_that_may_not_be_searched(settings, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(DataError, match="Permission denied; mend its permissions"):
        open_source(settings("closed/cells"))
