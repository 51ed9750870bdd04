"""Batch normalization that is exact for padded batches, on any number of devices."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


@dataclass(frozen=True)
class Batch:
    """Which layers normalize by the batch, and which of its images count.

    Attributes:
        layers: "/"-joined paths of the layers from the backbone's root, such as ``stage4/block1/norm2``.
        mask: bool (B,), False where an image is padding and counts for nothing.
        axis: the mapped axis over which the batch is spread, under `jax.pmap`; None under `jax.jit`,
            where the array itself is the global batch.
        momentum: share of the stored statistics that a step keeps; 0 for each layer's own.
    """

    layers: frozenset[str]
    mask: jax.Array
    axis: str | None = None
    momentum: float = 0.0


class BatchNormalization(nn.Module):
    """(x − mean) / √(var + ε) · scale + bias, per channel (Ioffe & Szegedy 2015, arXiv 1502.03167).

    `flax.linen.BatchNorm` with the same names and the same arithmetic, but its statistics over
    several devices are means of means, wrong where padding leaves the devices unequal shares; here
    sums and counts are added up.  The stored variance is the biased one, as in Keras (PyTorch
    stores the unbiased one).

    Attributes:
        momentum: share of the stored statistics that a step keeps, unless the batch says otherwise.
        epsilon: ε.
    """

    momentum: float
    epsilon: float

    @nn.compact
    def __call__(self, images: jax.Array, batch: Batch | None) -> jax.Array:
        """Normalizes images (B, H, W, C), in float32 whatever their type.

        Args:
            images: float32 or bfloat16.
            batch: where it names this layer, normalize by these images' statistics and move the stored
                ones towards them (``mutable=["batch_stats"]``); else by the stored ones, which stay.
        """
        width = (images.shape[-1],)
        scale = self.param("scale", nn.initializers.ones_init(), width, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), width, jnp.float32)
        stored_mean = self.variable("batch_stats", "mean", jnp.zeros, width, jnp.float32)
        stored_variance = self.variable("batch_stats", "var", jnp.ones, width, jnp.float32)
        pixels = images.astype(jnp.float32)
        mean, variance = stored_mean.value, stored_variance.value
        if batch is not None and "/".join(self.path) in batch.layers:
            mean, variance = statistics(pixels, batch)
            keep = batch.momentum or self.momentum
            stored_mean.value = keep * stored_mean.value + (1 - keep) * mean
            stored_variance.value = keep * stored_variance.value + (1 - keep) * variance
        shape = (1, 1, 1, -1)
        factor = lax.rsqrt(variance + self.epsilon) * scale
        normalized = (pixels - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)
        return normalized.astype(images.dtype)


def statistics(images: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Returns mean and biased variance (C,) over the pixels of the images that count.

    Args:
        images: float32 (B, H, W, C).
        batch: which of them count.
    """
    weight = batch.mask.astype(jnp.float32).reshape(-1, 1, 1, 1)

    def over_devices(value: jax.Array) -> jax.Array:
        return value if batch.axis is None else lax.psum(value, batch.axis)

    count = over_devices(weight.sum()) * images.shape[1] * images.shape[2]
    mean = over_devices((images * weight).sum((0, 1, 2))) / count
    deviations = (images - mean.reshape(1, 1, 1, -1)) * weight
    return mean, over_devices((deviations**2).sum((0, 1, 2))) / count
