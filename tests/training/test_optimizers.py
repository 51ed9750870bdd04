"""Adam, RMSprop, SGD and the exponential decay are Keras's, to rounding; layer groups cover each parameter once."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alljax.config import default_config
from alljax.errors import ConfigError
from alljax.models.backbones import get_backbone
from alljax.training import optimizers
from alljax.training.fine_tuning import normalization_layers
from alljax.training.optimizers import ParameterGroup, hyperparameters_of, learning_rate, make_optimizer

GOLDENS = np.load(Path(__file__).with_name("keras_optimizers.npz"))
START = np.linspace(-1, 1, 16).astype(np.float32)


def config_of(**train: object) -> Any:
    config = default_config()
    config.train.update(**train)
    return config


def optimizer_of(group_of: Any = None, total_steps: int = 10, **train: object) -> optax.GradientTransformation:
    """Returns the optimizer with its number of steps as a part of the state."""
    config = config_of(**train)
    numbers = hyperparameters_of(config, total_steps)

    def update(gradients: Any, state: Any, params: Any = None) -> Any:
        step, inner = state
        updates, inner = make_optimizer(config, numbers, step, group_of).update(gradients, inner, params)
        return updates, (step + 1, inner)

    init = make_optimizer(config, numbers, 0, group_of).init
    return optax.GradientTransformation(lambda params: (jnp.zeros((), jnp.int32), init(params)), update)


def trajectory(optimizer: optax.GradientTransformation) -> np.ndarray:
    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    params, gradients = jnp.asarray(START), GOLDENS["gradients"]
    _, states = jax.jit(lambda g: jax.lax.scan(step, (params, optimizer.init(params)), g))(gradients)
    return np.asarray(states)[9::10]


@pytest.mark.parametrize("name", ["adam", "rmsprop", "sgd", "sgd_decay"])
@pytest.mark.parametrize("staircase", [False, True])
def test_thousand_steps_equal_keras(name: str, staircase: bool) -> None:
    """Momentum too: under a decaying rate the velocity keeps the rates of its gradients."""
    golden = GOLDENS[f"{name}_{'staircase' if staircase else 'continuous'}"]
    optimizer, _, decay = name.partition("_")
    decayed = {"weight_decay": 0.1} if decay else {}
    ours = optimizer_of(optimizer=optimizer, learning_rate=1e-3, decay_steps=90, staircase=staircase, **decayed)
    np.testing.assert_allclose(trajectory(ours), golden, rtol=0, atol=5e-6 if decay else 1e-6)  # two additions per step


def test_learning_rates_of_the_paper() -> None:
    """After 10, 50 and 100 epochs of 267 steps."""
    numbers = hyperparameters_of(default_config(), 26_700)
    rates = [float(learning_rate(default_config(), numbers, 267 * epochs)) for epochs in (10, 50, 100)]
    np.testing.assert_allclose(rates, [8.59e-5, 4.67e-5, 2.18e-5], rtol=2e-3)


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        ({"schedule": "cosine"}, optax.cosine_decay_schedule(1e-4, 200)),
        ({"schedule": "constant"}, optax.constant_schedule(1e-4)),
        ({"schedule": "constant", "warmup_steps": 10}, lambda step: 1e-4 * min((step + 1) / 10, 1)),
        ({"schedule": "cosine", "warmup_steps": 1}, optax.cosine_decay_schedule(1e-4, 200)),
    ],
)
def test_schedules(settings: dict, reference: optax.Schedule) -> None:
    config = config_of(**settings)
    rate = jax.jit(lambda numbers, step: learning_rate(config, numbers, step))
    got = [float(rate(hyperparameters_of(config, 200), step)) for step in range(0, 210, 7)]
    np.testing.assert_allclose(got, [float(reference(step)) for step in range(0, 210, 7)], rtol=1e-5, atol=1e-11)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_weight_decay_is_decoupled(name: str) -> None:
    """Without a gradient a parameter shrinks by rate · decay of itself, whatever the moments."""
    optimizer = optimizer_of(optimizer=name, schedule="constant", learning_rate=0.1, weight_decay=0.01)
    params = jnp.asarray(START)
    updates, _ = optimizer.update(jnp.zeros_like(params), optimizer.init(params), params)
    np.testing.assert_allclose(updates, -0.1 * 0.01 * START, rtol=1e-6)


def test_clipping_by_the_global_norm() -> None:
    optimizer = optimizer_of(optimizer="sgd", schedule="constant", learning_rate=1.0, clip_norm=1.0, momentum=0.0)
    gradients = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([0.0, 4.0])}
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    np.testing.assert_allclose([*updates["a"], *updates["b"]], [-0.6, 0, 0, -0.8], rtol=1e-6)


def test_groups_with_learning_rate_and_decay_factors_can_be_frozen() -> None:
    groups = {"a": ParameterGroup("slow", 0.1, decay=0.0), "b": ParameterGroup("fast", 1.0)}
    optimizer = optimizer_of(groups, optimizer="adam", schedule="constant", learning_rate=0.1, weight_decay=0.5)
    params = {"a": jnp.array([1.0]), "b": jnp.array([1.0])}
    only_b, state = optimizer.update({"b": jnp.array([1.0])}, optimizer.init(params), params)
    assert set(only_b) == {"b"}
    np.testing.assert_allclose(only_b["b"], [-0.1 * (1 + 0.5)], rtol=1e-5)
    both, _ = optimizer.update({"a": jnp.array([1.0]), "b": jnp.array([1.0])}, state, params)
    np.testing.assert_allclose(both["a"], [-0.1 * 0.1], rtol=1e-5)  # its first step: moments start now


def test_schedule_continues_while_a_group_is_frozen() -> None:
    groups = {"a": ParameterGroup("g", 1.0), "b": ParameterGroup("h", 1.0)}
    optimizer = optimizer_of(groups, 4, optimizer="sgd", momentum=0.0, schedule="cosine", learning_rate=1.0)
    params = {"a": jnp.array([1.0]), "b": jnp.array([1.0])}
    _, state = optimizer.update({"b": jnp.array([1.0])}, optimizer.init(params), params)
    updates, _ = optimizer.update({"a": jnp.array([1.0])}, state, params)
    np.testing.assert_allclose(updates["a"], [-0.5 * (1 + np.cos(np.pi / 4))], rtol=1e-6)


PATHS = [
    *(path.replace("params", "backbone") for path in get_backbone("resnet50").shapes if path.startswith("params/s")),
    "head/dense/kernel",
    "head/dense/bias",
]
LAST_STAGE = (("head/.*", 1.0), ("backbone/stage4/.*", 0.1, 0.0, 3), ("backbone/(stem|stage[1-3])/.*", 0.0))


def assign(entries: Any) -> dict[str, ParameterGroup]:
    return optimizers.assign(PATHS, entries)


def test_layers_with_a_trained_scale_normalize_by_the_batch() -> None:
    layers = normalization_layers(optimizers.trainable(assign(LAST_STAGE), 3))
    assert {"stage4/block1/norm1", "stage4/block1/shortcut/norm"} < layers
    assert all(layer.startswith("stage4/") for layer in layers)
    assert len(layers) == 10
    convolutions = assign((("head/.*", 1), (".*/conv[^/]*/kernel", 1), ("(?!head).*/(bias|scale)", 0)))
    assert not normalization_layers(optimizers.trainable(convolutions, 0))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((("head/.*", 1.0),), "no pattern matches backbone/stage1/block1/conv1/kernel"),
        ((("head/.*", 1.0), (".*", 1.0)), r"head/dense/kernel is matched by head/\.\* and \.\*"),
        ((("head/.*", 1.0), ("backbone/.*", 0.0), ("tail/.*", 1.0)), r"'tail/\.\*' matches no parameter; .*stage4"),
        ((("head/(", 1.0),), "not a regular expression"),
        ((("(head/.*)+", 1.0),), "could take too long; .* repeat no group"),
        ((("(a?)" * 30, 1.0),), "could take too long; use at most 200 characters, 4 of"),
        ((("head/.*", 1.0), ("head/.*", 0.1), ("backbone/.*", 0)), r"matched by head/\.\* and head/\.\*"),
    ],
)
def test_invalid_groups_are_errors(entries: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assign(entries)
