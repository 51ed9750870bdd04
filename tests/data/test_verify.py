import dataclasses
import json
import random
from collections import Counter

import pytest

from alljax.data import cnmc_index, verify
from alljax.errors import DataError, WorkdirError

TRAIN, PRELIM, FINAL = "training_data", "validation_data/C-NMC_test_prelim_phase_data", "testing_data/phase3"
TABLE = "validation_data/C-NMC_test_prelim_phase_data_labels.csv"


@pytest.fixture
def small(monkeypatch):
    """Lets the images of the complete set have the 12 × 12 pixels of `plant`, those of the final phase 16 × 16."""
    monkeypatch.setattr(cnmc_index, "SIZES", {"train": (12, 12), "prelim": (12, 12), "final": (16, 16)})


@pytest.fixture
def complete(picture):
    """The files of the complete set in the Kaggle layout: one picture a phase stands for all of its images."""
    cell, larger = picture("cell.bmp"), picture("larger.bmp", 16)
    files, rows = {}, ["Patient_ID,new_names,labels"]
    for record in cnmc_index.expected():
        if record.subset == "train":
            files[f"{TRAIN}/fold_{record.fold}/{cnmc_index.CLASSES[record.label]}/{record.path}"] = cell
        elif record.subset == "prelim":
            files[f"{PRELIM}/{len(rows)}.bmp"] = cell
            rows.append(f"{record.path},{len(rows)}.bmp,{record.label}")
        else:
            files[f"{FINAL}/{record.path}"] = larger
    return files | {TABLE: "".join(f"{row}\r\n" for row in rows).encode()}


def numbers(found, *names):
    return {
        (row.part, row.fold, row.label): tuple(getattr(row, name) for name in names)
        for row in found.rows
        if any(getattr(row, name) for name in names)
    }


def test_the_complete_set(plant, complete, small, capsys):
    found = verify.verify(str(plant(complete, zipped=True)))
    assert found.problems == {}
    assert len(found.rows) == 9
    for row in found.rows:
        images, subjects = cnmc_index.KNOWN[row.part, row.fold, row.label]
        assert row.images == row.known_images == images
        assert row.subjects == (row.known_subjects or 0) == subjects
        assert row.missing == row.surplus == row.unreadable == row.odd_size == 0
    assert found.sizes == {(12, 12): 12_528, (16, 16): 2_586}
    assert {part: len(names) for part, names in found.subjects.items()} == {"train": 73, "prelim": 28}
    assert found.subjects["train"]["H3"] == 36
    verify.show(found)
    said = capsys.readouterr().out
    assert "train 10,661 of 10,661, prelim 1,867 of 1,867, final 2,586 of 2,586 images" in said
    assert said.endswith("nothing is off\n")


