"""The fine-tuning step: the same numbers on any devices, frozen means frozen, and every setting does what it says."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alljax.config import default_config
from alljax.models.backbones import get_backbone
from alljax.models.head import Head
from alljax.models.preprocessing import get_preprocessing
from alljax.training import fine_tuning, parameter_groups, sharding
from alljax.training.network import Network
from alljax.training.step import TrainState

SIZE, CELLS, CLASSES, STAGE = 32, 48, 3, "stage1"
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (CELLS, SIZE, SIZE, 3), np.uint8)
LABELS = RNG.integers(0, CLASSES, CELLS).astype(np.int32)
ALL = (("head/.*", 1.0), ("backbone/.*", 0.5))


def settings(entries: tuple = ALL, **train: Any) -> Any:
    config = default_config()
    config.model.hidden = 16
    config.train.update(mode="finetune", learning_rate=1e-2, groups=entries, **train)
    return config


@pytest.fixture(scope="module")
def network() -> Network:
    backbone = get_backbone("efficientnet_lite0")
    images = jnp.zeros((1, SIZE, SIZE, 3))
    variables = jax.jit(lambda key: backbone.module.init(key, images, last=STAGE))(jax.random.key(5))
    lite = get_preprocessing("lite")
    return Network(backbone, STAGE, "average", lite, lite, None, "", variables)  # type: ignore[arg-type]


class Run:
    """A few steps of one config on devices; reads what they did."""

    def __init__(self, config: Any, network: Network, devices: Any = None) -> None:
        self.config, self.devices = config, devices or sharding.JitMesh()
        read = parameter_groups.read(config.train.groups)
        key = jax.random.key(7)
        head = Head(config.model.hidden, CLASSES, config.model.dropout)
        parameters = fine_tuning.first_parameters(network, head, key)
        group_of = parameter_groups.assign(parameters, read)
        ever = parameter_groups.learning(group_of, read, 10**9)
        learned = {path: leaf for path, leaf in parameters.items() if path in ever}
        self.fixed = {path: leaf for path, leaf in parameters.items() if path not in ever}
        optimizer = fine_tuning.make_optimizer(config, 50, read, group_of)
        layers = parameter_groups.normalization_layers(ever)
        axis = self.devices.axis
        forward = fine_tuning.make_forward(config, network, head, layers, axis)
        self.step = self.devices.jit(fine_tuning.make_step(config, forward, optimizer, ever, axis))
        self.evaluate = self.devices.jit(
            fine_tuning.make_evaluate(fine_tuning.make_forward(config, network, head), axis)
        )
        average = dict(learned) if config.train.ema_decay else {}
        state = TrainState(
            learned, optimizer.init(learned), jnp.zeros((), jnp.int32), network.variables["batch_stats"], average
        )
        self.state, self.constant = self.devices.replicate(state), self.devices.replicate(self.fixed)
        self.key = self.devices.replicate(jax.random.key_data(key))
        self.weights = self.devices.replicate(np.linspace(0.5, 2, CLASSES).astype(np.float32))

    def cells(self, number: int, size: int, multiple: int) -> fine_tuning.Cells:
        rows = (number * size + np.arange(size)) % CELLS
        padded = -(-size // multiple) * multiple
        images = np.zeros((padded, SIZE, SIZE, 3), np.uint8)
        labels = np.zeros(padded, np.int32)
        images[:size], labels[:size] = IMAGES[rows], LABELS[rows]
        return fine_tuning.Cells(images, labels, np.arange(padded) < size, np.arange(padded, dtype=np.int32))

    def train(self, steps: int, size: int = 7, multiple: int = 8) -> list[float]:
        losses = []
        for number in range(steps):
            cells = self.devices.shard(self.cells(number, size, multiple))
            self.state, sums = self.step(self.state, self.constant, self.key, cells, self.weights)
            losses.append(float(self.devices.gather(sums.loss)) / size)
        return losses

    def params(self) -> dict[str, np.ndarray]:
        return self.devices.gather(self.state.params)


class One:
    """No mesh: the plain reference on one device."""

    axis = None

    def replicate(self, tree: Any) -> Any:
        return jax.tree.map(jnp.asarray, tree)

    shard = replicate

    def jit(self, function: Any) -> Any:
        return jax.jit(function)

    def gather(self, tree: Any) -> Any:
        return jax.device_get(tree)


@pytest.mark.parametrize("way", ["jit", "fsdp", "pmap"])
def test_one_device_equals_eight(way: str, network: Network) -> None:
    """Dropout, batch statistics, odd batches with padding, clipping and averaging included."""
    config = settings(clip_norm=1.0, ema_decay=0.9)
    config.model.dropout = 0.3
    config.train.learning_rate = 1e-3  # Adam at 1e-2 makes steps of rounding errors, which grow beyond 1e-5
    devices = {"jit": sharding.JitMesh, "fsdp": lambda: sharding.JitMesh(2), "pmap": sharding.PmapMesh}[way]()
    assert devices.device_count == 8
    one, eight = Run(config, network, One()), Run(config, network, devices)
    expected, got = one.train(50), eight.train(50)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.mean(expected[-10:]) < np.mean(expected[:10])
    cells = one.cells(0, 7, 8)
    logits = one.evaluate(one.state, one.constant, cells)
    spread = devices.gather(eight.evaluate(eight.state, eight.constant, devices.shard(cells)))
    np.testing.assert_allclose(spread[:7], logits[:7], atol=1e-3)


def test_frozen_groups_and_their_statistics_never_move(network: Network) -> None:
    run = Run(settings((("head/.*", 1.0), ("backbone/stem/.*", 0.0), ("backbone/stage1/.*", 1.0))), network, One())
    run.train(3)
    assert all(path.startswith(("head/", "backbone/stage1/")) for path in run.state.params)
    before, after = network.variables["batch_stats"], run.state.batch_stats
    assert jax.tree.all(jax.tree.map(np.array_equal, before["stem"], after["stem"]))
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before["stage1"], after["stage1"])
    assert jax.tree.all(moved)


def test_accumulation_changes_memory_only(network: Network) -> None:
    frozen = (("head/.*", 1.0), ("backbone/.*/kernel", 1.0), ("backbone/.*/(scale|bias)", 0.0))
    whole, parts = (
        Run(settings(frozen, accumulation_steps=n, optimizer="sgd"), network, One()).train(4, size=7, multiple=8)
        for n in (1, 4)
    )
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_rematerialization_changes_memory_only(network: Network) -> None:
    plain, again = (Run(settings(remat=value), network, One()).train(4) for value in (False, True))
    np.testing.assert_allclose(again, plain, atol=1e-5)


def test_bfloat16_keeps_float32_parameters(network: Network) -> None:
    exact, rounded = Run(settings(), network, One()), Run(settings(compute="bfloat16"), network, One())
    np.testing.assert_allclose(rounded.train(5), exact.train(5), rtol=0.05)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((rounded.state.params, rounded.state.batch_stats))}
    assert dtypes == {np.dtype("float32")}


def test_the_average_follows_and_is_evaluated(network: Network) -> None:
    run = Run(settings(ema_decay=0.5), network, One())
    start = {path: np.asarray(leaf) for path, leaf in run.state.params.items()}
    run.train(1)
    path = "head/dense/kernel"
    keep = 1 / 10  # the first step's: min(0.5, (1 + 0) / (10 + 0))
    np.testing.assert_allclose(
        run.state.average[path], keep * start[path] + (1 - keep) * run.state.params[path], rtol=1e-5, atol=1e-7
    )
    cells = run.cells(0, 8, 8)
    swapped = run.state.replace(params=run.state.average, average={})
    np.testing.assert_array_equal(
        run.evaluate(run.state, run.constant, cells), run.evaluate(swapped, run.constant, cells)
    )


def test_sharing_shrinks_what_a_device_holds(network: Network) -> None:
    config = settings()
    config.model.hidden = 8192
    whole, shared = (Run(config, network, devices) for devices in (sharding.JitMesh(1), sharding.JitMesh(4)))
    share = sharding.bytes_per_device(shared.state) / sharding.bytes_per_device(whole.state)
    assert share < 0.3
    shared.train(1)
    assert sharding.bytes_per_device(shared.state) / sharding.bytes_per_device(whole.state) < 0.3
