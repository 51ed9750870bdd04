"""Convolutions with their padding written out, in the form each kind of device runs fastest.

Flax's ``padding="SAME"`` pads a stride of 2 unevenly, as TensorFlow does, and
is wrong for VGG and ResNet weights; so here every padding is a pair of numbers
per side.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Padding = tuple[tuple[int, int], tuple[int, int]]
"""((above, below), (left, right)) in pixels."""

UNPADDED: Padding = ((0, 0), (0, 0))


def symmetric_padding(pixels: int) -> Padding:
    """Returns the same padding on all four sides, as PyTorch and Keras's ZeroPadding2D do."""
    return ((pixels, pixels), (pixels, pixels))


def tensorflow_same_padding(size: tuple[int, int], kernel_size: int, stride: int) -> Padding:
    """Returns what TensorFlow's ``"SAME"`` pads for an image of this size.

    The output has ⌈size / stride⌉ pixels a side; an odd pixel of padding goes
    below and to the right (https://www.tensorflow.org/api_docs/python/tf/nn,
    "Notes on padding").

    Args:
        size: height and width of the input.
        kernel_size: side of the square kernel.
        stride: step in both directions.
    """

    def one_side(length: int) -> tuple[int, int]:
        total = max((-(-length // stride) - 1) * stride + kernel_size - length, 0)
        return total // 2, total - total // 2

    return one_side(size[0]), one_side(size[1])


def library_convolution(
    images: jax.Array, kernel: jax.Array, stride: int, padding: Padding, groups: int = 1
) -> jax.Array:
    """Convolves with XLA's own convolution.

    Args:
        images: (B, H, W, C).
        kernel: (k, k, C / groups, features).
        stride: step in both directions.
        padding: pixels of zeros per side.
        groups: number of channel groups; C for a depthwise convolution.

    Returns:
        (B, h, w, features).
    """
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def shifted_sum(images: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolves depthwise as k² shifted multiply-adds, which XLA fuses into one pass over the image.

    XLA's CPU back end runs a grouped convolution channel by channel in a naive
    loop; this form is vectorised over the channels.

    Args:
        images: (B, H, W, C).
        kernel: (k, k, 1, C).
        stride: step in both directions.
        padding: pixels of zeros per side.

    Returns:
        (B, h, w, C), equal to `library_convolution` with C groups up to rounding.
    """
    side = kernel.shape[0]
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    height = (padded.shape[1] - side) // stride + 1
    width = (padded.shape[2] - side) // stride + 1
    total = jnp.zeros((images.shape[0], height, width, images.shape[3]), images.dtype)
    for row in range(side):
        for column in range(side):
            window = padded[
                :,
                row : row + (height - 1) * stride + 1 : stride,
                column : column + (width - 1) * stride + 1 : stride,
            ]
            total += window * kernel[row, column].reshape(1, 1, 1, -1)
    return total


def matrix_product(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolves with a 1×1 kernel as one matrix product over all pixels.

    Args:
        images: (B, H, W, C).
        kernel: (1, 1, C, features).
        stride: step in both directions.

    Returns:
        (B, ⌈H / stride⌉, ⌈W / stride⌉, features).
    """
    return jnp.einsum("bhwc,cd->bhwd", images[:, ::stride, ::stride], kernel[0, 0])


class Convolution(nn.Module):
    """A square convolution with explicit padding; ordinary or depthwise.

    The parameters are the same on every device: ``kernel`` (k, k, inputs,
    features), or (k, k, 1, inputs) depthwise, and ``bias`` (features,) where
    there is one.  Which form computes it is chosen when the program is lowered
    for its platform: on a CPU 1×1 convolutions become matrix products and
    depthwise ones shifted multiply-adds, elsewhere XLA's own convolution is best.

    Attributes:
        features: number of output channels; for a depthwise one, of the input.
        kernel_size: side of the square kernel.
        stride: step in both directions.
        padding: zeros per side, ((above, below), (left, right)).
        kind: ``"full"`` or ``"depthwise"``.
        use_bias: whether a bias is added.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: Padding = UNPADDED
    kind: Literal["full", "depthwise"] = "full"
    use_bias: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Convolves images (B, H, W, C) to (B, h, w, features), in the images' type: float32 or bfloat16."""
        depthwise = self.kind == "depthwise"
        inputs = images.shape[-1]
        shape = (self.kernel_size, self.kernel_size, 1 if depthwise else inputs, self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32).astype(images.dtype)

        def library(images: jax.Array, kernel: jax.Array) -> jax.Array:
            return library_convolution(images, kernel, self.stride, self.padding, inputs if depthwise else 1)

        def on_cpu(images: jax.Array, kernel: jax.Array) -> jax.Array:
            if depthwise:
                return shifted_sum(images, kernel, self.stride, self.padding)
            return matrix_product(images, kernel, self.stride)

        if depthwise or (self.kernel_size == 1 and self.padding == UNPADDED):
            outputs: jax.Array = lax.platform_dependent(images, kernel, cpu=on_cpu, default=library)
        else:
            outputs = library(images, kernel)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            outputs += bias.reshape(1, 1, 1, -1).astype(images.dtype)
        return outputs
