"""A study in memory with chosen settings, and the report of the toy study."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.conftest import point_estimates

from alljax import config as configs
from alljax.evaluation.intervals import HeldOut, describe_seeds
from alljax.report.report import write_report
from alljax.study.results import Predictions, Study
from alljax.study.sweep import expand

CLASS_NAMES = ("HEM (normal)", "ALL (leukemic blast)")
COMMON = {"size_improvement": {}, "interval_unit": "subjects", "seconds": 60.0}


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    """Makes a study without training: 40 subjects with 4 images each; each trial is a little worse than the previous.

    Arguments: entries of ``study.sweep``; ``class_names``; ``step`` by which trials get worse; ``seeds``; ``leaky`` and
    ``unpaired``: number of the first trials that are tested on a leaky split, or on fewer images.
    """

    def make(
        *sweep: Any, class_names: tuple[str, ...] = CLASS_NAMES, step: float = 0.3, seeds: int = 2, leaky: int = 0,
        unpaired: int = 0,
    ) -> Study:  # fmt: skip
        config, generator = configs.default_config(), np.random.default_rng(0)
        config.study.sweep = sweep
        config.evaluation.resamples = 100
        subjects = np.arange(160) // 4
        labels = subjects % len(class_names)
        noise = generator.normal(size=(160, len(class_names)))
        names = np.char.add("s", subjects.astype(str))
        paths = np.array([f"{name}/{index:03}.png" for index, name in enumerate(names)])
        settings, predictions, trials = {}, {}, {}
        for place, trial in enumerate(expand(config)):
            rows = slice(None, 120 if place < unpaired else None)
            logits = noise + generator.normal(scale=0.5, size=(seeds, *noise.shape))
            logits[:, np.arange(160), labels] += max(0.0, 2 - step * place)
            scores = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))[:, rows]
            result = describe_seeds(HeldOut(labels[rows], scores, names[rows]), 0.95, range(seeds))
            for of_class in result["per_class"]:
                of_class |= {"subjects": 20, "effective_subjects": 20.0}
            split = "leaky" if place < leaky else "honest"
            trials[trial.name] = {**result, **COMMON, "split": split}
            settings[trial.name] = json.loads(json.dumps(configs.flatten(trial.config)))
            path, name = paths[rows], names[rows]
            predictions[trial.name] = Predictions(path, name, name, np.full(len(name), "0 0"), labels[rows], scores)
        shares = np.tile(np.bincount(labels) / 160, (160, 1))
        majority = {**point_estimates(labels, shares, np.zeros((160, len(class_names)))), "intervals": {}}
        protocol = {"name": "subject_kfold", "folds": 1, "repeats": 1, "training_images": [160], "test_images": [160]}
        splits = {
            name: {
                "protocol": protocol | {"leaky": name == "leaky"},
                "leaks": {"test_images": 160, "subject": 160 if name == "leaky" else 0},
                "baselines": {"majority": majority, "size_threshold": majority},
            }
            for name in {trial["split"] for trial in trials.values()}
        }
        dataset = {"name": "toy", "classes": class_names, "class_names": class_names, "subjects": 40, "notes": []}
        dataset |= {"file_properties": {}}
        metrics = {"trials": trials, "splits": splits, "dataset": dataset, "missing": [], "failed": {}, "skipped": {}}
        flat = json.loads(json.dumps(configs.flatten(config)))
        study = Study(Path(), flat, {}, metrics, tuple(settings), settings, predictions)
        study.__dict__["evaluation"] = {"trials": {name: {} for name in trials}, "selection": None}
        return study

    return make


@pytest.fixture
def study_copy(toy_study: Path, tmp_path: Path) -> Path:
    """A copy of the toy study that a test may change."""
    return Path(shutil.copytree(toy_study, tmp_path / "study"))


@pytest.fixture(scope="session")
def toy_report(toy_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the toy study; its tables and figures are beside it."""
    return write_report(Path(shutil.copytree(toy_study, tmp_path_factory.mktemp("report") / "study")))
