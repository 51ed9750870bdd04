import io
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from alljax.data import cnmc, images
from alljax.data.archive import open_tree
from alljax.data.dataset import UNLABELED
from alljax.data.readers import open_all, open_dataset
from alljax.errors import DataError

TRAIN = {
    "fold_0": ["all/UID_3_1_1_all.bmp", "all/UID_50_1_10_all.bmp", "hem/UID_H6_2_1_hem.bmp"],
    "fold_2": ["all/UID_13_3_1_all.bmp", "hem/UID_h3_2_1_hem.bmp"],
}
ROWS = ["UID_57_29_1_all.bmp,1.bmp,1", "UID_H33_4_2_hem.bmp,10.bmp,0", "UID_58_1_1_all.bmp,2.bmp,1"]
TABLE = "".join(f"{row}\r\n" for row in ["Patient_ID,new_names,labels", *ROWS])
WHO = [("3", "1", "1"), ("50", "1", "10"), ("H6", "2", "1"), ("13", "3", "1"), ("H3", "2", "1")]
LATE = [("57", "29", "1"), ("58", "1", "1"), ("H33", "4", "2")]


def train(prefix, suffix=".bmp"):
    return {f"{prefix}{fold}/{path}".replace(".bmp", suffix): None for fold, paths in TRAIN.items() for path in paths}


def prelim(prefix, table, suffix=".bmp"):
    images = {f"{prefix}{number}{suffix}": None for number in (1, 2, 10)}
    return {**images, table: TABLE.encode()}


KAGGLE = {
    **train("C-NMC_Leukemia/training_data/"),
    **prelim(
        "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data/",
        "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data_labels.csv",
    ),
    "C-NMC_Leukemia/testing_data/C-NMC_test_final_phase_data/1.bmp": None,
}
TCIA = {
    **train("C-NMC_training_data/"),
    **prelim(
        "C-NMC_test_prelim_phase_data/C-NMC_test_prelim_phase_data/",
        "C-NMC_test_prelim_phase_data_labels.csv",
    ),
    "C-NMC_test_final_phase_data/1.bmp": None,
}
CHALLENGE = {**train(""), **prelim("phase2/", "phase2.csv"), "phase3/1.bmp": None}
UPPER = {path.replace("/all/", "/ALL/").replace("/hem/", "/HEM/"): data for path, data in KAGGLE.items()}


def read(root):
    tree = open_tree(root)
    assert cnmc.recognize(tree)
    return cnmc.read(tree)


def who(dataset, split):
    return sorted((r.subject, r.field, r.cell) for r in dataset.records if r.subset == split)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", [KAGGLE, TCIA, CHALLENGE, UPPER], ids=["kaggle", "tcia", "challenge", "upper"])
def test_layouts(plant, layout, zipped):
    dataset = read(plant(layout, zipped))
    assert dataset.name == "cnmc"
    assert dataset.classes == ("hem", "all")
    assert dataset.crops == {(600, 600): (450, 450)}
    assert who(dataset, "train") == sorted(WHO)
    assert who(dataset, "prelim") == LATE
    for record in dataset.records:
        hem = record.subject.startswith("H")
        assert record.label == (UNLABELED if record.subset == "final" else int(not hem))
        assert bool(record.fold) == (record.subset == "train")
        assert images.decode(dataset.read(record), record.path).size == (12, 12)
    assert Counter(r.fold for r in dataset.records if r.subset == "train") == {"0": 3, "2": 2}
    assert [r.path.rpartition("/")[2] for r in dataset.records if r.subset == "final"] == ["1.bmp"]
    assert dataset.notes == (
        "5 of 10,661 training cells present",
        "3 of 1,867 cells of the preliminary phase present",
        "1 of 2,586 images of the final phase present",
    )


