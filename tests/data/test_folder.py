from pathlib import Path

import pytest

from alljax.data.archive import open_tree
from alljax.data.folder import read_csv, read_tree
from alljax.data.readers import open_dataset
from alljax.errors import ConfigError, DataError

TREE = [
    "train/dogs/rex/1.png",
    "train/dogs/rex/2.png",
    "train/cats/tom/1.png",
    "val/cats/kit/1.png",
    "val/dogs/max/1.png",
    "test/cats/kim/10.png",
    "test/cats/kim/9.png",
    "test/dogs/bo/1.png",
]


def read(root, **options):
    return read_tree(open_tree(root), **options)


@pytest.mark.parametrize("prefix", ["", "pets/", "outer/pets/"])
def test_split_class_subject_in_a_zip(plant, prefix):
    dataset = read(plant([prefix + path for path in TREE], zipped=True))
    assert dataset.classes == ("cats", "dogs")
    assert [(r.path.removeprefix(prefix), r.label, r.subject, r.subset) for r in dataset.records] == [
        ("test/cats/kim/9.png", 0, "kim", "test"),
        ("test/cats/kim/10.png", 0, "kim", "test"),
        ("test/dogs/bo/1.png", 1, "bo", "test"),
        ("train/cats/tom/1.png", 0, "tom", "train"),
        ("train/dogs/rex/1.png", 1, "rex", "train"),
        ("train/dogs/rex/2.png", 1, "rex", "train"),
        ("val/cats/kit/1.png", 0, "kit", "val"),
        ("val/dogs/max/1.png", 1, "max", "val"),
    ]
    assert dataset.notes == ((f"passed over the outer folder {prefix[:-1]}",) if prefix else ())


def test_a_folder_is_read_like_the_zip(plant):
    assert read(plant(TREE)).records == read(plant(TREE, zipped=True)).records


@pytest.mark.parametrize("name", ["train", "Val", "valid", "validation", "TEST", "fold_3", "Fold_12", "training"])
def test_parts_and_folds_are_never_classes(plant, name):
    dataset = read(plant([f"{name}/a/1.png", f"{name}/b/1.png", f"a/{name}/2.png"]))
    assert dataset.classes == ("a", "b")
    assert {r.subject for r in dataset.records} == {""}


def test_folds_are_kept(plant):
    dataset = read(plant(["fold_0/a/1.png", "fold_10/b/1.png"]))
    assert [(r.fold, r.subset) for r in dataset.records] == [("0", "train"), ("10", "train")]


def test_without_subjects_it_is_said(plant):
    assert read(plant(["a/1.png", "b/1.png"])).notes == ("no subjects known: cell-level only",)
    some = read(plant(["a/1.png", "b/1.png", "b/p/1.png"], root="other"))
    assert some.notes == ("2 of 3 images have no subject; each counts as its own person",)


def test_a_subject_under_two_classes_is_said(plant):
    notes = read(plant(["a/p1/1.png", "b/p1/1.png", "b/p2/1.png"])).notes
    assert notes == ("1 subject under more than one class, taken for the same person: p1",)


SWAPPED = [
    ["pat1/blast/0.png", "pat2/blast/0.png", "pat1/normal/0.png"],
    ["pat1/blast/0.png", "pat2/normal/0.png", "pat3/blast/0.png"],
    ["train/7/all/0.png", "train/8/hem/0.png", "test/9/all/0.png"],
    [f"{person}/{kind}/0.png" for person in ("anna", "bob", "carl") for kind in ("blast", "normal")],
]
HONEST = [
    ["blast/pat1/0.png", "blast/pat2/0.png", "normal/pat1/0.png"],
    ["blast/anna/0.png", "blast/bob/0.png", "normal/anna/0.png", "normal/bob/0.png"],
    ["L1/anna/0.png", "L1/bob/0.png", "L2/carl/0.png"],
    ["L1/p1/0.png", "L1/p2/0.png", "L2/p1/0.png", "L2/p2/0.png"],
    [f"{kind}/p{person}/0.png" for kind in ("basophil", "blast", "lymphocyte") for person in (1, 2)],
    ["1/blast.png", "2/blast.png", "1/left/0.png", "2/left/0.png", "2/right/0.png"],
]


