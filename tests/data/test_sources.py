"""`data.sources`: several sources as one data set, and the protocols that divide it by source."""

import csv
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from alljax import cli, config
from alljax.data import splits, synthetic
from alljax.data.dataset import Dataset, merge_subjects
from alljax.data.readers import open_labeled
from alljax.errors import ConfigError, DataError, LeakError

NAMES = {"one": ("hem", "all"), "two": ("normal", "blast"), "three": ("hem", "all")}
"""Source → the names of its classes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per source, with a folder per class and subject."""
    root = tmp_path_factory.mktemp("sources")
    for seed, (name, classes) in enumerate(NAMES.items()):
        made = synthetic.read_synthetic(8, 24, 64, seed)
        for number, record in enumerate(made.records):
            path = root / name / classes[record.label] / f"s{record.subject}" / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made.read(record))
    return root


def entries(folder: Path, mapping: str = "normal=hem,blast=all") -> tuple[tuple[str, ...], ...]:
    return tuple((name, str(folder / name), *([mapping] if name == "two" else [])) for name in NAMES)


def opened(sources: tuple[tuple[str, ...], ...], protocol: str) -> tuple[Dataset, tuple[splits.Fold, ...]]:
    changes = {"data.sources": sources, "data.classes": ("hem", "all"), "split.protocol": protocol}
    settings = config.vary(config.default_config(), changes)
    dataset = open_labeled(settings.data)
    subjects = merge_subjects(dataset)
    digests = [str(hash(dataset.read(record))) for record in dataset.records]
    return dataset, splits.make_folds(dataset, subjects, digests, settings)


def sources_of(dataset: Dataset, rows: np.ndarray) -> set[str]:
    return {dataset.records[row].path.partition("/")[0] for row in rows}


def test_classes_are_mapped_and_subjects_are_those_of_the_source(folder: Path) -> None:
    dataset, _ = opened(entries(folder), "subject_kfold")
    assert len(dataset.records) == 72
    assert all(one.subject.startswith(f"{one.path.partition('/')[0]} s") for one in dataset.records)
    blasts = [one for one in dataset.records if one.path.startswith("two/blast/")]
    assert blasts
    assert {one.label for one in blasts} == {1}
    assert dataset.read(blasts[0]) == (folder / blasts[0].path).read_bytes()


def test_protocols(folder: Path) -> None:
    dataset, folds = opened(entries(folder), "leave_one_source_out")
    found = [(sources_of(dataset, fold.train), sources_of(dataset, fold.test)) for fold in folds]
    assert found == [({*NAMES} - {name}, {name}) for name in sorted(NAMES)]
    dataset, folds = opened(entries(folder), "source_pairs")
    found = [(sources_of(dataset, fold.train), sources_of(dataset, fold.test)) for fold in folds]
    assert found == [({one}, {other}) for one, other in permutations(sorted(NAMES), 2)]


def test_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="two: its class 'blast' is none of the classes hem, all; name the classes"):
        opened(entries(folder, mapping=""), "subject_kfold")
    with pytest.raises(ConfigError, match="write CLASS_OF_SOURCE=CLASS"):
        opened(entries(folder, mapping="normal=healthy"), "subject_kfold")
    with pytest.raises(LeakError, match="have the same image on the"):
        opened((*entries(folder)[:1], ("copy", str(folder / "one"))), "leave_one_source_out")
    with pytest.raises(ConfigError, match=r"data\.sources needs two or more names"):
        opened(entries(folder)[:1], "leave_one_source_out")
    settings = config.vary(config.default_config(), {"split.protocol": "leave_one_source_out"})
    with pytest.raises(ConfigError, match="leave_one_source_out needs several sources; list them in data.sources"):
        splits.make_folds(synthetic.read_synthetic(8, 24, 64, 0), ["x"] * 24, (), settings)


def test_matrix_of_sources(folder: Path, tmp_path: Path) -> None:
    settings = {
        "data.sources": entries(folder), "data.classes": "hem,all", "train.epochs": 1, "model.stage": "stage1",
        "preprocessing.image_size": 64, "evaluation.inner_folds": 0, "weights.name": "random",
        "study.sweep": (("split.protocol", ("leave_one_source_out", "source_pairs")),),
    }  # fmt: skip
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    assert cli.main(["study", "--config=configs/quickstart.py", *words, f"--workdir={tmp_path / 'w'}"]) == 0
    with (tmp_path / "w/tables/sources.csv").open() as file:
        rows = {(row["model"].rpartition("=")[2], row["trained on"]): row for row in csv.DictReader(file)}
    assert len(rows) == 4
    for (_, trained), row in rows.items():
        tested = {name for name in NAMES if row[f"tested on {name}"]}
        assert tested == {*NAMES} - {trained}
        assert all(row[f"tested on {name} (note)"].startswith("[") for name in tested)
