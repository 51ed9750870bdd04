"""Which parts of an image a network uses: Grad-CAM and occlusion, with trained and with random parameters."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.signal import convolve

from alljax import interrupts
from alljax.models.head import POOLINGS, make_head
from alljax.training.network import Network

GRID = 8  # blocks per side of an occlusion map; a patch covers 2 × 2 of them, so an image takes 49 passes


class Attribution(NamedTuple):
    """Maps of one image for C classes, float32, positive where something supports a class."""

    grad_cam: np.ndarray  # (C, h, w), the grid of the stage whose activations are the features
    occlusion: np.ndarray  # (C, GRID, GRID)


def occlusion_map(decreases: np.ndarray) -> np.ndarray:
    """Returns the mean (C, GRID, GRID) over the patches of each block of the decreases (GRID - 1, GRID - 1, C)."""
    patch = np.ones((2, 2, 1), np.float32)
    total, count = (convolve(values, patch, method="direct") for values in (decreases, np.ones_like(decreases)))
    return np.asarray((total / count).transpose(2, 0, 1))


class Explainer:
    """Explains the mean over heads of the log-odds of a class, log(p / (1 - p)); parameters are arguments."""

    def __init__(self, network: Network, config: ConfigDict, num_classes: int) -> None:
        self._network, self._head = network, make_head(config, num_classes, network.sequence)

    def attribute(self, variables: Any, heads: Any, image: np.ndarray) -> Attribution:
        """Explains one image, uint8 (S, S, 3), for stacked heads on a backbone.

        Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) is the sum of the activations, each channel weighted by the
        mean gradient of the log-odds, without the final ReLU. Occlusion (Zeiler & Fergus 2014, arXiv 1311.2901) is the
        decrease of the log-odds when a patch has its mean color everywhere: of a block, the mean over its patches.
        """
        arguments = variables, heads, image
        log_odds, grad_cam = jax.device_get(self._grad_cam(*arguments))
        occluded = []
        for top in range(GRID - 1):
            occluded.append(jax.device_get(self._occlude_row(*arguments, top)))
            interrupts.check()
        return Attribution(grad_cam, occlusion_map(log_odds - np.stack(occluded)))

    @partial(jax.jit, static_argnums=0)
    def random_parameters(self, keys: jax.Array) -> tuple[Any, Any]:
        """Returns a backbone and heads, one per key (H,), before any training; running statistics are 0 and 1."""
        network, head = self._network, self._head
        size, features = network.preprocessing.image_size, jnp.zeros((1, network.feature_count))
        images = jnp.zeros((1, size, size, 3))
        initial = network.backbone.module.init(keys[0], images, last=network.stage)
        variables = {"params": initial["params"], "batch_stats": initial.get("batch_stats", {})}
        return variables, jax.vmap(lambda key: head.init(key, features)["params"])(keys)

    @partial(jax.jit, static_argnums=0)
    def _grad_cam(self, variables: Any, heads: Any, image: Any) -> tuple[jax.Array, jax.Array]:
        """Returns the log-odds (C,) and Grad-CAM (C, h, w)."""
        activation = self._activation(variables, image[None])
        gradients = jax.jacrev(lambda single: self._log_odds(heads, single[None])[0])(activation[0])
        grad_cam = jnp.einsum("hwd,cd->chw", activation[0], gradients.mean((1, 2)))
        return self._log_odds(heads, activation)[0], grad_cam

    @partial(jax.jit, static_argnums=0)
    def _occlude_row(self, variables: Any, heads: Any, image: Any, top: Any) -> jax.Array:
        """Returns the log-odds (GRID - 1, C) with each patch of a row of patches occluded."""
        pixels = image.astype(jnp.float32)
        block, left = jnp.arange(len(pixels)) * GRID // len(pixels), jnp.arange(GRID - 1)[:, None]
        rows, columns = ((block[None] == first) | (block[None] == first + 1) for first in (top, left))
        patches = (rows[:, :, None, None] & columns[:, None, :, None]).astype(jnp.float32)
        colors = (patches * pixels[None]).sum((1, 2), keepdims=True) / patches.sum((1, 2), keepdims=True)
        occluded = patches * colors + (1 - patches) * pixels[None]
        return self._log_odds(heads, self._activation(variables, occluded))

    def _activation(self, variables: Any, pixels: jax.Array) -> jax.Array:
        network = self._network
        stages: Any = network.backbone.module.apply(variables, network.preprocessing(pixels), last=network.stage)
        return stages[network.stage]

    def _log_odds(self, heads: Any, activation: jax.Array) -> jax.Array:
        """Returns the mean over heads of the log-odds of each class, (B, C)."""
        features = POOLINGS[self._network.pool](activation)
        logits: Any = jax.lax.map(lambda params: self._head.apply({"params": params}, features), heads)
        same = jnp.eye(logits.shape[-1], dtype=bool)[None, None]
        others = jax.nn.logsumexp(jnp.where(same, -jnp.inf, logits[..., None, :]), axis=-1)
        return (logits - others).mean(0)
