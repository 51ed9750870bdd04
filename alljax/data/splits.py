"""The division of a data set into training, validation and test images, and what it leaks."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from pandas import DataFrame

from alljax.config import load_config
from alljax.data import protocols
from alljax.data.archive import natural_sort
from alljax.data.dataset import Dataset, Record, check, merge_subjects
from alljax.data.inspection import Inspection, inspect
from alljax.data.protocols import LEAKY, OF_SOURCES, PROTOCOLS, RANDOM, Rows, Table, make_table
from alljax.errors import ConfigError, DataError, LeakError, first_few, plural
from alljax.progress import format_table


@dataclass(frozen=True, eq=False)
class Fold:
    """Record indices, ascending, of fold `fold` of random division `repeat`, both from 0; often without validation."""

    repeat: int
    fold: int
    train: Rows
    test: Rows
    validation: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def sides(self) -> tuple[tuple[str, Rows], ...]:
        """Names and rows of the three sides."""
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


@dataclass(frozen=True, eq=False)
class Splits:
    """The folds of N images: a sequence of `Fold`, and a cross-validator of scikit-learn (``cv=``)."""

    dataset: Dataset
    protocol: str
    subjects: tuple[str, ...]  # of each image; names that share an image are one subject, joined by ``+``
    folds: tuple[Fold, ...]
    # Test images, and those with a subject, photograph (field), image (duplicate) or similar (near) image in training.
    leaks: dict[str, int]

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, number: int) -> Fold:
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
    """Returns the folds of `make_folds`, and what they leak."""
    subjects = merge_subjects(dataset, inspection.pixels)
    folds = make_folds(dataset, subjects, inspection.pixels, config)
    # Records without a field get a field of their own.
    fields = [(record.subject, record.field) if record.field else (record.path, "") for record in dataset.records]
    keys = {"subject": subjects, "field": fields, "duplicate": inspection.pixels, "near": inspection.similar}
    return Splits(dataset, config.split.protocol, subjects, folds, count_leaks(folds, keys))


def make_folds(
    dataset: Dataset, subjects: Sequence[str], digests: Sequence[str], config: ConfigDict
) -> tuple[Fold, ...]:
    """Divides the labeled records, whose order has no influence; repeat r uses the seed ``seed + r``."""
    settings, seed, protocol = config.split, config.seed, config.split.protocol
    if settings.repeats > 1 and protocol not in RANDOM:
        raise ConfigError(
            f"split.repeats={settings.repeats}, but protocol {protocol} has one division only; set split.repeats=1 "
            "(study.seeds trains with several seeds)"
        )
    if protocol in OF_SOURCES and dataset.name != "sources":
        raise ConfigError(f"protocol {protocol} needs several sources; list them in data.sources")
    subsets = ("train", settings.test_subset) if protocol == "prelim" else (config.data.subset,)
    table = make_table(dataset, subjects, subsets)
    # The leaky protocol divides images for validation too, so that both curves answer the same question.
    groups = np.arange(len(table.rows)) if protocol == "paper" else table.groups
    folds = []
    for repeat in range(settings.repeats):
        fold_of_row = PROTOCOLS[protocol](table, settings, seed + repeat)
        numbers = range(fold_of_row.max() + 1)
        sides = [(fold_of_row != number, fold_of_row == number) for number in numbers]
        if protocol == "source_pairs":
            sides = [(fold_of_row == one, fold_of_row == other) for one, other in itertools.permutations(numbers, 2)]
        for number, (trained, tested) in enumerate(sides):
            fold = Fold(repeat, number, np.flatnonzero(trained), np.flatnonzero(tested))
            lost = set(range(len(table.classes))).difference(table.labels[fold.train].tolist())
            if lost or not len(fold.test):
                problem = f"would train without class {table.classes[min(lost)]!r}" if lost else "has nothing to test"
                raise DataError(
                    f"fold {number} of repeat {repeat} of protocol {protocol} {problem}; add images, or set fewer "
                    "folds (split.folds), another seed or another protocol"
                )
            if settings.validation:
                fold = _hold_out_validation(fold, table.labels, groups, settings.validation, seed)
            if settings.train_subjects:
                fold = _reduce_training(fold, table, settings.train_subjects, seed)
            if settings.train_images:
                fold = _draw_images(fold, table, settings.train_images, seed)
            folds.append(Fold(repeat, number, **{side: np.sort(table.rows[rows]) for side, rows in fold.sides}))
    if protocol not in LEAKY:
        check_leaks(folds, subjects, digests, protocol)
    return tuple(folds)


def count_leaks(folds: Sequence[Fold], keys_by_name: Mapping[str, Sequence[Hashable]]) -> dict[str, int]:
    """Counts ``test_images`` and, for each sequence of a key per record, those whose key is in the training data."""
    counts = {"test_images": sum(len(fold.test) for fold in folds)}
    for name, keys in keys_by_name.items():
        counts[name] = sum(len(_common_rows(keys, [*fold.train, *fold.validation], fold.test)) for fold in folds)
    return counts


def check_leaks(folds: Sequence[Fold], subjects: Sequence[str], digests: Sequence[str], protocol: str) -> None:
    """Raises LeakError, which names the subjects, where a subject or an image is on two sides of a fold."""
    for keys, shared in ((subjects, "images of the same subject"), (digests, "the same image")):
        for fold in folds if keys else ():
            for (one, left), (other, right) in itertools.combinations(fold.sides, 2):
                if rows := _common_rows(keys, left, right):
                    names = natural_sort({subjects[row] for row in rows})
                    raise LeakError(
                        f"protocol {protocol} leaks in fold {fold.fold} of repeat {fold.repeat}: {len(rows):,} of "
                        f"{len(right):,} {other} images have {shared} on the {one} side "
                        f"({plural(len(names), 'subject')}: {first_few(names)}); "
                        "remove their images from one of the subsets, or set split.protocol=subject_kfold"
                    )


def fingerprint(folds: Sequence[Fold], records: Sequence[Record]) -> str:
    """Returns the SHA-256 of the sorted lines ``repeat TAB fold TAB side TAB path``; independent of their order."""
    sides = [(f"{fold.repeat}\t{fold.fold}\t{side}", rows) for fold in folds for side, rows in fold.sides]
    lines = sorted(f"{side}\t{records[row].path}\n" for side, rows in sides for row in rows)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _hold_out_validation(fold: Fold, labels: Rows, groups: Rows, fraction: float, seed: int) -> Fold:
    seeds = (seed + fold.repeat, fold.fold, 1)
    held_out = protocols.group_holdout(labels[fold.train], groups[fold.train], fraction, seeds)
    if not held_out.any():
        raise DataError(
            f"fold {fold.fold} of repeat {fold.repeat} has no class with two subjects to train on, so none can be held "
            "out for validation; set split.validation=0 or add subjects"
        )
    return replace(fold, train=fold.train[~held_out], validation=fold.train[held_out])


def _reduce_training(fold: Fold, table: Table, count: int, seed: int) -> Fold:
    """Keeps `count` subjects of the training side (images where no subject is known); smaller sets are nested."""
    labels = table.labels[fold.train]
    rank = protocols.nested_groups(labels, table.groups[fold.train], (seed + fold.repeat, fold.fold, 2))
    kept = rank < count
    if count > rank.max() + 1 or {*labels[kept].tolist()} != {*labels.tolist()}:
        raise ConfigError(
            f"split.train_subjects={count}, but fold {fold.fold} of repeat {fold.repeat} has {rank.max() + 1:,} "
            "subjects (or images without one) to train on; set at most this, at least one per class, or 0 for all"
        )
    return replace(fold, train=fold.train[kept])


def _draw_images(fold: Fold, table: Table, count: int, seed: int) -> Fold:
    """Keeps `count` training images per class, from as many subjects as possible; smaller sets are nested."""
    generator = np.random.default_rng((seed + fold.repeat, fold.fold, 3))
    rows, place, kept = generator.permutation(fold.train), generator.permutation(table.groups.max() + 1), []
    for label, name in enumerate(table.classes):
        of_class = rows[table.labels[rows] == label]
        if count > len(of_class):
            raise ConfigError(
                f"split.train_images={count}, but fold {fold.fold} of repeat {fold.repeat} has "
                f"{plural(len(of_class), 'training image')} of class {name!r}; set at most this, or 0 for all"
            )
        turns, groups = defaultdict[int, Iterator[int]](itertools.count), table.groups[of_class]
        turn = [next(turns[group]) for group in groups]  # images of a subject are in different turns
        kept.append(of_class[np.lexsort((place[groups], turn))[:count]])
    return replace(fold, train=np.concatenate(kept))


def _common_rows(keys: Sequence[Hashable], left: Iterable[int], right: Iterable[int]) -> list[int]:
    """Returns the rows of `right` whose key also occurs in rows of `left`."""
    found = {keys[row] for row in left}
    return [row for row in right if keys[row] in found]
