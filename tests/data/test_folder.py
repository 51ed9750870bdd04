import pytest

from alljax.data.readers import open_all, open_dataset
from alljax.errors import ConfigError, DataError

TREE = [
    "train/dogs/rex/1.png",
    "train/cats/tom/1.png",
    "val/dogs/max/1.png",
    "test/cats/kim/10.png",
    "test/cats/kim/9.png",
]


def read(root, classes=(), name_pattern=""):
    return open_all(str(root), classes, name_pattern)


@pytest.mark.parametrize("prefix", ["", "pets/", "outer/pets/"])
def test_subset_class_subject_in_a_zip(plant, prefix):
    dataset = read(plant([prefix + path for path in TREE], zipped=True))
    assert dataset.classes == ("cats", "dogs")
    assert [(r.path.removeprefix(prefix), r.label, r.subject, r.subset) for r in dataset.records] == [
        ("test/cats/kim/9.png", 0, "kim", "test"),
        ("test/cats/kim/10.png", 0, "kim", "test"),
        ("train/cats/tom/1.png", 0, "tom", "train"),
        ("train/dogs/rex/1.png", 1, "rex", "train"),
        ("val/dogs/max/1.png", 1, "max", "val"),
    ]


def test_subsets_and_folds_are_not_classes(plant):
    subsets = ["train", "Val", "valid", "validation", "TEST", "training", "testing"]
    dataset = read(plant([f"{name}/{label}/1.png" for name in (*subsets, "fold_3", "Fold_12") for label in "ab"]))
    assert dataset.classes == ("a", "b")
    assert {(r.fold, r.subset, r.subject) for r in dataset.records} == {
        *(("", name, "") for name in ("train", "val", "test")),
        *((fold, "train", "") for fold in ("3", "12")),
    }


SWAPPED = [
    ["pat1/blast/0.png", "pat2/blast/0.png", "pat1/normal/0.png"],
    ["pat1/blast/0.png", "pat2/normal/0.png", "pat3/blast/0.png"],
    ["train/7/all/0.png", "train/8/hem/0.png", "test/9/all/0.png"],
    [f"{subject}/{name}/0.png" for subject in ("anna", "bob", "carl") for name in ("blast", "normal")],
]
NOT_SWAPPED = [
    ["blast/pat1/0.png", "blast/pat2/0.png", "normal/pat1/0.png"],
    ["blast/anna/0.png", "blast/bob/0.png", "normal/anna/0.png", "normal/bob/0.png"],
    ["L1/anna/0.png", "L1/bob/0.png", "L2/carl/0.png"],
    ["L1/p1/0.png", "L1/p2/0.png", "L2/p1/0.png", "L2/p2/0.png"],
    [f"{name}/p{subject}/0.png" for name in ("basophil", "blast", "lymphocyte") for subject in (1, 2)],
    ["1/blast.png", "2/blast.png", "1/left/0.png", "2/left/0.png", "2/right/0.png"],
]


@pytest.mark.parametrize("files", SWAPPED)
def test_subject_and_class_swapped(plant, files):
    root = plant(files)
    with pytest.raises(DataError, match=r"one folder per subject \(.*\) with one folder per class \(.*\); reverse"):
        read(root)


@pytest.mark.parametrize("files", NOT_SWAPPED)
def test_subjects_may_have_several_classes(plant, files):
    assert len(read(plant(files)).records) == len(files)


def test_name_pattern(plant):
    pattern = r"^(?P<subject>[A-Z]+\d+)_f(?P<field>\d+)(_c(?P<cell>\d+))?"
    dataset = read(plant(["a/P1_f3_c7.png", "a/P2_f1.png", "b/N9_f1_c1.png", "b/other.png"]), name_pattern=pattern)
    assert [(r.subject, r.field, r.cell) for r in dataset.records] == [
        ("P1", "3", "7"),
        ("P2", "1", ""),
        ("N9", "1", "1"),
        ("", "", ""),
    ]
    assert dataset.notes[0] == "data.name_pattern does not match 1 name: b/other.png"
    for pattern in ("(", r"(?P<person>\d+)"):
        with pytest.raises(ConfigError, match="name_pattern"):
            read(plant(["a/1.png", "b/1.png"]), name_pattern=pattern)


def test_order_of_classes(plant):
    root = plant(["a/1.png", "b/1.png", "c/1.png"])
    dataset = read(root, classes=("c", "a"))
    assert [(r.path, dataset.classes[r.label]) for r in dataset.records] == [("a/1.png", "a"), ("c/1.png", "c")]
    assert dataset.notes[0] == "skipped 1 image, of none of the classes: b/1.png"
    with pytest.raises(DataError, match="no class 'd' .data.classes., only a, b, c"):
        read(root, classes=("a", "d"))


def test_skipped_files_are_noted(plant):
    plant(["a/1.png", "c/9.png"], zipped=True, root="source/backup")
    dataset = read(plant({"a/1.png": None, "b/1.png": None, "stray.png": None, "a/notes.txt": b""}))
    assert [r.path for r in dataset.records] == ["a/1.png", "b/1.png"]
    assert dataset.notes[:3] == (
        "skipped 2 images in zips, because there are unpacked images",
        "left out 1 file of formats that are not read: 1 .txt (first: a/notes.txt)",
        "skipped 1 image, of none of the classes: stray.png",
    )


def test_one_zip_per_class(plant):
    plant(["1.png"], zipped=True, root="source/a")
    dataset = read(plant(["1.png"], zipped=True, root="source/b").parent)
    assert [(r.path, dataset.classes[r.label]) for r in dataset.records] == [("a.zip/1.png", "a"), ("b.zip/1.png", "b")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/1.png": None, "b/readme.txt": b""}, "class 'b' has no images"),
        (["train/a/1.png", "train/a/2.png"], r"only one class \('a'\)"),
        (["1.png", "2.png"], "no labeled images found"),
        (["val/a/1.png", "val/b/1.png"], "no labeled images .*only 'train' used .*skipped: 2 of val"),
    ],
)
def test_unusable_folders(plant, settings, files, message):
    with pytest.raises(DataError, match=message):
        open_dataset(settings(plant(files)))


def test_empty_class_folder(plant, settings):
    (plant(["a/1.png", "b/1.png"]) / "c").mkdir()
    with pytest.raises(DataError, match="class 'c' has no images"):
        open_dataset(settings(plant([])))
    assert len(open_dataset(settings(plant([]), classes=("a", "b"))).records) == 2
