"""One training step for heads on features and for networks on images: state, metrics, loss, gradients."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict

from alljax.data.augmentation import Augment
from alljax.models.head import Head
from alljax.training.optimizers import Groups, Hyperparameters, hyperparameters_of, make_optimizer

INIT, SHUFFLE, AUGMENT, DROPOUT = range(4)
"""Random streams, with which a run's key is folded: initial parameters, order of epochs, augmentation, dropout."""

Parameters = Mapping[str, jax.Array]
"""Flat: "/"-joined path → array, such as ``backbone/block5/conv1/kernel`` or ``head/dense/bias``."""

Apply = Callable[[Parameters, Any, jax.Array, jax.Array, jax.Array | None], tuple[jax.Array, Any]]
"""Parameters, batch_stats, inputs (B, …), mask (B,), dropout keys (B,) or None → logits float32 (B, C), batch_stats."""


@flax.struct.dataclass
class Metrics:
    """Sums over images, without padding; means of batch means would not be exact."""

    loss: jax.Array  # cross-entropy, unweighted, in nats
    correct: jax.Array  # number of correctly classified images
    count: jax.Array

    @classmethod
    def zero(cls, *shape: int) -> "Metrics":
        """Returns the metrics of no image, on the host, each of this shape."""
        return cls(*np.zeros((3, *shape), np.float32))

    @classmethod
    def of(cls, logits: jax.Array, labels: jax.Array, mask: jax.Array) -> "Metrics":
        """Returns the metrics of logits (B, C) for labels int32 (B,) where the mask (B,) is true."""
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        weight = mask.astype(jnp.float32)
        correct = (logits.argmax(-1) == labels).astype(jnp.float32)
        return cls(jnp.sum(losses * weight), jnp.sum(correct * weight), jnp.sum(weight))

    @property
    def means(self) -> tuple[jax.Array, jax.Array]:
        """Loss and accuracy."""
        return self.loss / self.count, self.correct / self.count


class History(NamedTuple):
    """Learning rate of the last step and means over the images of an epoch, float32 (R, E) or numbers, as in Keras."""

    learning_rate: Any
    train_loss: Any
    train_accuracy: Any
    val_loss: Any
    val_accuracy: Any


@flax.struct.dataclass
class TrainState:
    """All that changes during training; arrays only."""

    params: Parameters  # that are trained at some time
    opt_state: optax.OptState
    step: jax.Array  # int32 (), number of optimizer steps done
    batch_stats: Any = flax.struct.field(default_factory=dict)  # of the backbone; empty for a head alone
    ema: Parameters = flax.struct.field(default_factory=dict)  # moving average; empty without ``train.ema_decay``
    metrics: Metrics = flax.struct.field(default_factory=Metrics.zero)  # since the last reset, before each step

    @property
    def eval_params(self) -> Parameters:
        """The parameters for evaluation: the moving average where there is one."""
        return self.ema or self.params


@flax.struct.dataclass
class Batch:
    """One global batch, or the part of it on one device."""

    inputs: jax.Array  # uint8 images (B, S, S, 3) or float32 features (B, D)
    labels: jax.Array  # int32 (B,)
    mask: jax.Array  # bool (B,), False for padding
    positions: jax.Array  # int32 (B,), indices in the global batch
    weights: jax.Array | None = None  # float32 (B,), of the losses; None: ones


@flax.struct.dataclass
class RunInputs:
    """What differs between the runs of one compiled step; with a leading axis for several runs."""

    key: jax.Array  # of all random streams
    class_weights: jax.Array  # float32 (C,)
    hyperparameters: Hyperparameters


def init_state(
    config: ConfigDict, params: Parameters, batch_stats: Any = None, group_of: Groups | None = None
) -> TrainState:
    """Returns the state before the first step; `params` are those that are trained at some time."""
    step, ema = jnp.zeros((), jnp.int32), params if config.train.ema_decay else {}
    optimizer = make_optimizer(config, hyperparameters_of(config, total_steps=1), step, group_of)
    return TrainState(params, optimizer.init(params), step, batch_stats or {}, ema)


def init_head(head: Head, num_features: int, key: jax.Array) -> Any:
    """Returns the initial parameters of a head, nested; `key` is that of the run."""
    return head.init(jax.random.fold_in(key, INIT), jnp.zeros((1, num_features)))["params"]


