"""Layers of the backbones: convolution with explicit padding, batch normalization for padded batches, stages of blocks.

Flax's ``padding="SAME"`` pads unevenly for a stride of 2, as TensorFlow does: wrong for VGG and ResNet weights.
"""

import contextvars
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from alljax.models import fast_cpu

PREPARED = "prepared"
"""Flax collection of what is computed once from variables that do not change, see `StagedNetwork.prepare`."""

PORTABLE = contextvars.ContextVar("PORTABLE", default=False)
"""Whether networks are traced for files that other programs run: without the implementations for CPUs."""

Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right)) in pixels


@dataclass(frozen=True)
class Variant:
    """How a library computes: weights of one run in another without an error and give meaningless features."""

    momentum: float  # of the running statistics: weight of the old ones in an update
    eps: float  # of batch normalization
    use_bias: bool = False  # in convolutions before batch normalization
    same: bool = False  # TensorFlow's "SAME" padding, whose odd pixel is at the end, not half of the kernel

    def padding(self, length: int, kernel_size: int, stride: int) -> tuple[int, int]:
        """Returns the zeros before and after an axis."""
        needed = max((-(-length // stride) - 1) * stride + kernel_size - length, 0)
        total = needed if self.same else kernel_size // 2 * 2
        return total // 2, total - total // 2


PYTORCH = Variant(0.9, 1e-5)
KERAS = Variant(0.99, 1.001e-5, use_bias=True)
TENSORFLOW = Variant(0.99, 1e-3, same=True)


def by_platform(*operands: jax.Array, cpu: Callable[..., jax.Array], default: Callable[..., jax.Array]) -> jax.Array:
    """Computes `cpu` of the operands on a CPU, otherwise, or if `PORTABLE`, `default`."""
    if PORTABLE.get():
        return default(*operands)
    result: jax.Array = lax.platform_dependent(*operands, cpu=cpu, default=default)
    return result


def shifted_sum(images: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Depthwise convolution of (B, H, W, C) with (k, k, 1, C), as k² multiply-adds that XLA vectorizes on CPUs."""
    size = kernel.shape[0]
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    height = (padded.shape[1] - size) // stride + 1
    width = (padded.shape[2] - size) // stride + 1
    total = jnp.zeros((images.shape[0], height, width, images.shape[3]), images.dtype)
    for row in range(size):
        for column in range(size):
            bottom, right = row + (height - 1) * stride + 1, column + (width - 1) * stride + 1
            window = padded[:, row:bottom:stride, column:right:stride]
            total += window * kernel[row, column].reshape(1, 1, 1, -1)
    return total


class Conv(nn.Module):
    """A convolution with explicit padding.

    On a CPU 3×3 are Winograd's, 1×1 matrix products, and depthwise ones sums of shifted products.
    The parameters are ``kernel`` (k, k, inputs, features), or (k, k, 1, inputs) if depthwise, and ``bias`` (features,).
    """

    features: int  # equal to the number of input channels if depthwise
    kernel_size: int
    stride: int = 1
    padding: Padding | None = None  # zeros added on each side; None: half of the kernel, as in PyTorch
    depthwise: bool = False
    use_bias: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, h, w, features), both float32 or both bfloat16."""
        inputs, half = images.shape[-1], self.kernel_size // 2
        padding = self.padding or ((half, half), (half, half))
        shape = (self.kernel_size, self.kernel_size, 1 if self.depthwise else inputs, self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32).astype(images.dtype)

        strides, groups, axes = (self.stride, self.stride), inputs if self.depthwise else 1, ("NHWC", "HWIO", "NHWC")
        # Winograd's convolution is faster with at least 64 channels.
        dense = (self.kernel_size, self.stride, padding) == (3, 1, ((1, 1), (1, 1))) and not self.depthwise
        winograd = dense and inputs >= 64 and images.dtype == jnp.float32
        product = self.kernel_size == 1 and padding == ((0, 0), (0, 0))

        def library(images: jax.Array, kernel: jax.Array) -> jax.Array:
            return lax.conv_general_dilated(
                images, kernel, strides, padding, dimension_numbers=axes, feature_group_count=groups
            )

        def on_cpu(images: jax.Array, kernel: jax.Array) -> jax.Array:
            if self.depthwise:
                return shifted_sum(images, kernel, self.stride, padding)
            if product:
                return jnp.einsum("bhwc,cd->bhwd", images[:, :: self.stride, :: self.stride], kernel[0, 0])
            return (fast_cpu.convolve if fast_cpu.pays(images.shape, self.features) else library)(images, kernel)

        if winograd and self.is_mutable_collection(PREPARED) and not self.is_initializing():
            self.put_variable(PREPARED, "kernel", fast_cpu.transform_kernel(kernel))
        if self.has_variable(PREPARED, "kernel"):
            outputs: jax.Array = fast_cpu.winograd(images, self.get_variable(PREPARED, "kernel"))
        elif self.depthwise or product or winograd:
            outputs = by_platform(images, kernel, cpu=on_cpu, default=library)
        else:
            outputs = library(images, kernel)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            outputs += bias.reshape(1, 1, 1, -1).astype(images.dtype)
        return outputs


def max_pool(images: jax.Array, size: int, stride: int, padding: int) -> jax.Array:
    """Maximum of each window of (B, H, W, C), padded with −∞; on a CPU of strided slices, which XLA vectorizes."""

    def library(images: jax.Array) -> jax.Array:
        # XLA joins both; jax2onnx 0.13 knows keywords only, and ignores other values of `padding`.
        widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        images = jnp.pad(images, widths, constant_values=-jnp.inf) if padding else images
        pooled: jax.Array = nn.max_pool(images, window_shape=(size, size), strides=(stride, stride), padding="VALID")
        return pooled

    def on_cpu(images: jax.Array) -> jax.Array:
        for axis in (1, 2):
            widths = [(padding * (axis == other),) * 2 for other in range(4)]
            padded = jnp.pad(images, widths, constant_values=-jnp.inf)
            last = (padded.shape[axis] - size) // stride * stride
            slices = [lax.slice_in_dim(padded, first, first + last + 1, stride, axis) for first in range(size)]
            images = lax.optimization_barrier(functools.reduce(jnp.maximum, slices))
        return images

    return by_platform(images, cpu=on_cpu, default=library)


@dataclass(frozen=True)
class BatchNormContext:
    """Which layers use batch statistics, and which images of the batch count."""

    layers: frozenset[str]  # paths of these layers from the root of the backbone, such as ``stage4/block1/norm2``
    mask: jax.Array  # bool (B,), False where an image is padding
    axis: str | tuple[()] = ()  # mapped axis of the batch under `jax.pmap`; none where the array is the global batch
    momentum: float = 0.0  # of the running statistics; 0 for the default of each layer


def pixel_sum(pixels: jax.Array) -> jax.Array:
    """Sums (B, H, W, C) to (C,); on a CPU a matrix product, since XLA reduces rows there with scalar instructions."""

    def on_cpu(pixels: jax.Array) -> jax.Array:
        rows = pixels.reshape(-1, pixels.shape[-1])
        return (jnp.ones((1, len(rows)), pixels.dtype) @ rows)[0]

    total: jax.Array = by_platform(pixels, cpu=on_cpu, default=lambda pixels: pixels.sum((0, 1, 2)))
    return total


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def at_pixels(vector: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Repeats (C,) at each pixel, (B, H, W, C); its gradient is `pixel_sum`."""
    return jnp.broadcast_to(vector.reshape(1, 1, 1, -1), shape)


at_pixels.defvjp(
    lambda vector, shape: (at_pixels(vector, shape), None), lambda shape, _, gradient: (pixel_sum(gradient),)
)

Axis = str | tuple[()]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def normalize(
    pixels: jax.Array, weight: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, axis: Axis
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes (B, H, W, C) by the statistics of the images of weight 1, not 0, (B, 1, 1, 1), over all devices.

    Returns the mean and the biased variance, (C,), too; they have no gradient.
    """
    outputs, _ = _normalize_forward(pixels, weight, scale, bias, eps, axis)
    return outputs


def _normalize_forward(
    pixels: jax.Array, weight: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, axis: Axis
) -> tuple[Any, Any]:
    shape = pixels.shape
    count = lax.psum(weight.sum(), axis) * shape[1] * shape[2]
    mean = lax.psum(pixel_sum(pixels * weight), axis) / count
    variance = lax.psum(pixel_sum(((pixels - mean.reshape(1, 1, 1, -1)) * weight) ** 2), axis) / count
    factor = lax.rsqrt(variance + eps)
    normalized = (pixels - mean.reshape(1, 1, 1, -1)) * (factor * scale).reshape(1, 1, 1, -1)
    normalized += bias.reshape(1, 1, 1, -1)
    return (normalized, mean, variance), (pixels, weight / count, mean, factor, scale)


def _normalize_backward(eps: float, axis: Axis, inputs: Any, gradients: Any) -> tuple[jax.Array, ...]:
    """Ioffe & Szegedy 2015, section 3, with both sums over pixels at once."""
    pixels, share, mean, factor, scale = inputs
    gradient, *_ = gradients
    unit = (pixels - mean.reshape(1, 1, 1, -1)) * factor.reshape(1, 1, 1, -1)
    of_bias, of_scale = pixel_sum(gradient), pixel_sum(gradient * unit)
    first, second = (lax.psum(total, axis).reshape(1, 1, 1, -1) for total in (of_bias, of_scale))
    of_pixels = (gradient - share * (first + unit * second)) * (factor * scale).reshape(1, 1, 1, -1)
    return of_pixels, jnp.zeros_like(share), of_scale, of_bias


normalize.defvjp(_normalize_forward, _normalize_backward)


class BatchNorm(nn.Module):
    """(x − mean) / √(var + ε) · scale + bias, per channel (Ioffe & Szegedy 2015, arXiv 1502.03167).

    `flax.linen.BatchNorm`, whose statistics over several devices are means of means and therefore wrong with padding;
    here sums and counts are added.  The running variance is the biased one, as in Keras (unlike PyTorch).
    """

    variant: Variant  # its momentum is that unless the context has one

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Normalizes (B, H, W, C), in float32; by the statistics of this batch if `context` names this layer."""
        width, shape = (images.shape[-1],), images.shape
        scale = self.param("scale", nn.initializers.ones_init(), width, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), width, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, width, jnp.float32)
        running_variance = self.variable("batch_stats", "var", jnp.ones, width, jnp.float32)
        pixels = images.astype(jnp.float32)
        if context is not None and "/".join(self.path) in context.layers:
            weight = context.mask.astype(jnp.float32).reshape(-1, 1, 1, 1)
            normalized, mean, variance = normalize(pixels, weight, scale, bias, self.variant.eps, context.axis)
            momentum = context.momentum or self.variant.momentum
            running_mean.value = momentum * running_mean.value + (1 - momentum) * mean
            running_variance.value = momentum * running_variance.value + (1 - momentum) * variance
            return normalized.astype(images.dtype)
        mean, factor = running_mean.value, lax.rsqrt(running_variance.value + self.variant.eps) * scale
        if self.is_mutable_collection(PREPARED) and not self.is_initializing():
            self.put_variable(PREPARED, "affine", jnp.stack([factor, bias - mean * factor]))
        if self.has_variable(PREPARED, "affine"):
            affine: jax.Array = self.get_variable(PREPARED, "affine")
            return images * at_pixels(affine[0], shape) + at_pixels(affine[1], shape)
        normalized = (pixels - at_pixels(mean, shape)) * at_pixels(factor, shape) + at_pixels(bias, shape)
        return normalized.astype(images.dtype)


class ConvNorm(nn.Module):
    """Convolution, batch normalization, and what follows, if anything."""

    variant: Variant
    features: int
    kernel_size: int
    stride: int = 1
    activation: Callable[[jax.Array], jax.Array] | None = None
    depthwise: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        height, width = (self.variant.padding(size, self.kernel_size, self.stride) for size in images.shape[1:3])
        settings = self.features, self.kernel_size, self.stride, (height, width), self.depthwise, self.variant.use_bias
        images = BatchNorm(self.variant, name="norm")(Conv(*settings, name="conv")(images), context)
        return self.activation(images) if self.activation else images


class Stage(nn.Module):
    """Blocks of one kind, ``block1``, ``block2``, …, one after the other; only the first one has the stride."""

    blocks: int
    stride: int
    block: Callable[..., nn.Module]  # block(stride=…, name=…)

    @nn.compact
    def __call__(self, images: jax.Array, context: BatchNormContext | None) -> jax.Array:
        """Maps (B, H, W, C) to (B, ⌈H/stride⌉, ⌈W/stride⌉, features)."""
        for number in range(1, self.blocks + 1):
            stride = self.stride if number == 1 else 1
            images = self.block(stride=stride, name=f"block{number}")(images, context)
        return images
