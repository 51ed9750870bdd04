"""The division of a data set into training, validation and test images, and what it leaks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from pandas import DataFrame

from alljax.config import load_config
from alljax.data import splits
from alljax.data.dataset import Dataset, check
from alljax.data.inspection import Inspection, inspect
from alljax.data.protocols import LEAKY, Rows
from alljax.progress import format_table


@dataclass(frozen=True, eq=False)
class Splits:
    """The folds of N images: a sequence of `splits.Fold`, and a cross-validator of scikit-learn (``cv=``)."""

    dataset: Dataset
    protocol: str
    subjects: tuple[str, ...]  # of each image; names that share an image are one subject, joined by ``+``
    folds: tuple[splits.Fold, ...]
    leaks: dict[str, int]  # see `splits.count_leaks`, and ``near``: test images with a similar one in training

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, number: int) -> splits.Fold:
        return self.folds[number]

    def split(self, *data: Any, **groups: Any) -> Iterator[tuple[Rows, Rows]]:
        """Yields the training and the test rows of each fold, for scikit-learn; the arguments are not used."""
        return ((fold.train, fold.test) for fold in self.folds)

    def get_n_splits(self, *data: Any, **groups: Any) -> int:
        """Returns the number of folds, for scikit-learn."""
        return len(self.folds)

    @property
    def fold_of_row(self) -> Rows:
        """The fold of the first repeat that tests each image, (N,); -1 where none does."""
        found = np.full(len(self.subjects), -1, np.int64)
        for fold in reversed(self.folds):
            found[fold.test] = fold.fold
        return found

    @property
    def leak(self) -> str:
        """What training and test images share; empty where they share nothing and no leak is declared."""
        what = {"subject": "the subject", "field": "the photograph", "duplicate": "the same image"}
        if not any(record.subject for record in self.dataset.records):
            del what["subject"]
        if self.protocol not in LEAKY and not any(self.leaks[key] for key in what):
            return ""
        counts = ", ".join(f"{name} of {self.leaks[key]:,}" for key, name in what.items())
        images = f"the {self.leaks['test_images']:,} test images"
        return f"protocol {self.protocol!r} leaks: training images have {counts} of {images}"

    def to_pandas(self) -> DataFrame:
        """Returns a row per image and fold with its side as ``subset``, as split.csv of a study."""
        records, rows = self.dataset.records, []
        for fold in self.folds:
            for row, side in sorted((row, side) for side, of_side in fold.sides for row in of_side.tolist()):
                of_image = records[row].path, records[row].subject, self.subjects[row], records[row].label
                rows.append((*of_image, side, fold.repeat, fold.fold))
        names = "path", "subject_name", "subject", "label", "subset", "repeat", "fold"
        table = DataFrame(rows, columns=[*names])
        return table.assign(label=np.array(self.dataset.classes)[table["label"]])

    def __repr__(self) -> str:
        rows = []
        for fold in self.folds:
            counts = np.bincount(self.dataset.labels[fold.test], minlength=len(self.dataset.classes))
            sides = {side: len(of_side) for side, of_side in fold.sides if len(of_side)}
            tested = {"test subjects": len({self.subjects[row] for row in fold.test})}
            tested |= {f"test {name}": int(count) for name, count in zip(self.dataset.classes, counts, strict=True)}
            rows.append({"repeat": fold.repeat, "fold": fold.fold, **sides, **tested})
        found = self.leak or f"protocol {self.protocol!r}: no subject and no image is on two sides"
        return f"{found}; test images with a similar training image: {self.leaks['near']:,}\n{format_table(rows)}"


def make_splits(dataset: Dataset, protocol: str = "subject_kfold", seed: int = 0, **settings: Any) -> Splits:
    """Divides a labeled data set, as a study with these settings does; reads every image once, to find equal ones.

    Args:
        dataset: From `alljax.open_dataset`.
        protocol: One of the protocols that ``alljax study --settings`` lists; by default folds of whole subjects.
        seed: Of the random division.
        **settings: Settings below ``split.``, such as ``folds=5``, ``repeats=2`` or ``validation=0.1``.

    Raises:
        ConfigError: A setting that does not exist or does not fit the protocol.
        DataError: Images that cannot be read, or too few subjects; `LeakError`: a subject is on two sides.

    >>> dataset = alljax.open_dataset("synthetic", synthetic__images=24, synthetic__subjects=8)
    >>> alljax.make_splits(dataset, folds=2)
    protocol 'subject_kfold': no subject and no image is on two sides; test images with a similar training image: 0
    repeat fold train test test subjects test hem test all
         0    0    14   10             3        3        7
         0    1    10   14             5        5        9
    """
    subsets = {record.subset for record in check(dataset, dataset.name).records}
    fixed = {"split.protocol": protocol, "seed": seed, "data.subset": "train" if "train" in subsets else min(subsets)}
    config = load_config(**fixed, **{f"split.{name}": value for name, value in settings.items()})
    return divide(*inspect(dataset), config)


def divide(dataset: Dataset, inspection: Inspection, config: ConfigDict) -> Splits:
    """Returns the folds of `splits.make_folds`, and what they leak."""
    subjects = splits.merge_subjects(dataset.records, inspection.pixels, dataset.known_subjects)
    folds = splits.make_folds(dataset, subjects, inspection.pixels, config)
    leaks = splits.count_leaks(folds, dataset.records, subjects, inspection.pixels)
    leaks["near"] = splits.count_leaks(folds, dataset.records, subjects, inspection.similar)["duplicate"]
    return Splits(dataset, config.split.protocol, subjects, folds, leaks)