def test_everything_that_can_be_off(plant, complete, small, picture, capsys, tmp_path):
    files = {path: data for path, data in complete.items() if "/fold_0/" in path or "/fold_2/hem/" in path}
    gone = [path for path in files if "/fold_0/all/UID_11_29_" in path]
    for path in gone:
        del files[path]
    first, second, third, fourth, fifth = sorted(path for path in files if "/fold_0/all/UID_4_" in path)[:5]
    files[first] = b""
    files[second] = files[second][:100]
    files[third] = picture("large.bmp", 20)
    moved = files.pop(fourth)
    files[fourth.replace("fold_0", "fold_2")] = moved
    files |= {
        f"{TRAIN}/fold_0/all/Thursday.bmp": None,
        f"{TRAIN}/fold_0/all/UID_999_1_1_all.bmp": None,
        f"{TRAIN}/fold_0/hem/UID_4_999_1_all.bmp": None,  # contradicts its folder
        f"copies/fold_0/all/{fifth.rpartition('/')[2]}": None,
        f"test/{fifth.rpartition('/')[2]}": None,
        f"{PRELIM}/1.bmp": None,  # no CSV beside it
        f"{PRELIM}/2.bmp": None,
    }
    found = verify.verify(str(plant(files)))
    assert set(found.problems) == set(verify.PROBLEMS) - {"outside", "unusable"}
    assert found.problems["odd_name"] == (f"{TRAIN}/fold_0/all/Thursday.bmp",)
    assert found.problems["surplus"] == (f"{TRAIN}/fold_0/all/UID_999_1_1_all.bmp",)
    assert found.problems["unlabeled"] == (f"{PRELIM}/1.bmp", f"{PRELIM}/2.bmp")
    (line,) = found.problems["contradictory"]
    assert line.startswith(f"{TRAIN}/fold_0/hem/UID_4_999_1_all.bmp: its name says 'all' but it lies in the folder")
    assert found.problems["unreadable"][0] == f"{first} (empty (0 bytes))"
    assert [name.partition(" (")[0] for name in found.problems["unreadable"]] == [first, second]
    assert found.problems["odd_size"] == (f"{third} (20 × 20)",)
    # Of three places the first is used; a reader takes one a part, and verify finds the other part's.
    assert set(found.problems["repeated"]) == {fifth, f"test/{fifth.rpartition('/')[2]}"}
    belongs = fourth.replace(TRAIN, "train")
    assert f"{fourth.replace('fold_0', 'fold_2')} (belongs into {belongs})" in found.problems["misplaced"]
    whole = Counter({place: images for place, (images, _) in cnmc_index.KNOWN.items()})
    absent = {place: whole[place] for place in whole if place[1] not in ("0", "2") or place == ("train", "2", "all")}
    absent["train", "0", "all"] = len(gone)
    assert numbers(found, "missing") == {place: (count,) for place, count in absent.items()}
    assert len(found.problems["missing"]) == sum(absent.values())
    assert "train/fold_0/all/UID_11_29_4_all.bmp" in found.problems["missing"]
    assert numbers(found, "surplus", "unreadable", "odd_size") == {("train", "0", "all"): (1, 2, 1)}
    assert numbers(found, "images")["train", "0", "all"] == (2_397 - len(gone),)
    verify.show(found, tmp_path / "found.json")
    said = " ".join(capsys.readouterr().out.split())
    assert f"{sum(absent.values()):,} missing: train/fold_0/all/" in said
    assert "2 cannot be read:" in said
    assert "something is off" in said
    kept = json.loads((tmp_path / "found.json").read_text())
    assert kept["well"] is False
    assert kept["problems"]["missing"] == list(found.problems["missing"])
    assert kept["rows"][0]["known_images"] == 2_397
    assert kept["sizes"]["20x20"] == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace(",1.bmp,1\r\n", ",1.bmp,0\r\n"),
        lambda text: text.replace("Patient_ID", "Patient"),
        lambda text: text + text.splitlines()[5].replace(",5.bmp,", ",1.bmp,") + "\r\n",
    ],
    ids=["label", "header", "two names"],
)
def test_a_label_table_that_contradicts_is_named_and_the_rest_looked_at(plant, complete, small, damage):
    files = {path: data for path, data in complete.items() if "/fold_1/hem/" in path or path.startswith(PRELIM)}
    files[TABLE] = damage(complete[TABLE].decode()).encode()
    found = verify.verify(str(plant(files, zipped=True)))
    (line,) = found.problems["contradictory"]
    assert line.startswith(TABLE)
    assert len(found.problems["unlabeled"]) == 1_867
    assert numbers(found, "images") == {("train", "1", "hem"): (1_163,)}


def test_one_cell_under_two_labels_cannot_be_opened(plant):
    root = plant(["a/UID_1_1_1_all.bmp", "b/UID_1_1_1_hem.bmp"])
    with pytest.raises(DataError, match="same cell with two labels"):
        verify.verify(str(root))


def test_the_order_of_files_makes_no_difference(plant, complete, small):
    part = [path for path in complete if "/fold_1/hem/" in path]
    random.Random(3).shuffle(part)
    files = {path: complete[path] for path in part} | {f"{TRAIN}/fold_1/hem/{name}.bmp": None for name in "bca"}
    one = verify.verify(str(plant(files, zipped=True, root="one")))
    other = verify.verify(str(plant(dict(sorted(files.items())), zipped=True, root="two")))
    assert dataclasses.replace(one, source="") == dataclasses.replace(other, source="")
    assert [name[-5] for name in one.problems["odd_name"]] == ["a", "b", "c"]


