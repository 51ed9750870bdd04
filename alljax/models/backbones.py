"""The catalog of backbones.

To add one, write a module with the network, its layouts and a call of `register`, as `alljax.models.vgg` does.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.ad_checkpoint import checkpoint_name

from alljax.errors import ConfigError, unknown_name
from alljax.models.layers import BatchNormContext
from alljax.models.layouts import Layout, Shape


class StagedNetwork(nn.Module):
    """Base class of backbones: stages that are computed one after the other.

    A subclass lists its stages in `widths` and has a submodule ``STAGE(images, context)`` for each, and
    ``classifier(features)``, the ImageNet classifier.
    """

    widths: ClassVar[Mapping[str, int]]
    """Stage → number of channels, in the order of computation."""

    def __call__(
        self, images: jax.Array, last: str | None = None, context: BatchNormContext | None = None
    ) -> OrderedDict[str, jax.Array]:
        """Returns the activations of all stages, in order.

        Args:
            images: float32 or bfloat16 (B, H, W, 3), preprocessed as the weights expect; at least 32×32 pixels.
            last: the last stage to compute.
            context: which layers use batch statistics; None: all use the running statistics.

        Returns:
            Stage name → activation (B, h, w, channels).
        """
        activations: OrderedDict[str, jax.Array] = OrderedDict()
        for name in self.widths:
            images = activations[name] = checkpoint_name(getattr(self, name)(images, context), "stage")
            if name == last:
                break
        return activations

    def logits(self, images: jax.Array) -> jax.Array:
        """Returns the ImageNet logits (B, 1000) of preprocessed images (B, H, W, 3)."""
        return self.classifier(jnp.mean(self(images)[list(self.widths)[-1]], axis=(1, 2)))


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network that maps images to features.

    ``module.apply(variables, images, last=stage)`` returns an ordered dict of activations,
    ``module.apply(variables, images, method="logits")`` the ImageNet logits.
    """

    name: str  # in configs
    module: StagedNetwork
    layouts: Mapping[str, Layout]  # of weight files that fit, by name
    version: int = 1  # increased with every change of the activations; stored features of other versions are not used

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in the order of computation."""
        return tuple(self.module.widths)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of each variable, with the ImageNet classifier; the network is traced once, nothing is computed.

        Names are "/"-joined: ``params/stem/conv/kernel``, ``batch_stats/stem/norm/mean``, ``params/classifier/bias``.
        """
        images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
        tree = jax.eval_shape(lambda images: self.module.init(jax.random.key(0), images, method="logits"), images)
        return {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}


BACKBONES: dict[str, Backbone] = {}
"""All registered backbones by name."""


def register(name: str, module: StagedNetwork, *layouts: Layout) -> None:
    """Adds a backbone to the catalog; a weight file that fits several layouts has the first of them."""
    BACKBONES[name] = Backbone(name, module, {layout.name: layout for layout in layouts})


def get_backbone(name: str) -> Backbone:
    """Returns the backbone of this name.

    Raises:
        ConfigError: unknown name; the message suggests the nearest one.
    """
    if name not in BACKBONES:
        raise ConfigError(unknown_name("backbone", name, BACKBONES))
    return BACKBONES[name]