@pytest.mark.parametrize("files", SWAPPED)
@pytest.mark.parametrize("zipped", [False, True])
def test_person_and_class_swapped(plant, files, zipped):
    root = plant(files, zipped)
    with pytest.raises(DataError, match=r"one folder a person \(.*\) holding one folder a class \(.*\); turn it round"):
        read(root)


def test_who_names_the_classes_is_believed(plant):
    root = plant(SWAPPED[0])
    dataset = read(root, classes=("pat1", "pat2"))
    assert {(r.label, r.subject) for r in dataset.records} == {(0, "blast"), (0, "normal"), (1, "blast")}


@pytest.mark.parametrize("files", HONEST)
def test_people_under_several_classes_are_not_refused(plant, files):
    assert len(read(plant(files)).records) == len(files)


def test_name_pattern(plant):
    pattern = r"^(?P<subject>[A-Z]+\d+)_f(?P<field>\d+)(_c(?P<cell>\d+))?"
    root = plant(["a/P1_f3_c7.png", "a/P2_f1.png", "b/N9_f1_c1.png", "b/other.png"])
    dataset = read(root, name_pattern=pattern)
    assert [(r.subject, r.field, r.cell) for r in dataset.records] == [
        ("P1", "3", "7"),
        ("P2", "1", ""),
        ("N9", "1", "1"),
        ("", "", ""),
    ]
    assert dataset.notes[0] == "1 name that data.name_pattern does not match: b/other.png"


@pytest.mark.parametrize("pattern", ["(", r"(\d+)", r"(?P<person>\d+)"])
def test_patterns_that_cannot_work(plant, pattern):
    with pytest.raises(ConfigError, match="name_pattern"):
        read(plant(["a/1.png", "b/1.png"]), name_pattern=pattern)


def test_order_of_classes(plant):
    root = plant(["a/1.png", "b/1.png", "c/1.png"])
    dataset = read(root, classes=("c", "a"))
    assert dataset.classes == ("c", "a")
    assert [(r.path, r.label) for r in dataset.records] == [("a/1.png", 1), ("c/1.png", 0)]
    assert dataset.notes[0] == "1 image outside the class folders left out: b/1.png"
    with pytest.raises(DataError, match="names 'd', but the classes there are a, b, c"):
        read(root, classes=("a", "d"))


def test_what_is_left_out_is_said(plant):
    root = plant({"a/1.png": None, "b/1.png": None, "stray.png": None, "a/notes.txt": b"", "b/Thumbs.db": b""})
    dataset = read(root)
    assert len(dataset.records) == 2
    assert dataset.notes[:2] == (
        "1 file left out, no image by the name: a/notes.txt",
        "1 image outside the class folders left out: stray.png",
    )


def test_a_zip_beside_unpacked_images_is_left(plant):
    plant(["a/1.png", "c/9.png"], zipped=True, root="source/backup")
    dataset = read(plant(["a/1.png", "b/1.png"]))
    assert dataset.classes == ("a", "b")
    assert [r.path for r in dataset.records] == ["a/1.png", "b/1.png"]
    assert dataset.notes[0] == "2 images inside zips left out: unpacked ones are beside them"


def test_one_zip_a_class(plant):
    plant(["1.png"], zipped=True, root="source/a")
    root = plant(["1.png"], zipped=True, root="source/b").parent
    dataset = read(root)
    assert [(r.path, dataset.classes[r.label]) for r in dataset.records] == [("a.zip/1.png", "a"), ("b.zip/1.png", "b")]


@pytest.mark.parametrize("zipped", [False, True])
def test_bad_trees(plant, settings, zipped):
    def refuse(files, message, root):
        with pytest.raises(DataError, match=message):
            open_dataset(settings(plant(files, zipped, root)))

    refuse({"a/1.png": None, "b/readme.txt": b""}, "class 'b' has no image", "empty_class")
    refuse(["train/a/1.png", "train/a/2.png"], r"only one class \('a'\)", "one_class")
    refuse({"readme.txt": b""}, "no images in it; expected a folder for each class", "no_images")
    refuse(["1.png", "2.png"], "no labeled images found", "no_classes")
    refuse(["val/a/1.png", "val/b/1.png"], r"no part 'train' .*; there is val \(2 images\)", "no_train")


