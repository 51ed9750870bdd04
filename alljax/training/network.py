"""A backbone with its weights, and how it is used to make features."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from alljax.errors import ConfigError
from alljax.models import backbones
from alljax.models.backbones import Backbone, Preprocessing
from alljax.models.head import POOLINGS, pool
from alljax.weights import conversion, formats, sources, store


@dataclass(frozen=True)
class Network:
    """From pixels to one feature vector an image.

    Attributes:
        backbone: the architecture.
        stage: whose activations are the features.
        pool: ``average``, ``max`` or ``flatten``.
        preprocessing: from uint8 pixels to the backbone's input.
        expected: the preprocessing the weights were trained with.
        weights: where the parameters come from, with their SHA-256.
        family: whose layout the weight file has, for example ``torchvision``.
        notes: what a person should know of the file and of how it was read.
        variables: ``{"params": …, "batch_stats": …}`` without the ImageNet classifier, float32.
    """

    backbone: Backbone
    stage: str
    pool: str
    preprocessing: Preprocessing
    expected: Preprocessing
    weights: store.Resolved
    family: str
    notes: tuple[str, ...]
    variables: Any = field(repr=False, compare=False)

    def describe(self) -> dict[str, Any]:
        """Returns what a result should say of it, ready for JSON."""
        return {
            "backbone": self.backbone.name,
            "stage": self.stage,
            "pool": self.pool,
            "name": self.weights.source.name if self.weights.source else "",
            "path": str(self.weights.path.resolve()),
            "sha256": self.weights.sha256,
            "family": self.family,
            "preprocessing": asdict(self.preprocessing),
        }

    def used(self, collection: str) -> Any:
        """Returns the variables of ``params`` or ``batch_stats`` up to the stage whose activations are used."""
        stages = self.backbone.stages[: self.backbone.stages.index(self.stage) + 1]
        return {name: tree for name, tree in self.variables.get(collection, {}).items() if name in stages}

    @property
    def feature_count(self) -> int:
        """D, the number of features that the pooled stage gives."""
        images = jax.ShapeDtypeStruct((1, self.preprocessing.image_size, self.preprocessing.image_size, 3), jnp.float32)

        def features(variables: Any, images: jax.Array) -> jax.Array:
            stages: Any = self.backbone.module.apply(variables, images, last=self.stage)
            return pool(stages[self.stage], self.pool)

        return jax.eval_shape(features, self.variables, images).shape[1]

    def mismatch(self) -> str:
        """Returns how the preprocessing differs from what the weights were trained with; empty if it does not."""
        ours, theirs = asdict(self.preprocessing), asdict(self.expected)
        return ", ".join(f"{key} {ours[key]} instead of {theirs[key]}" for key in ours if ours[key] != theirs[key])


def open_network(config: ConfigDict) -> Network:
    """Returns the network that ``model``, ``weights`` and ``preprocessing`` describe.

    Raises:
        ConfigError: an unknown backbone, stage or preprocessing.
        WeightsError: no weights to be had, or a file that does not fit.
    """
    return open_networks([config])[0]


def open_networks(configs: Iterable[ConfigDict]) -> list[Network]:
    """Returns the network of each config; configs that ask for the same one share it, others at least its weights.

    Raises:
        ConfigError, WeightsError: as `open_network`.
    """
    loaded: dict[tuple[str, ...], Network] = {}
    opened: dict[tuple[str, ...], Network] = {}
    networks = []
    for config in configs:
        of_weights = config.model.backbone, config.weights.path, config.weights.name
        key = (*of_weights, config.model.stage, config.model.pool, config.preprocessing.to_json())
        if key not in opened:
            if of_weights not in loaded:
                loaded[of_weights] = _load(config)
            opened[key] = _as_asked(loaded[of_weights], config)
        networks.append(opened[key])
    return networks


def _load(config: ConfigDict) -> Network:
    """Returns the network with all that its weights decide, the features of its last stage."""
    backbone = backbones.get(config.model.backbone)
    resolved = store.resolve(config.weights.path, config.weights.name, backbone.name)
    file = formats.load(resolved.path)
    ported = conversion.port(file.tensors, backbone.name, origin=str(resolved.path))
    source = resolved.source or (sources.source(ported.source) if ported.source else None)
    trained_with = source.preprocessing if source else backbone.families[ported.family]
    expected = backbones.preprocessing(trained_with)
    notes = (*((resolved.note,) if resolved.note else ()), *file.notes)
    stage, pooling = backbone.stages[-1], POOLINGS[0]
    return Network(
        backbone, stage, pooling, expected, expected, resolved, ported.family, notes, ported.variables
    )  # fmt: skip


def _as_asked(network: Network, config: ConfigDict) -> Network:
    """Returns the network with the stage, pooling and preprocessing of a config."""
    stage = config.model.stage or network.stage
    if stage not in network.backbone.stages:
        name, stages = network.backbone.name, ", ".join(network.backbone.stages)
        raise ConfigError(f"model.stage={stage!r}: {name} has the stages {stages}")
    preprocessing = _preprocessing(config, network.expected)
    return replace(network, stage=stage, pool=config.model.pool, preprocessing=preprocessing)


def _preprocessing(config: ConfigDict, expected: Preprocessing) -> Preprocessing:
    """Returns what the weights were trained with, but for what the config overrides."""
    chosen = backbones.preprocessing(config.preprocessing.name) if config.preprocessing.name else expected
    return replace(chosen, image_size=config.preprocessing.image_size or chosen.image_size)
