import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from alljax.data import audit, duplicates, images, synthetic
from alljax.data.splits import PROTOCOLS
from alljax.errors import ConfigError, DataError, LeakError, WorkdirError

MADE = synthetic.read_synthetic(6, 24, 225, 0)
CELLS = [MADE.read(record) for record in MADE.records]


def form(data, form="PNG", turn=None, **options):
    image = images.decode(data, "x")
    file = io.BytesIO()
    (image.transpose(turn) if turn is not None else image).save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def tree(plant):
    """tree(extra): two classes, four people each, three cells each, all different; and other files."""

    def make(extra=(), **options):
        places = [f"{label}/{label}{who}/{cell}.bmp" for label in "ab" for who in range(4) for cell in range(3)]
        return str(plant(dict(zip(places, CELLS, strict=True)) | dict(extra), **options))

    return make


def leaks(found):
    return {each.protocol: each for each in found.protocols}


def test_a_set_without_copies(tree, capsys):
    found = audit.audit(tree())
    assert (found.images, found.subjects) == (24, 8)
    assert found.exact.pairs == found.near.pairs == 0
    assert found.people == ()
    assert found.error is None
    assert [each.protocol for each in found.protocols] == list(PROTOCOLS)
    drawn = {name: each.splits for name, each in leaks(found).items() if not each.refused}
    assert drawn == {"subject_holdout": 1, "leave_one_subject_out": 8, "paper": 1}
    assert "split.folds is 5" in leaks(found)["subject_kfold"].refused
    assert leaks(found)["paper"].person > 0
    assert leaks(found)["paper"].declared
    assert leaks(found)["subject_holdout"].person == 0
    assert leaks(found)["subject_holdout"].field is None
    audit.show(found)
    said = capsys.readouterr().out
    assert "prelim is not possible: there is no part 'prelim'" in said
    assert "declared to leak: paper" in said


def test_copies_of_all_kinds(tree, capsys, tmp_path):
    extra = {
        "a/a1/again.png": form(CELLS[0]),  # of a0, and another format
        "a/a2/again.bmp": CELLS[0],
        "a/a3/turned.png": form(CELLS[1], turn=Image.Transpose.ROTATE_90),
        "b/b0/wrong.jpg": form(CELLS[2], "JPEG", quality=90),  # of a0 too: one of the classes is wrong
        "b/b1/again.bmp": CELLS[15],  # of b1 itself
    }
    found = audit.audit(tree(extra), "subject_holdout")
    assert set(found.exact.groups) == {
        ("a/a0/0.bmp", "a/a1/again.png", "a/a2/again.bmp"),
        ("b/b1/0.bmp", "b/b1/again.bmp"),
    }
    assert (found.exact.pairs, found.exact.subjects, found.exact.people, found.exact.classes) == (4, 3, 0, 0)
    assert set(found.near.groups) == {("a/a0/1.bmp", "a/a3/turned.png"), ("a/a0/2.bmp", "b/b0/wrong.jpg")}
    assert (found.near.pairs, found.near.subjects, found.near.people, found.near.classes) == (2, 2, 2, 1)
    assert found.near.contradictory == (("a/a0/2.bmp", "b/b0/wrong.jpg"),)
    # Near duplicates unite nobody: neither a3 nor b0.
    assert found.people == (audit.Person(("a0", "a1", "a2"), False, (("a0", "a1", "a2"),), 1),)
    (holdout,) = found.protocols
    assert (holdout.person, holdout.duplicate) == (0, 0)
    audit.show(found, tmp_path / "found.json")
    said = capsys.readouterr().out
    assert "a/a0/0.bmp = a/a1/again.png = a/a2/again.bmp" in said
    assert "near duplicates under two classes, one of them wrong:\n  a/a0/2.bmp = b/b0/wrong.jpg" in said
    assert "one person: a0 = a1 = a2 (a0 = a1 = a2 share 1 image here)" in said
    kept = json.loads((tmp_path / "found.json").read_text())
    assert kept["exact"]["groups"] == [list(group) for group in found.exact.groups]
    assert kept["people"][0]["subjects"] == ["a0", "a1", "a2"]
    assert kept["error"] == ""


