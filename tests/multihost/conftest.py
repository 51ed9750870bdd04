"""Several processes on this machine, as several hosts would be."""

from pathlib import Path

import jax
import numpy as np
import pytest
from processes import TOY, Process, finish, start, start_study, wait_for

from alljax.study import workdir
from alljax.training import checkpoints

__all__ = ["start"]
# With Adam, tiny gradients would turn rounding differences into different steps.
SGD = (*TOY, "--config.train.optimizer=sgd", "--config.train.learning_rate=0.01", "--config.train.epochs=2")
TRIAL = "trials/efficientnet_lite0-sgd"


def wait_for_checkpoint(folder: Path, *processes: Process) -> None:
    wait_for(lambda: any((folder / TRIAL).glob("runs/*/checkpoints/[0-9]*/_CHECKPOINT_METADATA")), *processes)


def assert_same_network(first: Path, second: Path) -> None:
    trees = [checkpoints.load_arrays(folder / TRIAL / workdir.PARAMETERS) for folder in (first, second)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *trees)


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy of one process with four devices."""
    folder = tmp_path_factory.mktemp("single")
    finish(start_study(folder, *SGD, devices=4))
    return folder
