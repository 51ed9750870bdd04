"""A trained trial as one function of images, in plain JAX operations that every platform and exporter has."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alljax.data.images import PRECISION, resize_weights
from alljax.errors import ConfigError
from alljax.models.head import POOLINGS, make_head
from alljax.models.layers import PORTABLE
from alljax.models.preprocessing import Preprocessing
from alljax.study.ensemble import Ensemble
from alljax.training.feature_extraction import sequence_of


def check(opened: Ensemble, problem: str = "") -> None:
    """Raises `ConfigError` if the classifiers of a trial are not heads on a backbone, or for another problem."""
    if opened.combined:
        problem = "it combines other trials, which can be exported"
    elif opened.sources != (opened.network,):
        problem = f"features.extractor={','.join(opened.config.features.extractor)} is not a backbone alone"
    elif any(member.estimators for member in opened.members):
        problem = f"classifier.name={opened.config.classifier.name} is one of scikit-learn"
    if problem:
        raise ConfigError(f"{opened.trial} cannot be exported: {problem}; choose another --trial")


def make_function(opened: Ensemble) -> Callable[[jax.Array], jax.Array]:
    """Returns a function from uint8 images (N, H, W, 3) of any size to the probabilities float32 (N, C) of a trial.

    They are those of `alljax predict`, the mean over folds and seeds, calibrated where the trial has a temperature.
    Everything is computed in float32; the parameters are constants.
    """
    network: Any = opened.network
    check(
        opened, "preprocessing.cell=masked is for controls" if network and network.preprocessing.cell != "keep" else ""
    )
    temperature, members = float(opened.result["temperature"] or 1), jax.device_get(opened.members)
    head = make_head(opened.config, len(opened.study.classes), sequence_of(opened.config, opened.sources))

    def classify(images: jax.Array) -> jax.Array:
        pixels = network.preprocessing(resize(images, network.preprocessing))
        features, logits = pixels, list[Any]()
        for number, member in enumerate(members):
            if number == 0 or not opened.frozen:  # members of a frozen trial have the same backbone
                stages = network.backbone.module.apply(member.backbone, pixels, last=network.stage)
                features = POOLINGS[network.pool](stages[network.stage])
            selected: Any = member.selection.apply(features) if member.selection else features
            for row in range(len(jax.tree.leaves(member.heads)[0])):  # jax2onnx does not convert `jax.vmap` of layers
                params: Any = jax.tree.map(lambda leaf, row=row: leaf[row], member.heads)
                logits.append(head.apply({"params": params}, selected))
        return jax.nn.softmax(jnp.stack(logits) / temperature).mean(0)

    def traced(images: jax.Array) -> jax.Array:
        token = PORTABLE.set(True)
        try:
            return classify(images)
        finally:
            PORTABLE.reset(token)

    return traced


def resize(images: jax.Array, settings: Preprocessing) -> jax.Array:
    """Resizes (N, H, W, 3) to (N, S, S, 3), whole numbers 0 … 255: the bits of `alljax.data.images.resize`."""
    kind = settings.image_size, settings.interpolation, settings.antialias
    rows, columns = (resize_weights(length, *kind) for length in images.shape[1:3])
    if rows[1].dtype == np.int32:
        return _rounded(_weigh(_rounded(_weigh(images, 2, *columns)), 1, *rows))
    return jnp.rint(_weigh(_weigh(images, 1, *rows), 2, *columns))


def _weigh(images: jax.Array, axis: int, places: np.ndarray, weights: np.ndarray) -> jax.Array:
    """Returns the sums of K input pixels times their weights along an axis; both are (K, S)."""
    shape = [len(weights[0]) if other == axis else 1 for other in range(4)]
    images = images.astype(weights.dtype)
    pairs = zip(places, weights, strict=True)
    return sum(jnp.take(images, place, axis=axis) * weight.reshape(shape) for place, weight in pairs)


def _rounded(total: jax.Array) -> jax.Array:
    """Rounds sums of weights in units of 2 ** -PRECISION to 0 … 255, as Pillow does."""
    positive = jnp.maximum(total + 2 ** (PRECISION - 1), 0)
    return jnp.minimum(lax.div(positive, jnp.full_like(positive, 2**PRECISION)), 255)
