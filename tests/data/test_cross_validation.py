"""`make_splits`: the folds of a study, as a table and as a cross-validator of scikit-learn; `open_dataset`."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_predict

import alljax
from alljax.data import splits
from alljax.data.arrays import as_dataset
from alljax.errors import ConfigError, DataError
from alljax.study.experiment import open_experiment
from alljax.study.sweep import expand

SMALL = {"synthetic__images": 48, "synthetic__subjects": 12, "synthetic__image_size": 48}


def test_folds_are_those_of_a_study(toy_config):
    config = toy_config(seed=3, split__folds=3, split__repeats=2, split__validation=0.25)
    studied = open_experiment(config, expand(config))
    expected = studied.folds(expand(config)[0])
    dataset = alljax.open_dataset("synthetic", **SMALL)
    found = alljax.make_splits(dataset, seed=3, folds=3, repeats=2, validation=0.25)
    assert splits.fingerprint([*found], dataset.records) == splits.fingerprint(expected, studied.dataset.records)
    table = found.to_pandas()
    assert table.groupby(["repeat", "fold", "subset"]).size().to_dict() == {
        (fold.repeat, fold.fold, side): len(rows) for fold in expected for side, rows in fold.sides
    }
    first = table[(table["repeat"] == 0) & (table["subset"] == "test")].set_index("path")["fold"]
    assert first[[record.path for record in dataset.records]].tolist() == found.fold_of_row.tolist()
    assert "no subject and no image is on two sides" in str(found)


def test_splits_are_a_cross_validator_of_scikit_learn():
    dataset = alljax.open_dataset("synthetic", **SMALL)
    division = alljax.make_splits(dataset, folds=3)
    predicted = cross_val_predict(DummyClassifier(), np.zeros((48, 1)), dataset.labels, cv=division)
    assert (predicted == dataset.classes.index("all")).all()
    leaky = alljax.make_splits(dataset, "paper", test_fraction=0.5)
    assert "leaks: training images have the subject of" in str(leaky)
    assert (leaky.fold_of_row == -1).sum() == 24


def test_sources_settings_and_subsets(plant, tmp_path: Path):
    root = plant(["train/a/1.png", "train/a/2.png", "train/b/3.png", "train/b/4.png", "test/a/5.png", "test/b/6.png"])
    dataset = alljax.open_dataset(root, subsets=("train", "test"), classes=["b", "a"])
    assert "6 images: a 3, b 3\n  no subjects known" in str(dataset)
    assert dataset.labels.tolist() == [dataset.classes.index(record.path.split("/")[1]) for record in dataset.records]
    division = alljax.make_splits(dataset, "prelim", test_subset="test")
    assert [dataset.records[row].path for row in division[0].test] == ["test/a/5.png", "test/b/6.png"]
    joined = alljax.open_dataset([("one", str(root)), ("two", str(root))], classes=("a", "b"))
    assert str(joined).startswith("Dataset 'sources': 8 images: a 4, b 4")
    (root / "train/a/1.png").write_bytes(b"damaged")
    assert len(alljax.open_dataset(root, on_error="skip").records) == 3
    with pytest.raises(DataError, match="1 of 4 images cannot be read"):
        alljax.make_splits(alljax.open_dataset(root))


def test_bad_input():
    dataset = alljax.open_dataset("synthetic", **SMALL)
    with pytest.raises(ConfigError, match="unknown setting 'data.clases': did you mean 'data.classes'"):
        alljax.open_dataset("synthetic", clases=("all", "hem"))
    with pytest.raises(ConfigError, match="split.protocol='kfold' is not one of the choices 'subject_kfold'"):
        alljax.make_splits(dataset, "kfold")
    with pytest.raises(ConfigError, match="split.folds='5' has the wrong type"):
        alljax.make_splits(dataset, folds="5")
    with pytest.raises(DataError, match="no labeled images found"):
        alljax.make_splits(dataclasses.replace(dataset, records=()))
    with pytest.raises(DataError, match="no labeled images found"):
        alljax.make_splits(as_dataset(np.zeros((3, 8, 8, 3), np.uint8)))
