import pytest

from alljax.data.readers import open_all, open_labeled
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
    names = ["train_images", "Val", "testing set", "fold_3", "Fold_12"]
    dataset = read(plant([f"{name}/{label}/1.png" for name in names for label in "ab"]))
    assert dataset.classes == ("a", "b")
    assert {(r.fold, r.subset, r.subject) for r in dataset.records} == {
        *(("", name, "") for name in ("train", "val", "test")),
        *((fold, "train", "") for fold in ("3", "12")),
    }
    assert dataset.notes[0].startswith("folders read as subsets: testing set as test, train_images as train;")


def test_two_test_sets(plant, settings):
    root = plant([f"{subset}/{label}/1.png" for subset in ("Train", "TestA", "TestB") for label in "ab"])
    dataset = open_labeled(settings(root), ("train", "TestA"))
    assert {r.path.partition("/")[0] for r in dataset.records} == {"Train", "TestA"}
    assert dataset.notes[0].startswith("folders read as subsets: TestA, TestB;")
    assert dataset.notes[-1].endswith("skipped: 2 of TestB")


CELLS = ("basophil", "blast", "monocyte", "neutrophil")
UNCLEAR = [
    [f"{kind}/{cell}/{i}.png" for kind in ("Original", "Segmented") for cell in CELLS for i in (1, 2)],
    [f"{zoom}/{cell}/1.png" for zoom in ("40X", "100X") for cell in ("CD4", "CD8", "CD19")],
    [f"{kind}/{cell}/p1/1.png" for kind in ("images", "masks") for cell in CELLS],
    [*(f"raw/{cell}/1.png" for cell in CELLS), "augmented/blast/1.png"],
    [f"site{site}/camera{camera}{site}/{cell}/1.png" for site in (1, 2) for camera in (1, 2) for cell in CELLS],
    [f"{folder}{cell}/1.png" for folder in ("", "cells/") for cell in CELLS],
    ["pat1/blast/0.png", "pat2/blast/0.png", "pat1/normal/0.png"],
    ["pat1/blast/0.png", "pat2/normal/0.png", "pat3/blast/0.png"],
    ["train/7/all/0.png", "train/8/hem/0.png", "test/9/all/0.png"],
    [f"{subject}/{cell}/0.png" for subject in ("anna", "bob", "carl") for cell in ("blast", "normal")],
    ["blast/anna/0.png", "blast/bob/0.png", "normal/anna/0.png", "normal/bob/0.png"],
    ["L1/p1/0.png", "L1/p2/0.png", "L2/p1/0.png", "L2/p2/0.png"],
]
CLEAR = [
    ["blast/pat1/0.png", "blast/pat2/0.png", "normal/pat1/0.png"],
    ["L1/anna/0.png", "L1/bob/0.png", "L2/carl/0.png"],
    [f"{cell}/{numbers}/1.png" for cell in CELLS for numbers in ("0001-1000", "1001-2000")],
    ["1/blast.png", "2/blast.png", "1/left/0.png", "2/right/0.png"],
]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("files", UNCLEAR)
def test_unclear_trees_are_refused(plant, files, zipped):
    with pytest.raises(
        DataError, match=r"folder names recur \(.*set --config\.data\.classes=.*, in label order, or data\.source to"
    ):
        read(plant(files, zipped))


@pytest.mark.parametrize("files", CLEAR)
def test_clear_trees(plant, files):
    assert len(read(plant(files)).records) == len(files)


def test_classes_below_other_folders(plant):
    dataset = read(plant(UNCLEAR[4]), ("monocyte", "Blast"))
    assert dataset.classes == ("monocyte", "blast")
    assert {(r.path.split("/")[2], dataset.classes[r.label], r.subject) for r in dataset.records} == {
        ("blast", "blast", ""),
        ("monocyte", "monocyte", ""),
    }
    assert dataset.notes[0].startswith("folders above the classes are read together: site1/camera11, site1/camera21, ")
    pattern = "^(?P<subject>[^/]+)/"
    for source in (plant(UNCLEAR[8], root="by_subject"), plant([f"cells/{path}" for path in UNCLEAR[8]], zipped=True)):
        assert {r.subject for r in read(source, ("all", "hem"), pattern).records} == {"7", "8", "9"}
    # Of a second copy inside, nothing is read.
    dataset = read(plant(UNCLEAR[5], root="copy"), ("blast", "monocyte"))
    assert [r.path for r in dataset.records] == ["blast/1.png", "monocyte/1.png"]


