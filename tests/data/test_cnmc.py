from collections import Counter

import pytest

from alljax.data import images
from alljax.data.dataset import UNLABELED
from alljax.data.readers import open_all, open_labeled
from alljax.errors import DataError

TRAIN = {
    "fold_0": ["all/UID_3_1_1_all.bmp", "all/UID_50_1_10_all.bmp", "hem/UID_H6_2_1_hem.bmp"],
    "fold_2": ["all/UID_13_3_1_all.bmp", "hem/UID_h3_2_1_hem.bmp"],
}
ROWS = ["UID_57_29_1_all.bmp,1.bmp,1", "UID_H33_4_2_hem.bmp,10.bmp,0", "UID_58_1_1_all.bmp,2.bmp,1"]
LABELS = "".join(f"{row}\r\n" for row in ["Patient_ID,new_names,labels", *ROWS])
TRAIN_CELLS = [("13", "3", "1"), ("3", "1", "1"), ("50", "1", "10"), ("H3", "2", "1"), ("H6", "2", "1")]
PRELIM_CELLS = [("57", "29", "1"), ("58", "1", "1"), ("H33", "4", "2")]


def train(prefix, suffix=".bmp"):
    return {f"{prefix}{fold}/{path}".replace(".bmp", suffix): None for fold, paths in TRAIN.items() for path in paths}


def prelim(prefix, labels, suffix=".bmp"):
    return {**{f"{prefix}{number}{suffix}": None for number in (1, 2, 10)}, labels: LABELS.encode()}


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
    **prelim("C-NMC_test_prelim_phase_data/C-NMC_test_prelim_phase_data/", "C-NMC_test_prelim_phase_data_labels.csv"),
    "C-NMC_test_final_phase_data/1.bmp": None,
}
CHALLENGE = {**train(""), **prelim("phase2/", "phase2.csv"), "phase3/1.bmp": None}
UPPER = {path.replace("/all/", "/ALL/").replace("/hem/", "/HEM/"): data for path, data in KAGGLE.items()}
PNG = {
    **train("training_data/", ".png"),
    **prelim("validation_data/", "C-NMC_test_prelim_phase_data_labels.csv", ".png"),
    "testing_data/1.png": None,
}


def read(root):
    dataset = open_all(str(root))
    assert dataset.name == "cnmc"
    return dataset


def cells(dataset, subset):
    return sorted((r.subject, r.field, r.cell) for r in dataset.records if r.subset == subset)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "layout", [KAGGLE, TCIA, CHALLENGE, UPPER, PNG], ids=["kaggle", "tcia", "challenge", "upper", "png"]
)
def test_layouts(plant, layout, zipped):
    dataset = read(plant(layout, zipped))
    assert dataset.classes == ("hem", "all")
    assert dataset.class_names == ("HEM (normal)", "ALL (leukemic blast)")
    assert dataset.crops == {(600, 600): (450, 450)}
    assert cells(dataset, "train") == TRAIN_CELLS
    assert cells(dataset, "prelim") == PRELIM_CELLS
    for record in dataset.records:
        hem = record.subject.startswith("H")
        assert record.label == (UNLABELED if record.subset == "final" else int(not hem))
        assert bool(record.fold) == (record.subset == "train")
        assert images.decode(dataset.read(record), record.path).shape == (12, 12, 3)
    assert Counter(r.fold for r in dataset.records if r.subset == "train") == {"0": 3, "2": 2}
    assert sum(r.subset == "final" for r in dataset.records) == 1
    assert dataset.notes == (
        "train: 5 of 10,661 images",
        "prelim: 3 of 1,867 images",
        "final: 1 of 2,586 images",
    )


def test_several_zips_in_a_folder(plant):
    for fold, paths in TRAIN.items():
        plant([f"{fold}/{path}" for path in paths], zipped=True, root=f"source/C-NMC_training_data/{fold}")
    plant([f"{n}.bmp" for n in (1, 2, 10)], zipped=True, root="source/C-NMC_test_prelim_phase_data")
    dataset = read(plant({"C-NMC_test_prelim_phase_data_labels.csv": LABELS.encode()}))
    assert cells(dataset, "train") == TRAIN_CELLS
    assert cells(dataset, "prelim") == PRELIM_CELLS


def test_names_determine_subset_and_fold_in_a_merged_tree(plant):
    names = ["ALL/UID_3_1_1_all.png", "hem/UID_h3_2_1_hem.png", "all/UID_57_29_1_all.jpg", "all/UID_999_1_1_all.png"]
    dataset = read(plant(names))
    assert {(r.subject, r.label, r.fold, r.subset) for r in dataset.records} == {
        *(("3", 1, "0", "train"), ("H3", 0, "2", "train"), ("57", 1, "", "prelim"), ("999", 1, "", "train")),
    }
    assert "1 image not in the complete data set" in "\n".join(dataset.notes)


