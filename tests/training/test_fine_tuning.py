"""FineTuner: compiled once, the same numbers on any devices, frozen parameters do not change, settings take effect."""

import dataclasses
from collections import Counter
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from training.small_run import CLASSES, GROUPS, SPLIT, STEPS, Images, Run, identical, ignore, settings, small_network

from alljax.errors import ConfigError
from alljax.training.fine_tuning import FineTuner
from alljax.training.loop import FoldLoader, train
from alljax.training.network import Network
from alljax.training.sampling import make_fold_rows
from alljax.training.sharding import Mesh, PmapMesh, bytes_per_device

COMMON = settings(clip_norm=1.0, ema_decay=0.9, epochs=16)
"""Shared by most tests, and so compiled once per mesh; the head is large enough to be sharded."""
COMMON.model.hidden = 4096

MESHES = {"jit": Mesh(), "fsdp": Mesh(2), "pmap": PmapMesh()}


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network()


def test_five_folds_and_three_seeds_compile_as_one_run(
    network: Network, tmp_path: Any, compilations: list[str]
) -> None:
    """Two phases of unfreezing, class weights and number of steps that differ per fold."""
    config = settings(groups=(*GROUPS[:2], ("backbone/stage1/.*", 0.5, 1.0, 1)), epochs=2, class_weights="balanced")
    images, mesh = Images(), Mesh()
    rows = [np.roll(SPLIT.train, shift)[: 21 - shift % 2] for shift in range(5)]
    splits = [dataclasses.replace(SPLIT, fold=fold, train=rows[fold]) for fold in range(5)]
    tuner, results, first = FineTuner(config, network, CLASSES, mesh), [], 0
    for number, fold in enumerate(make_fold_rows(config, images.labels, CLASSES, splits)):
        for seed in range(3):
            key = jax.random.key(seed)
            loader = FoldLoader(config, images, fold, key, mesh)
            inputs = tuner.inputs(key, fold.class_weights, 2 * loader.steps_per_epoch)
            results.append(train(tuner, loader, inputs, tmp_path / f"{number}-{seed}", ignore))
            first = first or len(compilations)
    assert len({tuple(result["history"]) for result in results}) == 15
    counts = Counter(compilations)
    programs = {f"jit({name})": counts[f"jit({name})"] for name in ("step", "evaluate", "_make_state", "_all_finite")}
    assert list(programs.values()) == [2, 1, 1, 1], programs
    assert len(compilations) == first, f"compiled after the first run: {compilations[first:]}"


@pytest.mark.parametrize("mesh", ["jit", "fsdp", "pmap"])
def test_one_device_equals_eight(mesh: str, network: Network) -> None:
    """Dropout, batch statistics, short batches with padding, clipping and the moving average included."""
    assert MESHES[mesh].device_count == 8
    found = []
    for run in (Run(COMMON, network), Run(COMMON, network, mesh=MESHES[mesh])):
        state, losses = run.tuner.init(run.inputs), []
        for batch in run.loader.train(0):
            state = run.tuner.step(run.tuner.reset_metrics(state), batch, run.inputs, epoch=0)
            losses.append(run.tuner.mesh.gather(state.metrics).means[0])
        found.append((np.array(losses), run.loader.predict(partial(run.tuner.logits, state), run.loader.test)))
    (losses, logits), (losses_of_eight, logits_of_eight) = found
    assert len(losses) == 16 * STEPS
    np.testing.assert_allclose(losses_of_eight, losses, atol=1e-5)
    np.testing.assert_allclose(logits_of_eight, logits, atol=1e-3)
    assert losses[-6:].mean() < losses[:6].mean()


def test_accumulation_and_remat_do_not_change_the_numbers(network: Network) -> None:
    statistics_frozen = (GROUPS[0], ("backbone/.*/kernel", 1.0), ("backbone/.*/(scale|bias)", 0.0))
    states = [
        Run(settings(groups=statistics_frozen, optimizer="sgd", **change), network).steps(STEPS)
        for change in ({}, {"accumulation_steps": 4}, {"remat": True})
    ]
    for state in states[1:]:
        for path, leaf in states[0].params.items():
            np.testing.assert_allclose(state.params[path], leaf, atol=1e-5)


def test_bfloat16_keeps_float32_parameters(network: Network) -> None:
    exact, rounded = (Run(settings(compute=compute), network).steps(STEPS) for compute in ("float32", "bfloat16"))
    np.testing.assert_allclose(rounded.metrics.loss, exact.metrics.loss, rtol=0.05)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((rounded.params, rounded.batch_stats))}
    assert dtypes == {np.dtype("float32")}


@pytest.mark.parametrize("mesh", ["fsdp", "pmap"])
def test_donation_does_not_change_earlier_results(mesh: str, network: Network) -> None:
    """A step reuses its state's memory: values that were read before, and the initial parameters, must not change."""
    run = Run(COMMON, network, mesh=MESHES[mesh])
    first = run.tuner.mesh.gather(run.tuner.init(run.inputs))
    state = run.steps(1)
    read = run.tuner.mesh.gather(state)
    copies = [jax.tree.map(np.copy, tree) for tree in (first, read)]
    jax.block_until_ready(run.steps(2, state))
    assert identical(first, copies[0])
    assert identical(read, copies[1])
    assert identical(run.tuner.mesh.gather(run.tuner.init(run.inputs)), copies[0])


def test_fsdp_shards_the_state(network: Network) -> None:
    runs = [Run(COMMON, network, mesh=MESHES[mesh]) for mesh in ("jit", "fsdp")]
    complete, part = (bytes_per_device(run.tuner.init(run.inputs)) for run in runs)
    assert part < 0.65 * complete  # arrays below the minimum size are replicated
    assert bytes_per_device(runs[1].steps(1)) == part


def test_groups_cover_the_stages_that_are_used(network: Network) -> None:
    """Weight files contain the complete backbone; stages after ``model.stage`` are neither kept nor in a group."""
    with pytest.raises(ConfigError, match="no pattern matches backbone/stage1"):
        Run(settings(groups=GROUPS[:2]), network)
    run = Run(settings(groups=GROUPS[:2]), dataclasses.replace(network, stage="stem"))
    state = run.tuner.init(run.inputs)
    assert not any("stage1" in path for path in state.params)
    assert "stage1" not in run.tuner.result(state)["batch_stats"]