def test_empty_and_missing_sources(tmp_path, settings):
    with pytest.raises(DataError, match="no images in it"):
        open_dataset(settings(tmp_path))
    with pytest.raises(DataError, match=r"nowhere: no such file or folder"):
        open_dataset(settings(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no such file or folder"):
        open_dataset(settings(""))


def test_an_empty_class_folder(plant, settings):
    root = plant(["a/1.png", "b/1.png"])
    (root / "c").mkdir()
    with pytest.raises(DataError, match="class 'c' has no image"):
        open_dataset(settings(root))
    assert len(open_dataset(settings(root, classes=("a", "b"))).records) == 2


def test_parts_of_a_folder(plant, settings):
    root = plant(TREE)
    dataset = open_dataset(settings(root))
    assert {r.subset for r in dataset.records} == {"train"}
    assert dataset.notes[-1] == "only the part 'train' is used (data.subset); left out: 3 of test, 2 of val"
    assert len(open_dataset(settings(root, subset="val")).records) == 2


CSV = "path,label,subject,subset\na/10.png,dog,rex,\na/2.png,cat,tom,train\n3.png,cat,kit,test\n"


def table(plant, text):
    root = plant({"a/10.png": None, "a/2.png": None, "3.png": None, "cells.csv": text.encode()})
    return root / "cells.csv"


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_csv(plant, settings, picture, bom):
    path = table(plant, bom + CSV)
    dataset = read_csv(path)
    assert dataset.classes == ("cat", "dog")
    assert [(r.path, r.label, r.subject, r.subset) for r in dataset.records] == [
        ("3.png", 0, "kit", "test"),
        ("a/2.png", 0, "tom", "train"),
        ("a/10.png", 1, "rex", "train"),
    ]
    assert dataset.read(dataset.records[1]) == picture("a/2.png")
    assert read_csv(path, ("dog", "cat")).classes == ("dog", "cat")
    assert read_csv(path, ("dog",)).notes == ("2 images left out: their labels are not in data.classes",)
    assert len(open_dataset(settings(path)).records) == 2


def test_csv_with_the_least_columns(plant):
    dataset = read_csv(table(plant, "Label , Path\r\ndog,a\\10.png\r\ncat,3.png\r\n\r\n"))
    assert [r.path for r in dataset.records] == ["3.png", "a/10.png"]
    assert dataset.notes == ("no subjects known: cell-level only",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; expected the columns path and label"),
        ("file,label\n3.png,a\n", "column 'path' is missing; .* found file, label"),
        ("path,subject\n3.png,a\n", "column 'label' is missing"),
        ("path,label\n3.png\n", "line 2: 1 cells, but the header has 2"),
        ("path,label\n3.png,\n", "line 2: path and label may not be empty"),
        ("path,label\n4.png,a\n3.png,b\n", r"1 of 2 images are not there .*: 4\.png"),
        ("path,label\n3.png,a\n3.png,a\n", r"3\.png stands twice"),
        ("path,label\n3.png,a\n3.png,b\n", r"3\.png stands under two labels"),
        ('path,label\n"3.png,a\n', "cannot be read as a CSV"),
    ],
)
def test_bad_csv(plant, text, message):
    with pytest.raises(DataError, match=message):
        read_csv(table(plant, text))


def test_csv_beside_a_folder_that_may_not_be_searched(plant, monkeypatch):
    path = table(plant, CSV)

    def refuse(place):
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(DataError, match=r"cells\.csv: cannot look for .*a/10\.png: Permission denied"):
        read_csv(path)


def test_csv_that_is_not_text(plant):
    path = table(plant, "")
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"cells\.csv: cannot be read as a CSV"):
        read_csv(path)