def test_order_is_numeric_and_not_the_file_systems(plant):
    paths = [*KAGGLE]
    random.Random(1).shuffle(paths)
    # A zip keeps the order it was written in.
    dataset = read(plant({path: KAGGLE[path] for path in paths}, zipped=True))
    assert [r.path.rpartition("/")[2] for r in dataset.records] == [
        "1.bmp",  # of the final phase, in testing_data
        *("UID_3_1_1_all.bmp", "UID_50_1_10_all.bmp", "UID_H6_2_1_hem.bmp"),
        *("UID_13_3_1_all.bmp", "UID_h3_2_1_hem.bmp"),
        *("1.bmp", "2.bmp", "10.bmp"),
    ]
    assert dataset.records == read(plant(KAGGLE)).records


@pytest.mark.parametrize("nested", ["", "C-NMC_test_prelim_phase_data/"])
def test_several_zips_in_a_folder(plant, nested):
    for fold, paths in TRAIN.items():
        plant([f"{fold}/{path}" for path in paths], zipped=True, root=f"source/C-NMC_training_data/{fold}")
    late = [f"{nested}{number}.bmp" for number in (1, 2, 10)]
    plant(late, zipped=True, root="source/C-NMC_test_prelim_phase_data")
    plant(["7.bmp"], zipped=True, root="source/C-NMC_test_final_phase_data")
    dataset = read(plant({"C-NMC_test_prelim_phase_data_labels.csv": TABLE.encode()}))
    assert who(dataset, "train") == sorted(WHO)
    assert who(dataset, "prelim") == LATE
    assert [r.path for r in dataset.records if r.subset == "final"] == ["C-NMC_test_final_phase_data.zip/7.bmp"]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".BMP"])
def test_copies_in_other_formats_join_the_table_too(plant, suffix, zipped):
    layout = {
        **train("training_data/", suffix),
        **prelim("validation_data/", "C-NMC_test_prelim_phase_data_labels.csv", suffix),
        f"testing_data/1{suffix}": None,
    }
    dataset = read(plant(layout, zipped))
    assert who(dataset, "train") == sorted(WHO)
    assert who(dataset, "prelim") == LATE
    assert {images.load(dataset, record).size for record in dataset.records} == {(12, 12)}
    assert len(dataset.records) == 9


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_merged_tree_gets_phase_and_fold_from_the_names(plant, upper, zipped):
    names = ["UID_3_1_1_all.png", "UID_h3_2_1_hem.png", "UID_57_29_1_all.jpg", "UID_999_1_1_all.png"]
    folders = [name[-7:-4].upper() if upper else name[-7:-4] for name in names]
    dataset = read(plant([f"{folder}/{name}" for folder, name in zip(folders, names, strict=True)], zipped))
    assert {(r.subject, r.label, r.fold, r.subset) for r in dataset.records} == {
        ("3", 1, "0", "train"),
        ("H3", 0, "2", "train"),
        ("57", 1, "", "prelim"),
        ("999", 1, "", "train"),
    }
    assert "1 image that the complete set does not have" in "\n".join(dataset.notes)


def test_what_a_folder_says_of_phase_and_fold_is_believed(plant):
    layout = ["train/all/UID_57_29_1_all.bmp", "val/all/UID_3_1_1_all.bmp", "fold_1/hem/UID_h3_2_1_hem.bmp"]
    dataset = read(plant(layout))
    assert {(r.subject, r.fold, r.subset) for r in dataset.records} == {
        ("57", "", "train"),
        ("3", "", "val"),
        ("H3", "1", "train"),
    }
    assert "1 image in another fold than in the complete set: fold_1/hem/UID_h3_2_1_hem.bmp" in dataset.notes


def test_a_part_of_the_set_is_known_by_its_own_name(plant):
    dataset = read(plant(TRAIN["fold_2"], root="fold_2"))
    assert {r.fold for r in dataset.records} == {"2"}
    dataset = read(plant(prelim("", "labels_prelim.csv"), root="C-NMC_test_prelim_phase_data"))
    assert who(dataset, "prelim") == LATE


def test_images_of_the_final_phase_are_cut_to_the_scale_of_the_others(plant):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    Image.fromarray(pixels).save(file, "BMP")
    dataset = read(plant({**KAGGLE, "testing_data/2.bmp": file.getvalue()}))
    record = next(r for r in dataset.records if r.path == "testing_data/2.bmp")
    np.testing.assert_array_equal(np.asarray(images.load(dataset, record)), pixels[75:525, 75:525])


