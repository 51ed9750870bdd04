"""A learner's arrays: what goes into a checkpoint comes back, on any devices, and nothing moves unasked."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from training.small_run import GROUPS, One, Run, compiled_once, settings, small_network

from alljax.errors import ConfigError
from alljax.training import sharding
from alljax.training.network import Network

DEVICES = {"one": One, "jit": sharding.JitMesh, "fsdp": lambda: sharding.JitMesh(2), "pmap": sharding.PmapMesh}


@pytest.fixture(autouse=True, scope="module")
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network()


def run_of(network: Network, devices: str = "one", **train: Any) -> Run:
    config = settings(ema_decay=0.9, **train)
    config.model.hidden = 4096  # large enough to be shared
    return Run(config, network, Path(), DEVICES[devices]())


def copied(leaves: list[np.ndarray]) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in leaves]


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    alike = [a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)]
    return all(alike)


@pytest.mark.parametrize("devices", DEVICES)
def test_steps_leave_what_was_taken_from_them_alone(devices: str, network: Network) -> None:
    """A step takes its state's memory: arrays on their way to disk and the first parameters must not be there."""
    run = run_of(network, devices)
    learner, state = run.learner, run.learner.start()
    first = learner.leaves((state, learner.zero()))
    kept, learn, batches = copied(first), learner.compile(0), run.feed.training(0)
    for _ in range(2):
        state, sums = learn(state, next(batches))
    taken = learner.leaves((state, sums))
    after = copied(taken)
    state, _ = learn(state, next(batches))
    jax.block_until_ready(state)
    assert same(first, kept)
    assert same(taken, after)
    assert same(learner.leaves((learner.start(), learner.zero())), kept)
    assert not same(taken, kept)


@pytest.mark.parametrize("devices", DEVICES)
def test_what_was_saved_comes_back_anywhere(devices: str, network: Network) -> None:
    """Bit for bit, with its types, and the layout names it."""
    run = run_of(network)
    state, sums = run.learner.compile(0)(run.learner.start(), next(run.feed.training(0)))
    leaves = copied(run.learner.leaves((state, sums)))
    other = run_of(network, devices)
    assert other.learner.layout == run.learner.layout
    assert same(other.learner.leaves(other.learner.restore(leaves)), leaves)
    assert len(run.learner.layout) == len(leaves)
    for line, leaf in zip(run.learner.layout, leaves, strict=True):
        assert line.endswith(f" {leaf.dtype} {leaf.shape}")
    ours, theirs = other.learner.result(other.learner.restore(leaves)[0]), run.learner.result(state)
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))


def test_the_layout_tells_runs_apart(network: Network) -> None:
    layouts = {
        name: tuple(run_of(network, **change).learner.layout)
        for name, change in {
            "as it is": {},
            "optimizer": {"optimizer": "sgd"},
            "groups": {"groups": (("head/.*", 1.0), ("backbone/.*", 0.5))},
            "frozen": {"groups": (("head/.*", 1.0), ("backbone/.*", 0.0))},
        }.items()
    }
    assert len(set(layouts.values())) == len(layouts)
    for change in ({"learning_rate": 1.0}, {"compute": "bfloat16"}, {"epochs": 9}, {"accumulation_steps": 2}):
        assert tuple(run_of(network, **change).learner.layout) == layouts["as it is"]


def test_what_never_learns_is_in_no_state(network: Network) -> None:
    frozen = (("head/.*", 1.0), ("backbone/stem/.*", 0.0), ("backbone/stage1/.*", 1.0, 1.0, 99))
    run = run_of(network, groups=frozen)
    state = run.learner.start()
    assert {path.split("/")[0] for path in state.params} == {"head"}
    assert set(state.ema) == set(state.params)
    count = sum(leaf.size for leaf in state.params.values())
    assert f"{count:,} parameters learn" in run.learner.describe(state)
    params, statistics = run.learner.result(state)
    assert set(params) == set(state.params)
    assert set(statistics) == {"stem", "stage1"}


def test_the_average_is_the_result(network: Network) -> None:
    run = run_of(network)
    state, _ = run.learner.compile(0)(run.learner.start(), next(run.feed.training(0)))
    params, _ = run.learner.result(state)
    assert all(np.array_equal(params[path], leaf) for path, leaf in state.ema.items())
    assert not np.array_equal(params["head/dense/kernel"], state.params["head/dense/kernel"])


@pytest.mark.parametrize("devices", DEVICES)
def test_evaluation_alone(devices: str, network: Network) -> None:
    """A finished run's parameters, loaded on other devices by a learner that never learns, give its logits."""
    run = run_of(network)
    state, _ = run.learner.compile(0)(run.learner.start(), next(run.feed.training(0)))
    expected = run.feed.logits(run.learner, state, run.feed.test)
    params, statistics = run.learner.result(state)
    other = run_of(network, devices)
    loaded = other.learner.loaded(params, statistics)
    np.testing.assert_allclose(other.feed.logits(other.learner, loaded, other.feed.test), expected, atol=1e-5)


def test_groups_must_cover(network: Network) -> None:
    with pytest.raises(ConfigError, match="no pattern matches backbone/stage1"):
        run_of(network, groups=GROUPS[:2])


def test_stages_behind_the_features_are_left_out(network: Network) -> None:
    """Weights files hold the whole backbone; what lies behind ``model.stage`` is neither kept nor covered by groups."""
    run = run_of(dataclasses.replace(network, stage="stem"), groups=GROUPS[:2])
    assert not any("stage1" in path for path in run.learner.start().params)
    assert "stage1" not in run.learner.result(run.learner.start())[1]
