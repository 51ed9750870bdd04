"""A backbone with its weights, and how it is used to make features."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from alljax.errors import ConfigError
from alljax.models import catalog
from alljax.models.catalog import Backbone, Preprocessing
from alljax.models.head import pool
from alljax.weights import port, readers, sources, store


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
    backbone = catalog.get(config.model.backbone)
    stage = config.model.stage or backbone.stages[-1]
    if stage not in backbone.stages:
        raise ConfigError(f"model.stage={stage!r}: {backbone.name} has the stages {', '.join(backbone.stages)}")
    resolved = store.resolve(config.weights.path, config.weights.name, backbone.name)
    file = readers.load(resolved.path)
    ported = port.port(file.tensors, backbone.name, origin=str(resolved.path))
    source = resolved.source or (sources.source(ported.source) if ported.source else None)
    trained_with = source.preprocessing if source else backbone.families[ported.family]
    expected = catalog.preprocessing(trained_with)
    return Network(
        backbone,
        stage,
        config.model.pool,
        _preprocessing(config, expected),
        expected,
        resolved,
        ported.family,
        (*((resolved.note,) if resolved.note else ()), *file.notes),
        ported.variables,
    )


def open_networks(configs: Iterable[ConfigDict]) -> list[Network]:
    """Returns the network of each config; configs that ask for the same one share it."""
    opened: dict[str, Network] = {}
    networks = []
    for config in configs:
        key = "".join(config[group].to_json() for group in ("model", "weights", "preprocessing"))
        if key not in opened:
            opened[key] = open_network(config)
        networks.append(opened[key])
    return networks


def _preprocessing(config: ConfigDict, expected: Preprocessing) -> Preprocessing:
    """Returns what the weights were trained with, but for what the config overrides."""
    chosen = catalog.preprocessing(config.preprocessing.name) if config.preprocessing.name else expected
    return replace(chosen, image_size=config.preprocessing.image_size or chosen.image_size)
