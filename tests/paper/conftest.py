"""Real toy studies beside the paper."""

import dataclasses
from collections.abc import Callable

import pytest
from ml_collections import ConfigDict

from alljax.paper import published, reproduction
from alljax.report.tables import Section
from alljax.study.results import Study, read_study
from alljax.study.run import run_study

NETWORKS = ("model.stage", ("stem", "stage1"))
OPTIMIZERS = ("train.optimizer", ("adam", "rmsprop"))


@pytest.fixture(scope="session")
def paper_study(toy_config: Callable[..., ConfigDict], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """All 32 trainings of the paper, 2 repeats of the split × 2 seeds."""
    folder = tmp_path_factory.mktemp("paper") / "study"
    sweep = (NETWORKS, OPTIMIZERS, ("train.epochs", published.EPOCHS))
    run_study(toy_config(*sweep, split__protocol="paper", split__stratified=False, split__repeats=2, study__seeds=2,
                         study__compare="paper"), folder)  # fmt: skip
    return read_study(folder)


@pytest.fixture(scope="session")
def found(paper_study: Study) -> list[Section]:
    """The sections about `paper_study`."""
    return reproduction.sections(paper_study)


@pytest.fixture(scope="session")
def both_study(toy_config: Callable[..., ConfigDict], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two protocols, RMSprop only, one run."""
    folder = tmp_path_factory.mktemp("both") / "study"
    sweep = (("split.protocol", ("subject_kfold", "paper")), NETWORKS, ("train.epochs", (10, 20)))
    run_study(toy_config(*sweep, train__optimizer="rmsprop", study__compare="paper"), folder)
    return read_study(folder)


@pytest.fixture(scope="session")
def without() -> Callable[..., Study]:
    """Returns a study as if trials were missing."""

    def change(study: Study, *names: str) -> Study:
        trials = {name: trial for name, trial in study.metrics["trials"].items() if name not in names}
        return dataclasses.replace(study, metrics=study.metrics | {"trials": trials})

    return change
