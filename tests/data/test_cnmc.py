import random
from collections import Counter

import pytest

from alljax.data import cnmc, images
from alljax.data.source import open_source
from alljax.data.tree import open_tree
from alljax.errors import DataError

TRAIN = {
    "fold_0": ["all/UID_2_1_1_all.bmp", "all/UID_11_1_10_all.bmp", "hem/UID_H1_2_1_hem.bmp"],
    "fold_2": ["all/UID_11_3_2_all.bmp", "hem/UID_h3_4_1_hem.bmp"],
}
ROWS = ["UID_57_29_1_all.bmp,1.bmp,1", "UID_H33_2_2_hem.bmp,10.bmp,0", "UID_58_1_1_all.bmp,2.bmp,1"]
TABLE = "".join(f"{row}\r\n" for row in ["Patient_ID,new_names,labels", *ROWS])
WHO = [("2", "1", "1"), ("11", "1", "10"), ("H1", "2", "1"), ("11", "3", "2"), ("H3", "4", "1")]


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


def read(root):
    tree = open_tree(root)
    assert cnmc.recognise(tree)
    return cnmc.read(tree)


def who(dataset, split):
    return sorted((r.subject, r.field, r.cell) for r in dataset.records if r.split == split)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", [KAGGLE, TCIA, CHALLENGE], ids=["kaggle", "tcia", "challenge"])
def test_layouts(plant, layout, zipped):
    dataset = read(plant(layout, zipped))
    assert dataset.name == "cnmc"
    assert dataset.classes == ("hem", "all")
    assert who(dataset, "train") == sorted(WHO)
    assert who(dataset, "prelim") == [("57", "29", "1"), ("58", "1", "1"), ("H33", "2", "2")]
    for record in dataset.records:
        assert record.label == (not record.subject.startswith("H"))
        assert bool(record.fold) == (record.split == "train")
        assert images.decode(dataset.read(record), record.path).size == (12, 12)
    assert Counter(r.fold for r in dataset.records if r.split == "train") == {"0": 3, "2": 2}
    notes = "\n".join(dataset.notes)
    assert "5 of 10,661 training cells present" in notes
    assert "3 of 1,867 cells of the preliminary phase present" in notes
    assert "1 image of the final phase left out" in notes


def test_order_is_numeric_and_not_the_file_systems(plant):
    paths = [*KAGGLE]
    random.Random(1).shuffle(paths)
    # A zip keeps the order it was written in.
    dataset = read(plant({path: KAGGLE[path] for path in paths}, zipped=True))
    assert [r.path.rpartition("/")[2] for r in dataset.records] == [
        *("UID_2_1_1_all.bmp", "UID_11_1_10_all.bmp", "UID_H1_2_1_hem.bmp"),
        *("UID_11_3_2_all.bmp", "UID_h3_4_1_hem.bmp"),
        *("1.bmp", "2.bmp", "10.bmp"),
    ]
    assert dataset.records == read(plant(KAGGLE)).records


def test_several_zips_in_a_folder(plant):
    for fold, paths in TRAIN.items():
        plant([f"{fold}/{path}" for path in paths], zipped=True, root=f"source/C-NMC_training_data/{fold}")
    plant(["1.bmp", "2.bmp", "10.bmp"], zipped=True, root="source/C-NMC_test_prelim_phase_data")
    root = plant({"C-NMC_test_prelim_phase_data_labels.csv": TABLE.encode()})
    dataset = read(root)
    assert who(dataset, "train") == sorted(WHO)
    assert len(who(dataset, "prelim")) == 3


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".BMP"])
def test_copies_in_other_formats_join_the_table_too(plant, suffix):
    layout = {
        **train("training_data/", suffix),
        **prelim("validation_data/", "C-NMC_test_prelim_phase_data_labels.csv", suffix),
    }
    dataset = read(plant(layout))
    assert who(dataset, "train") == sorted(WHO)
    assert len(who(dataset, "prelim")) == 3