def test_names_that_do_not_parse_are_listed_and_counted(plant):
    odd = [f"fold_0/hem/cell{n}.bmp" for n in range(3)] + [f"fold_0/all/UID_1_1_all_aug{n}.bmp" for n in range(4)]
    dataset = read(plant([*train(""), *odd, *(f"fold_1/all/UID_5_1_{n}_all.bmp" for n in range(9))]))
    note = next(note for note in dataset.notes if "do not parse" in note)
    assert note.startswith("7 images left out")
    assert note.endswith("and 2 more")
    assert note.count(".bmp") == 5


def test_folder_and_name_that_contradict(plant):
    root = plant([*train(""), "fold_0/hem/UID_9_1_1_all.bmp"])
    with pytest.raises(DataError, match=r"fold_0/hem/UID_9_1_1_all\.bmp: its name says 'all' but .* 'hem'"):
        read(root)


def test_one_cell_under_two_labels(plant):
    root = plant([*train(""), "fold_0/hem/UID_3_1_1_hem.bmp"])
    with pytest.raises(DataError, match="all/UID_3_1_1_all.bmp and .*hem/UID_3_1_1_hem.bmp are the same cell"):
        read(root)


def test_a_subject_in_two_classes_is_said(plant):
    notes = read(plant([*train(""), "fold_0/hem/UID_3_9_1_hem.bmp"])).notes
    assert notes[-1] == "1 subject under more than one class, taken for the same person: 3"


def test_prelim_without_its_table(plant, settings):
    root = plant({path: None for path in KAGGLE if not path.endswith(".csv")})
    dataset = read(root)
    assert not who(dataset, "prelim")
    why = "3 images left out, the label CSV of the preliminary phase is missing beside them: "
    assert any(note.startswith(why) for note in dataset.notes)
    with pytest.raises(DataError, match="has no part 'prelim'.*" + why):
        open_dataset(settings(root, subset="prelim"))


def test_prelim_images_that_are_not_in_the_table(plant):
    dataset = read(plant({**KAGGLE, "C-NMC_Leukemia/validation_data/11.bmp": None}))
    assert "1 image left out, not in the label CSV: C-NMC_Leukemia/validation_data/11.bmp" in dataset.notes


def test_an_image_that_stands_twice_counts_once(plant):
    plant(TRAIN["fold_2"], zipped=True, root="source/fold_2")
    dataset = read(plant([*train(""), "copies/all/UID_3_1_1_all.png"]))
    assert who(dataset, "train") == sorted(WHO)
    assert not any(".zip" in record.path for record in dataset.records)
    assert any(note.startswith("3 images left out, standing twice") for note in dataset.notes)


def test_a_copy_with_gaps_is_refused_with_what_is_missing(plant, settings):
    root = plant(KAGGLE)
    with pytest.raises(DataError) as caught:
        open_dataset(settings(root, allow_partial=False))
    message = str(caught.value)
    assert "10,656 images of C-NMC 2019 missing" in message
    assert (
        "2,395 of 2,397 train fold 0 all, 1,129 of 1,130 train fold 0 hem, 2,418 of 2,418 train fold 1 all" in message
    )
    assert "UID_1_1_1_all.bmp" in message
    assert "and 10,651 more" in message
    assert "prelim" not in message, "what is not used may be missing"
    assert message.endswith(
        f"with --config.data.allow_partial=true, or see all that is missing with `alljax data verify --source {root}`"
    )
    with pytest.raises(DataError, match=r"12,520 images .*, 1,217 of 1,219 prelim all, 647 of 648 prelim hem\)"):
        open_dataset(settings(root, allow_partial=False), ("train", "prelim"))