FOLDER = {f"{part}/{label}/{who}{label}/{cell}.png": None for part in ("train", "test") for label in ("cat", "dog")
          for who in "xy" for cell in range(3)}  # fmt: skip


def test_a_folder(plant, capsys):
    found = verify.verify(str(plant(FOLDER)))
    assert found.name == "folder"
    assert found.problems == {}
    assert numbers(found, "images", "subjects", "known_images") == {
        (part, "", label): (6, 2, None) for part in ("train", "test") for label in ("cat", "dog")
    }
    assert found.subjects == {part: {"xcat": 3, "xdog": 3, "ycat": 3, "ydog": 3} for part in ("train", "test")}
    verify.show(found)
    said = capsys.readouterr().out
    assert "missing" not in said
    assert "test 12, train 12 images" in said
    assert "nothing is off" in said


def test_what_can_be_off_in_a_folder(plant, picture):
    files = FOLDER | {
        "train/cat/xcat/1.png": b"no image",
        "train/dog/ydog/2.png": picture("large.png", 31),
        "stray.png": None,
    }
    found = verify.verify(str(plant(files)))
    assert found.problems == {
        "outside": ("stray.png",),
        "unreadable": ("train/cat/xcat/1.png (not an image)",),
        "odd_size": ("train/dog/ydog/2.png (31 × 31)",),
    }
    assert numbers(found, "unreadable", "odd_size") == {
        ("train", "", "cat"): (1, 0),
        ("train", "", "dog"): (0, 1),
    }


def test_sizes_of_which_none_is_usual_are_not_off(plant, picture):
    files = {f"{label}/{side}.png": picture(f"{label}{side}.png", side) for label in "ab" for side in range(8, 14)}
    found = verify.verify(str(plant(files)))
    assert found.problems == {}
    assert len(found.sizes) == 6


def test_a_set_nothing_can_be_learned_from(plant):
    found = verify.verify(str(plant(["only/1.png", "only/2.png"])))
    (line,) = found.problems["unusable"]
    assert "only one class" in line


def test_a_zip_beside_its_unpacked_files_is_not_off(plant):
    plant(FOLDER, zipped=True, root="source/all")
    found = verify.verify(str(plant(FOLDER)))
    assert found.problems == {}


def test_generated_cells():
    found = verify.verify("synthetic")
    assert found.name == "synthetic"
    assert found.problems == {}
    assert sum(row.images for row in found.rows) == 600


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_nothing_there(name):
    with pytest.raises(DataError, match="no such file or folder"):
        verify.verify(name)


def test_a_place_that_cannot_be_written(plant, tmp_path):
    found = verify.verify(str(plant(FOLDER)))
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write"):
        verify.show(found, tmp_path / "file/found.json")


@pytest.mark.real
def test_the_real_cells(cnmc_zip):
    found = verify.verify(str(cnmc_zip))
    assert set(found.problems) == {"missing"}
    assert numbers(found, "images", "missing") == {
        ("train", "0", "all"): (328, 2_397 - 328),
        ("train", "0", "hem"): (24, 1_130 - 24),
        ("train", "1", "all"): (98, 2_418 - 98),
        ("train", "1", "hem"): (17, 1_163 - 17),
        ("train", "2", "all"): (22, 2_457 - 22),
        ("train", "2", "hem"): (23, 1_096 - 23),
        ("prelim", "", "all"): (10, 1_219 - 10),
        ("prelim", "", "hem"): (4, 648 - 4),
        ("final", "", ""): (0, 2_586),
    }
    missing = found.problems["missing"]
    assert sum(name.startswith("train/") for name in missing) == 10_661 - 512
    assert len(missing) == len(set(missing)) == 15_114 - 526
    assert found.sizes == {(450, 450): 526}
