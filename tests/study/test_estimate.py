from collections.abc import Callable

import jax
import pytest
from ml_collections import ConfigDict

from alljax.study import estimate
from alljax.study.experiment import open_experiment
from alljax.study.sweep import expand, jobs

Toy = Callable[..., ConfigDict]
GROUPS = ("head/.*", 1.0), ("backbone/stage1/.*", 0.1, 1.0, 5), ("backbone/stem/.*", 0.0)


def plan(config: ConfigDict) -> str:
    trials = expand(config)
    return "\n".join(estimate.plan(trials, jobs(trials), open_experiment(config, trials)))


def test_fine_tuning_counts_all_epochs(toy_config: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    # 4 s to compile; steps of 1 s.
    monkeypatch.setattr(estimate, "network_seconds", lambda config, network: (4.0, 1.0))
    config = toy_config(train__epochs=10, train__mode="finetune", train__groups=GROUPS)
    # 10 epochs × 2 folds × 2 batches × (1 s + 1/3 s)
    assert "efficientnet_lite0-adam: 1 trial, 10 epochs, about 57 s" in plan(config)


def test_device_error_is_in_the_plan(toy_config: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: ConfigDict, network: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 7 bytes")

    monkeypatch.setattr(estimate, "network_seconds", fail)
    found = plan(toy_config(train__mode="finetune", train__groups=GROUPS))
    assert "efficientnet_lite0-adam: device error: RESOURCE_EXHAUSTED: Out of memory\n" in found
