from collections.abc import Callable

import jax
import pytest
from ml_collections import ConfigDict

from alljax.study import estimate
from alljax.study.estimate import NetworkPace
from alljax.study.experiment import open_experiment
from alljax.study.sweep import expand, jobs

Toy = Callable[..., ConfigDict]
GROUPS = ("head/.*", 1.0), ("backbone/stage1/.*", 0.1, 1.0, 5), ("backbone/stem/.*", 0.0)


def plan(config: ConfigDict) -> str:
    trials = expand(config)
    return "\n".join(estimate.plan(trials, jobs(trials), open_experiment(config, trials)))


def test_time_of_a_network_is_the_sum_over_its_phases() -> None:
    pace = NetworkPace(start=5.0, steps={0: 1.0, 3: 2.0}, evaluation=0.5)
    # 3 epochs × 7 steps × 1 s + 2 × 7 × 2 s; 4 batches per epoch and 6 at the end.
    assert pace.of_run(epochs=5, steps=7, validation_batches=4, test_batches=6) == 5 + 21 + 28 + 13


def test_features_that_are_read_from_disk_are_in_the_plan(
    toy_config: Toy, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    found = plan(toy_config(features__memory="disk", model__pool="flatten"))
    assert "stage1 flatten: 48 × 9,216" in found
    assert "features.memory=disk" in found
    assert "images/s" in found


def test_fine_tuning_counts_all_epochs(toy_config: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "network_pace", lambda config, network: NetworkPace(0.0, {0: 1.0}, 0.0))
    config = toy_config(("train.epochs", (2, 10)), train__mode="finetune", train__groups=GROUPS)
    found = plan(config)
    assert "epochs=2: 1 trial, about 8 s" in found, "2 folds × 2 epochs × 2 steps"
    assert "epochs=10: 1 trial, about 40 s" in found
    assert "about 48 s in total" in found


def test_device_error_is_in_the_plan(toy_config: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: ConfigDict, network: object) -> NetworkPace:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 7 bytes")

    monkeypatch.setattr(estimate, "network_pace", fail)
    found = plan(toy_config(train__mode="finetune", train__groups=GROUPS))
    assert "efficientnet_lite0-adam: device error: RESOURCE_EXHAUSTED: Out of memory\n" in found