@pytest.mark.parametrize(
    ("folders", "subjects", "others"),
    [
        (["a/p1", "a/p2", "b/p1"], ["p1", "p2", "p1"], ""),
        (["a/p1", "a/p2", "b/p1", "b/p2"], [""] * 4, "p1, p2"),
        (["a/0001-1000", "a/1001-2000", "b/1-70"], [""] * 3, "1-70, 0001-1000, 1001-2000"),
        (["a/1-500/p1", "a/501-900/p1", "b/1-500/p2"], ["p1", "p1", "p2"], "1-500, 501-900"),
        (["a/18-0070", "a/18-0071", "b/19-0001"], ["18-0070", "18-0071", "19-0001"], ""),
        (["a/a/p1", "b/b/p2"], ["p1", "p2"], ""),
    ],
)
def test_folders_that_are_not_subjects(plant, folders, subjects, others):
    root = plant([f"{folder}/1.png" for folder in folders])
    dataset = read(root, ("a", "b"))
    assert [r.subject for r in dataset.records] == subjects
    noted = [note for note in dataset.notes if note.startswith("not subjects")]
    assert [note.partition(": ")[2].partition(";")[0] for note in noted] == [others] * bool(others)
    dataset = read(root, ("a", "b"), "(?P<subject>[^/]+)/[^/]+$")
    assert all(r.subject for r in dataset.records)
    assert not any("not subjects" in note for note in dataset.notes)


def test_spellings_are_joined(plant):
    files = ["test/ALL/P1/1.png", "test/h\u00e9m/H3/1.png", "train/all /p1/2.png", "train/he\u0301m/h3/2.png"]
    dataset = read(plant(files), ("HE\u0301M", "All"))
    assert dataset.classes == ("h\u00e9m", "ALL")
    assert [(r.label, r.subject) for r in dataset.records] == [(1, "P1"), (0, "H3"), (1, "P1"), (0, "H3")]
    assert '"ALL" and "all "' in dataset.notes[0]
    pattern = r"_(?P<subject>\w+)\."
    dataset = read(plant(["a/1_P7.png", "b/2_p7.png"], root="named"), name_pattern=pattern)
    assert [r.subject for r in dataset.records] == ["P7", "P7"]
    assert len(open_all(str(plant(["test +/1.png", "test -/1.png"], root="tests")), ("test -", "Test +")).records) == 2
    with pytest.raises(ConfigError, match="a class twice"):
        read(plant(files), ("hem", "all", "ALL"))


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
        "left out files of formats that are not read: 1 .txt (first: a/notes.txt)",
        "skipped 1 image, of none of the classes: stray.png",
    )


@pytest.mark.parametrize("inner", ["", "{}/"])
@pytest.mark.parametrize("suffix", ["", "-20240101T101500Z-001", "-20240101T101500Z-3-002"])
def test_one_zip_per_class(plant, inner, suffix):
    for name in "ab":
        root = plant([inner.format(name) + "1.png"], zipped=True, root=f"source/{name}{suffix}").parent
    dataset = read(root)
    assert [(dataset.classes[r.label], r.subject) for r in dataset.records] == [("a", ""), ("b", "")]


def test_parts_of_a_download(plant):
    files = [f"cells/{name}/{i}.png" for name in "ab" for i in (1, 2, 3)]
    parts = [plant(files[i::2], zipped=True, root=f"source/cells-20240101T101500Z-00{i + 1}") for i in (0, 1)]
    plant(["c/1.png"], zipped=True, root="other")
    for source in (*parts, parts[0].parent):
        dataset = read(source)
        assert dataset.classes == ("a", "b")
        assert sorted(r.path.partition(".zip/")[2] for r in dataset.records) == files


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/1.png": None, "b/readme.txt": b""}, "class 'b' has no images"),
        (["a/1.png", "b/2\n.png"], r"'b/2\\n.png' contains a line break; rename"),
        (["a/1.png", "b/x\r/2.png"], r"x\\r/2.png' contains a line break"),
        (["train/a/1.png", "train/a/2.png"], r"only one class \('a'\)"),
        (["1.png", "2.png"], "no labeled images found"),
        (
            ["positive test/1.png", "negative test/1.png"],
            "no labeled images .*read as subsets: negative test, positive",
        ),
        (["val/a/1.png", "val/b/1.png"], "no labeled images .*only 'train' used .*skipped: 2 of val"),
    ],
)
def test_unusable_folders(plant, settings, files, message):
    with pytest.raises(DataError, match=message):
        open_labeled(settings(plant(files)))


def test_class_in_another_subset(plant, settings):
    root = plant(["train/a/1.png", "train/b/1.png", "test/b/2.png", "test/c/1.png"])
    with pytest.raises(DataError, match=r"'c' has images only in test, not in train; .*classes=a,b"):
        open_labeled(settings(root))
    assert len(open_labeled(settings(root, classes=("a", "b"))).records) == 2
    assert len(open_labeled(settings(root), ("train", "test")).records) == 4


def test_empty_class_folder(plant, settings):
    (plant(["a/1.png", "b/1.png"]) / "c").mkdir()
    with pytest.raises(DataError, match="class 'c' has no images"):
        open_labeled(settings(plant([])))
    assert len(open_labeled(settings(plant([]), classes=("a", "b"))).records) == 2