def make_train_step(
    config: ConfigDict,
    apply: Apply,
    *,
    augment: Augment | None = None,
    trainable: frozenset[str] | None = None,
    group_of: Groups | None = None,
    axis: str | tuple[()] = (),
) -> Callable[[TrainState, Parameters, Batch, RunInputs], TrainState]:
    """Returns a pure function ``(state, frozen_params, batch, run) → state`` that makes one optimizer step.

    The loss is Σ mask · weight · class_weight · loss / Σ mask over the global batch, as in Keras, whatever the number
    of devices and ``train.accumulation_steps``. `trainable` has the paths of the parameters that change (None: all),
    `axis` is the mapped axis under `jax.pmap`.
    """
    parts = config.train.accumulation_steps

    def step(state: TrainState, frozen_params: Parameters, batch: Batch, run: RunInputs) -> TrainState:
        params = {path: leaf for path, leaf in state.params.items() if trainable is None or path in trainable}
        fixed = {**frozen_params, **state.params}
        count = lax.psum(jnp.sum(batch.mask.astype(jnp.float32)), axis)

        def example_keys(stream: int, part: Batch) -> jax.Array:
            """Returns a key per image: of its position in the *global* batch, so that 1 and 8 devices draw the same."""
            key = jax.random.fold_in(jax.random.fold_in(run.key, stream), state.step)
            return jax.vmap(jax.random.fold_in, (None, 0))(key, part.positions)

        def add_part(carry: tuple[Any, Any], part: Batch) -> tuple[tuple[Any, Any], None]:
            sums, batch_stats = carry
            inputs, targets = part.inputs, jax.nn.one_hot(part.labels, len(run.class_weights))
            if augment is not None:
                inputs = augment(example_keys(AUGMENT, part), inputs)
            keys = example_keys(DROPOUT, part)

            def mean_loss(params: Parameters) -> tuple[jax.Array, tuple[Any, Metrics]]:
                logits, moved = apply({**fixed, **params}, batch_stats, inputs, part.mask, keys)
                losses = class_losses(config, logits, run.hyperparameters["focal_gamma"])
                weights = run.class_weights[None] * part.mask.astype(jnp.float32)[:, None]
                weights = weights if part.weights is None else weights * part.weights[:, None]
                total = jnp.sum(losses * targets * weights)
                return total / count, (moved, Metrics.of(logits, part.labels, part.mask))

            gradients, (moved, metrics) = jax.grad(mean_loss, has_aux=True)(params)
            return (jax.tree.map(jnp.add, sums, (gradients, metrics)), moved), None

        carry = ((jax.tree.map(jnp.zeros_like, params), Metrics.zero()), state.batch_stats)
        if parts == 1:  # without a loop, in which XLA's CPU back end is slow at gradients of convolutions
            (sums, batch_stats), _ = add_part(carry, batch)
        else:
            # Each part holds images of every device, so that no image moves between devices.
            divided = jax.tree.map(lambda leaf: jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0), batch)
            (sums, batch_stats), _ = lax.scan(add_part, carry, divided)
        gradients, metrics = lax.psum(sums, axis)
        optimizer = make_optimizer(config, run.hyperparameters, state.step, group_of)
        updates, opt_state = optimizer.update(gradients, state.opt_state, params)
        params = {**state.params, **optax.apply_updates(params, updates)}
        ema = {}
        if config.train.ema_decay:  # as tf.train.ExponentialMovingAverage with num_updates
            keep = jnp.minimum(config.train.ema_decay, (1 + state.step) / (10 + state.step))
            ema = {path: keep * state.ema[path] + (1 - keep) * leaf for path, leaf in params.items()}
        metrics = jax.tree.map(jnp.add, state.metrics, metrics)
        return TrainState(params, opt_state, state.step + 1, batch_stats, ema, metrics)

    return step


def class_losses(config: ConfigDict, logits: jax.Array, focal_gamma: jax.Array | float) -> jax.Array:
    """Returns ``train.loss`` of each image for each class as if it were the label, float32 (B, C), in nats.

    ``focal`` is (1 − p)^γ · −log p (Lin et al. 2017, arXiv 1708.02002). With ``train.label_smoothing`` ε it is (1 − ε)
    times the loss of the class plus ε times the mean of all classes' (Szegedy et al. 2015, arXiv 1512.00567).
    """
    log_p, smoothing = jax.nn.log_softmax(logits), config.train.label_smoothing
    losses = -log_p
    if config.train.loss == "focal":
        # 1 − p from expm1 is exact near p = 1, where a plain difference has no gradient left.
        losses = losses * jnp.maximum(-jnp.expm1(log_p), 1e-7) ** focal_gamma
    return (1 - smoothing) * losses + smoothing * losses.mean(1, keepdims=True) if smoothing else losses


def make_eval_step(apply: Apply, axis: str | tuple[()] = ()) -> Callable[[TrainState, Parameters, Batch], jax.Array]:
    """Returns a pure function ``(state, frozen_params, batch) → logits`` float32 (B, C) of the global batch."""

    def evaluate(state: TrainState, frozen_params: Parameters, batch: Batch) -> jax.Array:
        params = {**frozen_params, **state.eval_params}
        logits, _ = apply(params, state.batch_stats, batch.inputs, batch.mask, None)
        return lax.all_gather(logits, axis, tiled=True) if axis else logits

    return evaluate
