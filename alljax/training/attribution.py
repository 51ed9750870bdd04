"""Which parts of an image a network uses: Grad-CAM and occlusion, with trained and with random parameters."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.signal import convolve

from alljax import interrupts
from alljax.models.head import POOLINGS, Head
from alljax.training.network import Network

GRID = 8
"""Blocks per side of an occlusion map; a patch covers 2 × 2 of them, so an image takes 49 passes."""


class Attribution(NamedTuple):
    """What some heads find in one image, for C classes; float32. Maps are positive where something supports a class."""

    probabilities: np.ndarray  # (C,), the mean over heads
    features: np.ndarray  # (D,)
    grad_cam: np.ndarray  # (C, h, w), the grid of the stage whose activations are the features
    occlusion: np.ndarray  # (C, GRID, GRID)


class Explainer:
    """The compiled functions for one network; its parameters and the images are arguments.

    What is explained is the log-odds of a class, log(p / (1 - p)), as the mean over heads.
    """

    def __init__(self, network: Network, hidden: int, num_classes: int) -> None:
        """Compiles nothing yet; `hidden` is the width of the heads."""
        self._network, self._head = network, Head(hidden, num_classes)

    def attribute(self, variables: Any, groups: Sequence[Any], image: np.ndarray) -> list[Attribution]:
        """Explains one image, uint8 (S, S, 3), for each group of heads (stacked parameters) on the same backbone.

        Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) is the sum of the activations, each channel weighted by the
        mean gradient of the log-odds, without the final ReLU. Occlusion (Zeiler & Fergus 2014, arXiv 1311.2901) is the
        decrease of the log-odds when a patch has its mean color everywhere, which leaves the background as it is; a
        block has the mean over the patches that cover it.
        """
        found, rows = [], []
        for top in range(GRID - 1):
            rows.append(jax.device_get(self._occlude_row(variables, groups, image, top)))
            interrupts.check()
        explained = jax.device_get(self._explain(variables, groups, image))
        for (log_odds, *rest), occluded in zip(explained, np.stack(rows, axis=1), strict=True):
            decreases = log_odds - occluded
            occlusion = _over_patches(decreases) / _over_patches(np.ones_like(decreases))
            found.append(Attribution._make((*rest, occlusion.transpose(2, 0, 1))))
        return found

    @partial(jax.jit, static_argnums=0)
    def random_variables(self, key: jax.Array) -> Any:
        """Returns random parameters of the backbone; its running statistics have mean 0 and variance 1."""
        initial = self._network.backbone.module.init(key, jnp.zeros((1, 64, 64, 3)), last=self._network.stage)
        return {"params": initial["params"], "batch_stats": initial.get("batch_stats", {})}

    @partial(jax.jit, static_argnums=0)
    def random_heads(self, keys: jax.Array) -> Any:
        """Returns the stacked parameters of heads before their training, one per key (H,)."""
        features = jnp.zeros((1, self._network.feature_count))
        return jax.vmap(lambda key: self._head.init(key, features)["params"])(keys)

    @partial(jax.jit, static_argnums=0)
    def _explain(self, variables: Any, groups: Sequence[Any], image: Any) -> list[Any]:
        """Returns log-odds (C,), probabilities (C,), features (D,) and Grad-CAM (C, h, w) for each group of heads."""
        activation, found = self._activation(variables, image[None]), []
        features = POOLINGS[self._network.pool](activation)
        for heads in groups:
            log_odds = partial(self._log_odds, heads)
            gradients = jax.jacrev(lambda single, log_odds=log_odds: log_odds(single[None])[0])(activation[0])
            grad_cam = jnp.einsum("hwd,cd->chw", activation[0], gradients.mean((1, 2)))
            probabilities = jax.nn.softmax(self._logits(heads, features)).mean(0)
            found.append((log_odds(activation)[0], probabilities[0], features[0], grad_cam))
        return found

    @partial(jax.jit, static_argnums=0)
    def _occlude_row(self, variables: Any, groups: Sequence[Any], image: Any, top: Any) -> list[jax.Array]:
        """Returns the log-odds (GRID - 1, C) with each patch of a row of patches occluded, for each group of heads."""
        pixels = image.astype(jnp.float32)
        block, left = jnp.arange(len(pixels)) * GRID // len(pixels), jnp.arange(GRID - 1)[:, None]
        rows, columns = ((block[None] == first) | (block[None] == first + 1) for first in (top, left))
        patches = (rows[:, :, None, None] & columns[:, None, :, None]).astype(jnp.float32)
        colors = (patches * pixels[None]).sum((1, 2), keepdims=True) / patches.sum((1, 2), keepdims=True)
        occluded = patches * colors + (1 - patches) * pixels[None]
        activation = self._activation(variables, occluded)
        return [self._log_odds(heads, activation) for heads in groups]

    def _activation(self, variables: Any, pixels: jax.Array) -> jax.Array:
        network = self._network
        stages: Any = network.backbone.module.apply(variables, network.preprocessing(pixels), last=network.stage)
        activation: jax.Array = stages[network.stage]
        return activation

    def _logits(self, heads: Any, features: jax.Array) -> jax.Array:
        """Returns the logits (H, B, C) of features (B, D)."""
        return jax.lax.map(lambda params: self._head.apply({"params": params}, features), heads)

    def _log_odds(self, heads: Any, activation: jax.Array) -> jax.Array:
        """Returns the mean over heads of the log-odds of each class, (B, C)."""
        logits = self._logits(heads, POOLINGS[self._network.pool](activation))
        same = jnp.eye(logits.shape[-1], dtype=bool)[None, None]
        others = jax.nn.logsumexp(jnp.where(same, -jnp.inf, logits[..., None, :]), axis=-1)
        return (logits - others).mean(0)


def _over_patches(values: np.ndarray) -> np.ndarray:
    """Returns the sum of values (GRID - 1, GRID - 1, C) of the patches that cover each block, (GRID, GRID, C)."""
    return np.asarray(convolve(values, np.ones((2, 2, 1), values.dtype), method="direct"))
