"""The fine-tuning step: a network on images, some of its layer groups learning, pure and on any devices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from ml_collections import ConfigDict

from alljax.data.augmentation import Augment, Augmentation, make_augment
from alljax.errors import ConfigError
from alljax.models.head import Head, pool
from alljax.models.normalization import Batch
from alljax.training import optimizers
from alljax.training.network import Network
from alljax.training.parameter_groups import Group
from alljax.training.step import FIRST, RESTING, VIEWS, Sums, TrainState, cell_keys, make_loss, sums, weighted

Parameters = Mapping[str, jax.Array]
"""Flat: "/"-joined path → array; ``backbone/block5/conv1/kernel``, ``head/dense/bias``."""


@flax.struct.dataclass
class Cells:
    """One global batch, or a device's part of it.

    Attributes:
        images: uint8 (B, S, S, 3).
        labels: int32 (B,).
        mask: bool (B,), False for padding.
        positions: int32 (B,), places in the global batch.
    """

    images: jax.Array
    labels: jax.Array
    mask: jax.Array
    positions: jax.Array


Forward = Callable[[Parameters, Any, jax.Array, jax.Array, jax.Array | None], tuple[jax.Array, Any]]
"""Parameters, batch_stats, images, mask and keys to logits float32 (B, C) and new batch_stats."""


def make_forward(
    config: ConfigDict, network: Network, head: Head, layers: frozenset[str] = frozenset(), axis: str | None = None
) -> Forward:
    """Returns the network as a function.

    The backbone computes in ``train.compute``; parameters, statistics, head and loss are float32.

    Args:
        config: ``train.compute``, ``train.remat`` and ``train.bn_momentum`` are read.
        network: the backbone's module, stage, pooling and preprocessing; not its parameters.
        head: the classifier.
        layers: normalization layers that follow the batch.
        axis: the mapped axis under `jax.pmap`, else None.
    """
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[config.train.compute]

    def forward(
        parameters: Parameters, batch_stats: Any, images: jax.Array, mask: jax.Array, keys: jax.Array | None
    ) -> tuple[jax.Array, Any]:
        tree = unflatten_dict(dict(parameters), sep="/")
        pixels = network.preprocessing(images).astype(dtype)
        stages, moved = network.backbone.module.apply(
            {"params": tree["backbone"], "batch_stats": batch_stats},
            pixels,
            last=network.stage,
            batch=Batch(layers, mask, axis, config.train.bn_momentum),
            mutable=["batch_stats"],
        )
        features = pool(stages[network.stage], network.pool).astype(jnp.float32)
        logits: Any = head.apply({"params": tree["head"]}, features, keys)
        return logits, moved.get("batch_stats", {})

    if config.train.remat:
        # Keep what leaves each stage; what is inside is computed again on the way back.
        policy = jax.checkpoint_policies.save_only_these_names("stage")
        return jax.checkpoint(forward, policy=policy)
    return forward


def first_parameters(network: Network, head: Head, key: jax.Array) -> dict[str, jax.Array]:
    """Returns the backbone's ported parameters and a head's first ones, flat.

    The head's are the same as in the frozen mode for the same key.
    """
    drawn = head.init(jax.random.fold_in(key, FIRST), jnp.zeros((1, network.feature_count)))["params"]
    return flatten_dict({"backbone": network.used("params"), "head": drawn}, sep="/")


def make_optimizer(
    config: ConfigDict, total_steps: int, layer_groups: Sequence[Group], group_of: Mapping[str, str]
) -> optax.GradientTransformation:
    """Returns ``train.optimizer`` with the rates and decays of the layer groups.

    Args:
        config: its ``train`` is read.
        total_steps: optimizer steps of the whole run.
        layer_groups: from `groups.read`.
        group_of: from `groups.assign`.
    """
    rates = {group.pattern: group.rate for group in layer_groups}
    decays = {group.pattern: group.decay for group in layer_groups}
    return optimizers.make_optimizer(config, total_steps, rates, decays, group_of)


def make_step(
    config: ConfigDict,
    forward: Forward,
    optimizer: optax.GradientTransformation,
    learning: frozenset[str],
    axis: str | None = None,
) -> Callable[[TrainState, Parameters, jax.Array, Cells, jax.Array], tuple[TrainState, Sums]]:
    """Returns ``step(state, fixed, key, cells, class_weights)``: the state after it, and the batch's sums before it.

    The loss is Σ mask · class_weight · loss / Σ mask over the global batch, whatever the devices and
    ``train.accumulation_steps``.  With accumulation, layers that normalize by the batch see one part at a time.

    Args:
        config: its ``train`` is read.
        forward: from `make_forward`.
        optimizer: from `optim.make_optimizer`, with groups.
        learning: paths of the parameters that learn now.
        axis: the mapped axis under `jax.pmap`, else None.
    """
    loss, parts, augment = make_loss(config), config.train.accumulation_steps, make_augmentation(config)

    def over_devices(tree: Any) -> Any:
        return tree if axis is None else lax.psum(tree, axis)

    def step(
        state: TrainState, fixed: Parameters, key: jax.Array, cells: Cells, class_weights: jax.Array
    ) -> tuple[TrainState, Sums]:
        resting = dict(fixed) | {path: leaf for path, leaf in state.params.items() if path not in learning}
        awake = {path: leaf for path, leaf in state.params.items() if path in learning}

        def add(carry: tuple[Any, Any, Sums], part: Cells) -> tuple[tuple[Any, Any, Sums], None]:
            gradients, batch_stats, counted = carry
            drawn = jax.random.wrap_key_data(key)
            keys = cell_keys(jax.random.fold_in(drawn, RESTING), state.step, part.positions)
            images, targets = part.images, jax.nn.one_hot(part.labels, len(class_weights))
            if augment is not None:
                changes = cell_keys(jax.random.fold_in(drawn, VIEWS), state.step, part.positions)
                images, targets = augment(changes, images, targets, part.mask)

            def total(awake: Parameters) -> tuple[jax.Array, tuple[Any, Sums]]:
                logits, moved = forward(dict(awake) | resting, batch_stats, images, part.mask, keys)
                value = weighted(loss, logits, targets, part.mask, class_weights)
                return value, (moved, sums(logits, part.labels, part.mask))

            made, (moved, batch) = jax.grad(total, has_aux=True)(awake)
            return (jax.tree.map(jnp.add, gradients, made), moved, counted + batch), None

        start = (jax.tree.map(jnp.zeros_like, awake), state.batch_stats, Sums.zero())
        if parts == 1:
            gradients, batch_stats, batch = add(start, cells)[0]
        else:
            (gradients, batch_stats, batch), _ = lax.scan(add, start, _divided(cells, parts))
        gradients, batch = over_devices((gradients, batch))
        gradients = jax.tree.map(lambda gradient: gradient / batch.count, gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, awake)
        params = dict(state.params) | dict(optax.apply_updates(awake, updates))
        average = _averaged(state, params, config.train.ema_decay)
        return TrainState(params, opt_state, state.step + 1, batch_stats, average), batch

    return step


def make_augmentation(config: ConfigDict) -> Augment | None:
    """Returns what ``augment`` asks for; None where it asks for nothing.

    Raises:
        ConfigError: a strength that cannot be, or MixUp under pmap, whose devices do not see each other's images.
    """
    settings = Augmentation(
        flips=config.augment.flips,
        quarter_turns=config.augment.quarter_turns,
        rotation=config.augment.rotation,
        shift=config.augment.shift,
        zoom=config.augment.zoom,
        crop=config.augment.crop,
        brightness=config.augment.brightness,
        contrast=config.augment.contrast,
        stain=config.augment.stain,
        blur=config.augment.blur,
        cutout=config.augment.cutout,
        mixup=config.augment.mixup,
    )
    if settings.mixup and config.parallel == "pmap":
        raise ConfigError("augment.mixup works with parallel=jit; under pmap a device sees only its part of a batch")
    return make_augment(settings) if settings != Augmentation() else None


def make_evaluate(forward: Forward, axis: str | None = None) -> Callable[[TrainState, Parameters, Cells], jax.Array]:
    """Returns ``evaluate(state, fixed, cells)``: logits float32 (B, C) of the whole global batch.

    The averaged parameters are used where there are any.

    Args:
        forward: from `make_forward`, without layers that follow the batch.
        axis: the mapped axis under `jax.pmap`, else None.
    """

    def evaluate(state: TrainState, fixed: Parameters, cells: Cells) -> jax.Array:
        parameters = dict(fixed) | dict(state.average or state.params)
        logits = forward(parameters, state.batch_stats, cells.images, cells.mask, None)[0]
        return logits if axis is None else lax.all_gather(logits, axis, tiled=True)

    return evaluate


def _divided(cells: Cells, parts: int) -> Cells:
    """Adds a leading axis of parts; each holds cells of every device, so that none are moved."""

    def divide(leaf: jax.Array) -> jax.Array:
        return jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0)

    return jax.tree.map(divide, cells)


def _averaged(state: TrainState, params: Parameters, decay: float) -> Parameters:
    """Returns the moving average after a step; the first steps weigh more, or it would remember the start.

    Source: tf.train.ExponentialMovingAverage with num_updates: min(decay, (1 + t) / (10 + t)).
    """
    if not decay:
        return {}
    step = state.step.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return {path: keep * state.average[path] + (1 - keep) * leaf for path, leaf in params.items()}