def test_near_duplicates_are_counted_where_they_are_tested(tree):
    copies = {f"a/a3/{cell}.jpg": form(CELLS[cell], "JPEG", quality=85) for cell in range(3)}  # of a0
    (found,) = audit.audit(tree(copies), "leave_one_subject_out").protocols
    assert (found.splits, found.test_cells, found.duplicate) == (8, 27, 0)
    assert found.near == 6  # a0's three when a0 is tested, their copies when a3 is


def test_repeats_and_other_keys_are_those_of_the_config(tree):
    source = tree()
    two = [("split.repeats", "2"), ("split.folds", "4"), ("seed", "3")]
    assert audit.audit(source, "subject_kfold", two).protocols[0].splits == 8
    found = leaks(audit.audit(source, "", two))
    assert found["subject_kfold"].splits == 8
    assert found["leave_one_subject_out"].splits == 8, "it divides in one way only"
    asked = audit.audit(source, "leave_one_subject_out", two)
    assert isinstance(asked.error, ConfigError)


@pytest.mark.parametrize(
    ("protocol", "overrides", "message"),
    [
        ("kfold", [], "split.protocol='kfold'"),
        ("", [("split.foldz", "3")], "split.folds"),
        ("", [("split.folds", "many")], "whole number"),
    ],
)
def test_what_no_config_takes_is_refused_before_any_image_is_read(tree, monkeypatch, protocol, overrides, message):
    monkeypatch.setattr(duplicates, "take_prints", lambda *ignored: pytest.fail("read"))
    with pytest.raises(ConfigError, match=message):
        audit.audit(tree(), protocol, overrides)


def test_a_part_that_leaks_is_an_error(tree):
    extra = {"test/a/a0/new.bmp": form(CELLS[0], turn=Image.Transpose.ROTATE_180), "test/b/b9/new.bmp": CELLS[23]}
    source = tree(extra)
    found = audit.audit(source, "prelim", [("split.test_subset", "test")])
    assert isinstance(found.error, LeakError)
    assert "protocol prelim leaks" in str(found.error)
    assert "b3+b9" in str(found.error)
    assert (found.exact.parts, found.near.parts) == (1, 1)
    every = audit.audit(source, "", [("split.test_subset", "test")])
    assert isinstance(every.error, LeakError)
    assert len(every.protocols) == len(PROTOCOLS)


def test_unreadable_images_are_left_out_and_named(tree, capsys):
    found = audit.audit(tree({"a/a0/bad.png": b"no image", "b/b0/empty.png": b""}), "paper")
    assert found.images == 24
    assert found.unreadable == {"a/a0/bad.png": "not an image", "b/b0/empty.png": "empty (0 bytes)"}
    audit.show(found)
    assert "2 images left out, cannot be read: a/a0/bad.png (not an image)" in capsys.readouterr().out


def test_a_set_of_which_nothing_can_be_read(plant):
    found = audit.audit(str(plant({"a/1.png": b"x", "b/1.png": b"y"})))
    assert found.images == 0
    assert all("no labeled images found" in each.refused for each in found.protocols)


def test_a_set_without_images(plant):
    with pytest.raises(DataError, match="no images in it"):
        audit.audit(str(plant({"a/1.txt": b"x"})))


def test_cells_without_subjects(plant, capsys):
    files = {f"{'ab'[number % 2]}/{number}.bmp": cell for number, cell in enumerate(CELLS)}
    found = audit.audit(str(plant(files | {"a/again.png": form(CELLS[0])})), "subject_kfold")
    assert (found.subjects, found.exact.pairs, found.exact.subjects, found.people) == (0, 1, 0, ())
    (kfold,) = found.protocols
    assert (kfold.person, kfold.duplicate, kfold.test_cells) == (None, 0, 25)
    audit.show(found)
    assert "25 images of no known subject: cell-level only" in capsys.readouterr().out


