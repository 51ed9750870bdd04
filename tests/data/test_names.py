import pytest

from alljax.data.names import recognize_subset


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
