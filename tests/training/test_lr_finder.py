"""The learning-rate finder: each rate of the sweep is the run it stands for, and the best one really learns."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.small_run import CLASSES, GROUPS, SPLIT, Cells, One, settings, small_network

from alljax.errors import ConfigError
from alljax.models.head import Head
from alljax.training import fine_tuning, lr_finder, parameter_groups
from alljax.training.feeding import Feed
from alljax.training.sampling import make_fold_rows
from alljax.training.step import TrainState

STEPS = 6
RATES = np.array([1e-4, 3e-3], np.float32)
RESTING_STEM = (GROUPS[0], ("backbone/stem/.*", 0.0), ("backbone/stage1/.*", 0.5, 2.0))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adamw", "weight_decay": 0.1, "groups": RESTING_STEM, "accumulation_steps": 2, "clip_norm": 0.5},
        {"optimizer": "sgd", "groups": (), "mode": "frozen", "schedule": "cosine", "warmup_steps": 3, "ema_decay": 0.9},
    ],
)
def test_sweep_equals_single_runs(changes: dict) -> None:
    config = settings(**changes)
    network, cells, key = small_network(), Cells(20), jax.random.key(3)
    fold = make_fold_rows(config, cells.labels, CLASSES, [SPLIT])[0]
    feed, weights = Feed(config, cells, fold, key, One()), np.asarray(fold.class_weights)
    swept = lr_finder.sweep(config, network, CLASSES, feed, weights, key, STEPS, RATES)
    assert swept.shape == (len(RATES), STEPS)
    assert abs(swept[0, -1] - swept[1, -1]) > 1e-3, "the rates must matter, or nothing is compared"

    for rate, of_rate in zip(RATES, swept, strict=True):
        single = settings(
            **changes | {"learning_rate": float(rate), "schedule": "constant", "warmup_steps": 0, "ema_decay": 0.0}
        )
        layer_groups, head = (
            parameter_groups.read(single.train.groups),
            Head(single.model.hidden, CLASSES, single.model.dropout),
        )
        parameters = fine_tuning.first_parameters(network, head, key)
        group_of = parameter_groups.assign(parameters, layer_groups)
        learning = parameter_groups.learning(group_of, layer_groups, 0)
        forward = fine_tuning.make_forward(single, network, head, parameter_groups.normalization_layers(learning))
        optimizer = fine_tuning.make_optimizer(single, STEPS, layer_groups, group_of)
        step = jax.jit(fine_tuning.make_step(single, forward, optimizer, learning))
        awake = {path: leaf for path, leaf in parameters.items() if path in learning}
        fixed = {path: leaf for path, leaf in parameters.items() if path not in learning}
        state = TrainState(awake, optimizer.init(awake), jnp.zeros((), jnp.int32), network.used("batch_stats"))
        for expected, batch in zip(of_rate, itertools.islice(feed.training(0), STEPS), strict=True):
            state, sums = step(state, fixed, jax.random.key_data(key), batch, weights)
            assert float(sums.loss / sums.count) == pytest.approx(float(expected), rel=1e-5)


def test_a_rate_that_is_too_high_is_not_the_best() -> None:
    config = settings()
    network, cells, key = small_network(), Cells(20), jax.random.key(3)
    broken = jax.tree.map(lambda leaf: leaf, network.variables)
    fold = make_fold_rows(config, cells.labels, CLASSES, [SPLIT])[0]
    feed, weights = Feed(config, cells, fold, key, One()), np.asarray(fold.class_weights)
    wide = np.array([1e-3, 1e30], np.float32)
    swept = lr_finder.sweep(config, network, CLASSES, feed, weights, key, STEPS, wide)
    assert np.isfinite(swept[0]).all()
    assert not np.isfinite(swept[1, -1])
    assert lr_finder.best(swept, wide) == pytest.approx(1e-3)

    broken["params"]["stem"] = jax.tree.map(lambda leaf: leaf * np.nan, broken["params"]["stem"])
    sick = dataclasses.replace(network, variables=broken)
    lost = lr_finder.sweep(config, sick, CLASSES, feed, weights, key, 2, wide)
    with pytest.raises(ConfigError, match="no number at any learning rate from 0.001"):
        lr_finder.best(lost, wide)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_best_ignores_what_diverged_and_looks_at_the_end(bad: float) -> None:
    losses = np.tile(np.linspace(1.0, 0.5, 10), (4, 1))
    losses[0, :8] = 0.0  # low at first only
    losses[1, -1] = bad
    losses[2, -2:] = 0.4
    losses[3] = bad
    assert lr_finder.best(losses, np.array([1e-4, 1e-3, 1e-2, 1e-1])) == 1e-2
    with pytest.raises(ConfigError, match=r"from 1e-06 to 1;"):
        lr_finder.best(np.full((13, 10), bad))


def test_one_step_is_enough_to_choose() -> None:
    assert lr_finder.best(np.array([[2.0], [1.0]]), np.array([0.1, 0.2])) == 0.2