def test_a_copy_with_gaps_is_used_when_asked_for(plant, settings):
    root = plant(KAGGLE)
    dataset = open_dataset(settings(root, allow_partial=True))
    assert who(dataset, "train") == sorted(WHO)
    assert dataset.notes[0] == "5 of 10,661 training cells present"
    assert dataset.notes[-1] == (
        "only the part 'train' is used (data.subset); left out: 1 of final without labels, 3 of prelim"
    )
    dataset = open_dataset(settings(root, allow_partial=True), ("train", "prelim"))
    assert Counter(r.subset for r in dataset.records) == {"train": 5, "prelim": 3}
    assert dataset.notes[-1].startswith("only the parts 'train' and 'prelim' are used")
    assert len(open_all(str(root)).records) == 9


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("a,b,c\r\n", "expected the header"),
        ("", "expected the header"),
        ("Patient_ID,new_names,labels\r\nUID_57_29_1_all.bmp,1.bmp,0\r\n", "line 2: the label 0 contradicts"),
        ("Patient_ID,new_names,labels\r\nUID_57_29_1_all.bmp,1.bmp\r\n", "line 2: .* is not like"),
        ("Patient_ID,new_names,labels\r\nsomebody,1.bmp,1\r\n", "line 2: .* is not like"),
        (TABLE + "UID_60_1_1_all.bmp,1.bmp,1\r\n", "1.bmp is both UID_57_29_1_all and UID_60_1_1_all"),
        (TABLE + "UID_57_29_1_all.bmp,3.bmp,1\r\n", "UID_57_29_1_all.bmp is both 1 and 3"),
        (b"\xff\xfe\x00", "not a readable CSV"),
    ],
)
def test_damaged_tables(plant, table, message):
    data = table if isinstance(table, bytes) else table.encode()
    root = plant({**KAGGLE, "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data_labels.csv": data})
    with pytest.raises(DataError, match=message):
        read(root)


@pytest.mark.parametrize("layout", [KAGGLE, {"testing_data/1.bmp": None, "testing_data/2.bmp": None}])
def test_the_final_phase_is_not_learned_from(plant, settings, layout):
    with pytest.raises(DataError, match="'final' .* has no labels .*not public.* `alljax predict`"):
        open_dataset(settings(plant(layout), subset="final", allow_partial=True))


def test_only_the_final_phase(plant, settings):
    root = plant(["1.bmp", "2.bmp"], root="C-NMC_test_final_phase_data")
    with pytest.raises(DataError, match=r"has no part 'train' .*; there is final \(2 images\)"):
        open_dataset(settings(root))
    assert {r.label for r in open_all(str(root)).records} == {UNLABELED}


@pytest.mark.parametrize(
    "paths",
    [
        ["cats/1.png", "dogs/1.png"],
        ["a/UID_1_1_1_all.bmp", "b/1.png", "b/2.png"],
        ["testing_data/cats/tom.png", "testing_data/dogs/rex.png"],
    ],
)
def test_other_trees_are_not_taken_for_cnmc(plant, paths):
    assert not cnmc.recognize(open_tree(plant(paths)))


@pytest.mark.real
def test_the_real_cells(cnmc_zip):
    dataset = read(cnmc_zip)
    cells = [r for r in dataset.records if r.subset == "train"]
    assert Counter((r.fold, cnmc.CLASSES[r.label]) for r in cells) == {
        **{("0", "all"): 328, ("1", "all"): 98, ("2", "all"): 22},
        **{("0", "hem"): 24, ("1", "hem"): 17, ("2", "hem"): 23},
    }
    assert len({r.subject for r in cells}) == 53
    assert Counter(r.subject for r in cells)["H3"] == 4
    assert "512 of 10,661 training cells present" in dataset.notes
    late = [r for r in dataset.records if r.subset == "prelim"]
    assert len(late) == 14
    assert [r.path.rpartition("/")[2] for r in late][:4] == ["1.bmp", "2.bmp", "3.bmp", "4.bmp"]
    assert (late[0].subject, late[0].field, late[0].cell, late[0].label) == ("57", "29", "1", 1)
    assert not {r.subject for r in cells} & {r.subject for r in late}
    data = dataset.read(late[0])
    assert len(data) == 608_538
    assert images.decode(data, late[0].path).size == (450, 450)
