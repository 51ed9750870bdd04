import pytest

from alljax.data.names import join_spellings, normalize, recognize_subset


def test_spellings_of_one_name():
    assert {normalize(name) for name in ("Hélène", "hélène", " HE\u0301LE\u0300NE ", "hélène\t")} == {"hélène"}
    assert [normalize(name) for name in ("12.0", "v2.0.1", ".0", "")] == ["12", "v2.0.1", ".0", ""]
    spelling, notes = join_spellings(["1.0", "all ", "All", "1", "", "hem"], "class")
    assert spelling == {"1": "1", "1.0": "1", "All": "All", "all ": "All", "hem": "hem", "": ""}
    assert notes == ['joined spellings of 2 class names: "1" and "1.0", "All" and "all "']


@pytest.mark.parametrize(
    ("subset", "names"),
    [
        ("train", "Train_images TRAINING trainset C-NMC_training_data XTrain train_224 trainval train+val trainimages"),
        ("val", "Val valid validation-data DEV valset val2017"),
        ("test", "TestA TESTB testing_set hold-out HoldOut holdout eval Evaluation test.2 tests testdataset"),
        ("", "Testis testes trainee Evaluated contest invalid développement train_test_split fold_0 blast"),
    ],
)
def test_words_for_subsets(subset, names):
    assert {name: recognize_subset(name) for name in names.split()} == dict.fromkeys(names.split(), subset)