def test_folders_take_precedence_over_names(plant):
    layout = ["train/all/UID_57_29_1_all.bmp", "val/all/UID_3_1_1_all.bmp", "fold_1/hem/UID_h3_2_1_hem.bmp"]
    dataset = read(plant(layout))
    assert {(r.subject, r.fold, r.subset) for r in dataset.records} == {
        *(("57", "", "train"), ("3", "", "val"), ("H3", "1", "train")),
    }
    assert (
        "1 image not in the complete data set, or there in another fold: fold_1/hem/UID_h3_2_1_hem.bmp" in dataset.notes
    )


def test_skipped_images_are_noted(plant):
    plant(TRAIN["fold_2"], zipped=True, root="source/fold_2")
    odd = ["copies/all/UID_3_1_1_all.png", "fold_0/hem/cell1.bmp", "fold_0/all/UID_1_1_all_aug1.bmp"]
    dataset = read(plant({**CHALLENGE, **dict.fromkeys(odd), "phase2/11.bmp": None}))
    assert cells(dataset, "train") == TRAIN_CELLS
    assert not any(".zip" in record.path for record in dataset.records)
    notes = "\n".join(dataset.notes)
    assert "skipped 3 images, repeated (the first is used): " in notes
    assert "skipped 2 images, names that are not C-NMC names: fold_0/all/UID_1_1_all_aug1.bmp, fold_0/hem" in notes
    assert "skipped 1 image, numbers without labels" in notes


def test_label_contradictions_are_refused(plant):
    root = plant([*train(""), "fold_0/hem/UID_9_1_1_all.bmp"])
    with pytest.raises(DataError, match=r"UID_9_1_1_all\.bmp: the name says 'all', the folder 'hem'; move"):
        open_all(str(root))
    root = plant([*train(""), "fold_0/hem/UID_3_1_1_hem.bmp"], root="other")
    with pytest.raises(DataError, match="all/UID_3_1_1_all.bmp and .*hem/UID_3_1_1_hem.bmp are the same cell"):
        open_all(str(root))


def test_missing_or_damaged_label_csv(plant, settings):
    root = plant({path: None for path in CHALLENGE if not path.endswith(".csv")})
    with pytest.raises(DataError, match="no labeled images .* 3 images, numbers without labels .is the label CSV"):
        open_labeled(settings(root, subset="prelim"))
    (root / "phase2.csv").write_bytes(LABELS.encode()[:80])
    assert cells(open_all(str(root)), "prelim") == PRELIM_CELLS[:1]


def test_incomplete_copy(plant, settings):
    root = plant(KAGGLE)
    with pytest.raises(DataError, match="10,656 images of C-NMC 2019 missing") as caught:
        open_labeled(settings(root, allow_partial=False))
    message = str(caught.value)
    assert "UID_1_1_1_all.bmp" in message
    assert "prelim" not in message, "unused subsets may be incomplete"
    assert "--config.data.allow_partial=true" in message
    assert message.endswith(f"`alljax data verify --source {root}`")
    with pytest.raises(DataError, match="12,520 images of C-NMC 2019 missing"):
        open_labeled(settings(root, allow_partial=False), ("train", "prelim"))
    dataset = open_labeled(settings(root, allow_partial=True))
    assert cells(dataset, "train") == TRAIN_CELLS
    assert dataset.notes[-1].endswith("skipped: 1 of final without labels, 3 of prelim")
    assert len(open_all(str(root)).records) == 9


def test_final_phase_has_no_labels(plant, settings):
    with pytest.raises(DataError, match="no labeled images .*only 'final' used .*1 of final without labels"):
        open_labeled(settings(plant(KAGGLE), subset="final", allow_partial=True))
    root = plant(["1.bmp", "2.bmp"], root="C-NMC_test_final_phase_data")
    assert {r.label for r in open_all(str(root)).records} == {UNLABELED}


@pytest.mark.parametrize(
    "paths",
    [
        ["cats/1.png", "dogs/1.png"],
        ["a/UID_1_1_1_all.bmp", "b/1.png", "b/2.png"],
        ["testing_data/cats/tom.png", "testing_data/dogs/rex.png"],
    ],
)
def test_other_folders_are_not_cnmc(plant, paths):
    assert open_all(str(plant(paths))).name == "folder"
