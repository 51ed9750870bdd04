"""Fine-tuning: a network on images as a function, its initial parameters and its augmentation."""

from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax.data.augmentation import Augment, Augmentation, make_augment
from alljax.errors import ConfigError
from alljax.models.head import Head, pool
from alljax.models.layers import BatchNormContext
from alljax.training.network import Network
from alljax.training.step import INIT, Apply, Parameters


def make_forward(
    config: ConfigDict, network: Network, head: Head, layers: frozenset[str] = frozenset(), axis: str | None = None
) -> Apply:
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
            context=BatchNormContext(layers, mask, axis, config.train.bn_momentum),
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
    """Returns the backbone's parameters and a head's first ones, flat.

    The head's are the same as in the frozen mode for the same key.
    """
    drawn = head.init(jax.random.fold_in(key, INIT), jnp.zeros((1, network.feature_count)))["params"]
    return flatten_dict({"backbone": network.used("params"), "head": drawn}, sep="/")


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