def test_merged_upper_case_tree(plant):
    dataset = read(plant(["ALL/UID_2_1_1_all.png", "HEM/UID_H1_2_1_hem.png"]))
    assert [(r.subject, r.label, r.fold, r.split) for r in dataset.records] == [
        ("2", 1, "", "train"),
        ("H1", 0, "", "train"),
    ]


def test_a_part_of_the_set_is_known_by_its_own_name(plant):
    dataset = read(plant(TRAIN["fold_2"], root="fold_2"))
    assert {r.fold for r in dataset.records} == {"2"}
    dataset = read(plant(prelim("", "labels_prelim.csv"), root="C-NMC_test_prelim_phase_data"))
    assert len(who(dataset, "prelim")) == 3


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


def test_prelim_without_its_table(plant):
    layout = {path: None for path in KAGGLE if not path.endswith(".csv")}
    dataset = read(plant(layout))
    assert not who(dataset, "prelim")
    assert any("3 images of the preliminary phase left out: the label CSV is missing" in n for n in dataset.notes)


def test_an_image_that_stands_twice_counts_once(plant):
    plant(TRAIN["fold_2"], zipped=True, root="source/fold_2")
    dataset = read(plant([*train(""), "copies/all/UID_2_1_1_all.png"]))
    assert who(dataset, "train") == sorted(WHO)
    assert not any(".zip" in record.path for record in dataset.records)
    assert any(note.startswith("3 images left out, standing twice") for note in dataset.notes)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("a,b,c\r\n", "expected the header"),
        ("", "expected the header"),
        ("Patient_ID,new_names,labels\r\nUID_57_29_1_all.bmp,1.bmp,0\r\n", "line 2: the label 0 contradicts"),
        ("Patient_ID,new_names,labels\r\nUID_57_29_1_all.bmp,1.bmp\r\n", "line 2: .* is not like"),
        ("Patient_ID,new_names,labels\r\nsomebody,1.bmp,1\r\n", "line 2: .* is not like"),
        (TABLE + "UID_60_1_1_all.bmp,1.bmp,1\r\n", "1.bmp is both UID_57_29_1_all and UID_60_1_1_all"),
        (b"\xff\xfe\x00", "not a readable CSV"),
    ],
)
def test_damaged_tables(plant, table, message):
    data = table if isinstance(table, bytes) else table.encode()
    root = plant({**KAGGLE, "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data_labels.csv": data})
    with pytest.raises(DataError, match=message):
        read(root)


def test_only_the_final_phase(plant, settings):
    root = plant(["1.bmp", "2.bmp"], root="C-NMC_test_final_phase_data")
    with pytest.raises(DataError, match=r"no labelled images found \(2 images of the final phase"):
        open_source(settings(root))


@pytest.mark.parametrize(
    "paths",
    [["cats/1.png", "dogs/1.png"], ["a/UID_1_1_1_all.bmp", "b/1.png", "b/2.png"]],
)
def test_other_trees_are_not_taken_for_cnmc(plant, paths):
    assert not cnmc.recognise(open_tree(plant(paths)))


@pytest.mark.real
def test_the_real_cells(cnmc_zip):
    dataset = read(cnmc_zip)
    cells = [r for r in dataset.records if r.split == "train"]
    assert Counter((r.fold, cnmc.CLASSES[r.label]) for r in cells) == {
        **{("0", "all"): 328, ("1", "all"): 98, ("2", "all"): 22},
        **{("0", "hem"): 24, ("1", "hem"): 17, ("2", "hem"): 23},
    }
    assert len({r.subject for r in cells}) == 53
    assert Counter(r.subject for r in cells)["H3"] == 4
    assert "512 of 10,661 training cells present" in dataset.notes
    late = [r for r in dataset.records if r.split == "prelim"]
    assert len(late) == 14
    assert [r.path.rpartition("/")[2] for r in late][:4] == ["1.bmp", "2.bmp", "3.bmp", "4.bmp"]
    assert (late[0].subject, late[0].field, late[0].cell, late[0].label) == ("57", "29", "1", 1)
    assert not {r.subject for r in cells} & {r.subject for r in late}
    data = dataset.read(late[0])
    assert len(data) == 608_538
    assert images.decode(data, late[0].path).size == (450, 450)