def test_unlabeled_images_are_compared_but_not_divided(plant):
    cells = {f"training_data/fold_{n % 2}/all/UID_{n}_1_1_all.bmp": CELLS[n] for n in range(1, 9)}
    cells |= {f"training_data/fold_{n % 2}/hem/UID_H{n}_1_1_hem.bmp": CELLS[n + 8] for n in range(1, 9)}
    final = {"testing_data/C-NMC_test_final_phase_data/1.bmp": CELLS[1]}
    found = audit.audit(str(plant(cells | final)), "official_folds")
    assert (found.images, found.exact.pairs, found.exact.parts, found.exact.classes) == (17, 1, 1, 0)
    assert found.protocols[0].test_cells == 16


def test_identical_images_by_the_hundred(plant):
    files = {f"{label}/{number}.bmp": CELLS[0] for label in "ab" for number in range(300)}
    found = audit.audit(str(plant(files)), "paper")
    assert found.exact.pairs == 600 * 599 // 2
    assert found.exact.classes == 300 * 300
    assert found.near.pairs == 0
    assert found.protocols[0].duplicate == 120


def test_a_place_that_cannot_be_written(tree, tmp_path):
    found = audit.audit(tree(), "paper")
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write"):
        audit.show(found, tmp_path / "file/found.json")


@pytest.mark.real
def test_the_real_cells(cnmc_zip):
    found = audit.audit(str(cnmc_zip))
    assert (found.images, found.subjects) == (526, 59)
    assert (found.exact.pairs, found.exact.subjects, found.exact.folds, found.exact.classes) == (3, 3, 2, 0)
    assert (found.near.pairs, found.near.subjects, found.near.people, found.near.classes) == (20, 3, 0, 0)
    assert found.people == (
        audit.Person(("20", "21"), True, (("20", "21"),), 2),
        audit.Person(("51", "78"), True, (), 0),
        audit.Person(("H2", "H4", "H5", "H6"), True, (("H2", "H4"),), 1),
        audit.Person(("H3", "H10"), True, (), 0),
    )
    assert found.error is None
    counts = {name: (each.person, each.duplicate, each.near) for name, each in leaks(found).items()}
    assert counts.pop("paper")[0] > 80
    assert counts.pop("official_folds_by_name") == (31, 4, 10)
    assert set(counts.values()) == {(0, 0, 0)}


@pytest.mark.real
def test_the_complete_set(cnmc_manifest, plant, monkeypatch):
    """Every file of the set stands for its hash, in eleven pixels, which are alike by nothing else."""
    monkeypatch.setattr(duplicates, "near", lambda small, advance: np.empty((0, 2), int))
    with cnmc_manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    files, table = {}, ["Patient_ID,new_names,labels"]
    folders = {"train": "training_data/{fold}/{label}", "prelim": "validation_data", "final": "testing_data"}
    for row in rows:
        picture = Image.frombytes("RGB", (11, 1), bytes.fromhex(row["sha256"]) + b"\0")
        picture.save(content := io.BytesIO(), "BMP")
        files[f"{folders[row['phase']].format(**row)}/{row['file']}"] = content.getvalue()
        if row["phase"] == "prelim":
            table.append(f"{row['uid_name']},{row['file']},{int(row['label'] == 'all')}")
    files["validation_data/C-NMC_test_prelim_phase_data_labels.csv"] = "\r\n".join(table).encode()
    found = audit.audit(str(plant(files, zipped=True)), "official_folds_by_name")
    assert (found.images, found.subjects) == (15_114, 101)
    assert found.exact.pairs == 104 + 2
    assert found.exact.subjects == 99
    assert found.exact.folds == 94
    assert found.exact.parts == found.exact.classes == 0
    assert [(each.subjects, each.found, each.images) for each in found.people] == [
        (("20", "21"), (("20", "21"),), 71),
        (("51", "75", "78"), (("51", "75", "78"),), 21),
        (("H2", "H4", "H5", "H6"), (("H2", "H4", "H5", "H6"),), 6),
        (("H3", "H10"), (("H3", "H10"),), 1),
    ]
    assert all(each.known for each in found.people)
    (by_name,) = found.protocols
    assert by_name.test_cells == 10_661
    assert by_name.duplicate == 2 * 94
    assert by_name.person > by_name.duplicate
