"""Inner folds: whole subjects of the training rows, predicted by heads that see neither them nor the test images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.data.splits import Fold
from alljax.study import inner_folds, sweep
from alljax.study.experiment import Experiment, open_experiment
from alljax.study.run import run_study
from alljax.study.trials import train_job
from alljax.study.workdir import INNER_PREDICTIONS

LABELS = np.repeat([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1], 4)
SUBJECTS = [f"s{row // 4}" for row in range(48)]
OUTER = Fold(0, 1, train=np.arange(8, 40), test=np.arange(8), validation=np.arange(40, 48))


@pytest.mark.parametrize(("protocol", "number"), [("subject_kfold", 3), ("paper", 3), ("subject_kfold", 4)])
def test_inner_folds_divide_the_training_rows(protocol: str, number: int) -> None:
    config = default_config()
    config.split.protocol, config.evaluation.inner_folds = protocol, number
    (parts,) = inner_folds.divide([OUTER], LABELS, SUBJECTS, config)
    assert (len(parts), inner_folds.note((parts,), config)) == (number, "")
    assert sorted(np.concatenate([part.test for part in parts])) == OUTER.train.tolist()
    for part in parts:
        assert sorted([*part.train, *part.test]) == OUTER.train.tolist()
        assert {*LABELS[part.train]} == {0, 1}
        shared = {SUBJECTS[row] for row in part.train} & {SUBJECTS[row] for row in part.test}
        assert bool(shared) == (protocol == "paper"), "the leaky protocol divides images"


def test_too_few_subjects_of_a_class(
    toy_config: Callable[..., ConfigDict], tmp_path: Path, messages: list[str]
) -> None:
    config = default_config()
    few = Fold(0, 0, train=np.arange(4, 40), test=np.arange(4))
    labels = np.where(np.isin(SUBJECTS, ["s1", "s2"]), 1, 0)
    assert [len(parts) for parts in inner_folds.divide([few], labels, SUBJECTS, config)] == [2]
    labels = np.where(np.isin(SUBJECTS, ["s1"]), 1, 0)
    assert inner_folds.divide([few], labels, SUBJECTS, config) == ((),)
    study = run_study(toy_config(evaluation__inner_folds=3, data__synthetic__subjects=6), tmp_path)
    assert study is not None
    assert study.inner_predictions("efficientnet_lite0-adam") is None
    note = (
        "2 of 2 folds with fewer than evaluation.inner_folds=3 inner folds (at least 0), because a class has too few "
        "subjects to train on"
    )
    assert note in messages
    assert note in study.metrics["dataset"]["notes"]


def test_stored_inner_predictions(toy_config: Callable[..., ConfigDict], tmp_path: Path) -> None:
    """Each budget of a shared training has its own; predictions of the test images stay as without inner folds."""
    budgets, written = ("train.epochs", (1, 2)), []
    for number in (0, 2):
        run_study(toy_config(budgets, evaluation__inner_folds=number, study__seeds=2), tmp_path / str(number))
        files = sorted((tmp_path / str(number)).glob("trials/*/predictions.csv"))
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]
    study = run_study(toy_config(budgets, evaluation__inner_folds=2, study__seeds=2), tmp_path / "2")
    assert study is not None
    first, second = (study.inner_predictions(name) for name in study.trials)
    assert first is not None
    assert second is not None
    assert first.probabilities.shape == (1, 48, 2), "two folds, each image in the training rows of one"
    assert not np.array_equal(first.probabilities, second.probabilities)
    assert sorted({*first.folds}) == ["0 0 0", "0 0 1", "0 1 0", "0 1 1"]
    tested = study.predictions(study.trials[0])
    fold_of = dict(zip(tested.subjects, tested.folds, strict=True))
    assert not any(fold_of[subject] == head[:3] for subject, head in zip(first.subjects, first.folds, strict=True))
    assert (tmp_path / "2/trials" / study.trials[0] / INNER_PREDICTIONS).is_file()


def test_inner_heads_do_not_see_test_images(
    toy_config: Callable[..., ConfigDict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(evaluation__inner_folds=3, data__synthetic__subjects=24)
    (job,) = sweep.jobs(sweep.expand(config))
    experiment = open_experiment(config, job.trials)
    (outer, _), (inner, _) = experiment.folds(job.trials[0]), next(iter(experiment.inner_folds.values()))
    experiment = replace(experiment, inner_folds={job.trials[0].split: (inner, ())})
    features, found = np.array(experiment.features(job.trials[0])), []
    for value in (0.0, 1e3):
        features[outer.test] = value
        changed = jax.device_put(features.copy())
        monkeypatch.setattr(Experiment, "features", lambda *_, changed=changed: changed)
        ((_, outcome),) = train_job(job, experiment, tmp_path)
        found.append(outcome.inner)
    assert [len(part) for part in found[0]] == [len(part.test) for part in inner]
    assert all(np.array_equal(*pair) for pair in zip(*found, strict=True))
