"""Inverted residual blocks (Sandler et al. 2018, arXiv 1801.04381) that XLA runs on a CPU as fast as ONNX Runtime.

Activations are (C, S, S, N), the images last: as a matrix (C, S·S·N), 1×1 convolutions are matrix products at the peak
of a core, and the weights of a depthwise convolution stay in registers along one contiguous row per channel (50 GFLOP/s
per core, against 25 with channels last and 1 with `lax.conv_general_dilated`).  XLA's CPU back end shapes the code:

- within a fused loop all arrays have one shape: a reshape inside takes 3–10 times as long, hence the barriers;
- temporaries of a program stay below 32 MB, above which every call gets fresh pages from the operating system (6 times
  as long): few images are computed at once (`alljax.models.backbones.StagedNetwork.images_at_once`);
- `lax.map` hoists constant buffers out of the loop and copies them at every step: zeros are derived from the data.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Layer = tuple[jax.Array, jax.Array]
"""Kernel (K, k·k·C), or (C, k·k) if depthwise, and bias (K,) of a convolution; batch normalization is folded."""


def fold(params: Mapping[str, Any], statistics: Mapping[str, Any], eps: float) -> Any:
    """Returns the tree of modules with a `Layer` in the place of each pair of ``conv`` and ``norm``, in NumPy."""
    if "conv" not in params:
        return {name: fold(params[name], statistics[name], eps) for name in params}
    kernel, norm, running = params["conv"]["kernel"], params["norm"], statistics["norm"]
    factor = norm["scale"] / (running["var"] + eps) ** 0.5
    return kernel.reshape(-1, kernel.shape[-1]).T * factor[:, None], norm["bias"] - running["mean"] * factor


def relu6(x: jax.Array) -> jax.Array:
    """Clips to [0, 6]; the whole network takes a tenth longer with `jax.nn.relu6`, a minimum of a maximum."""
    return jnp.clip(x, 0, 6)


def convolve(images: jax.Array, layer: Layer, stride: int, before: int) -> jax.Array:
    """Convolution of few channels and ReLU6: maps (N, S, S, C) to (K, s, s, N); `before` as in `depthwise`."""
    count, size, _, channels = images.shape
    kernel_size, side = math.isqrt(layer[0].shape[1] // channels), -(-size // stride)
    cells = side + (kernel_size - 1) // stride  # the padded image consists of cells of stride × stride pixels
    padding = (before, cells * stride - size - before)
    x = lax.optimization_barrier(jnp.pad(channels_first(images), ((0, 0), padding, padding, (0, 0))))
    x = x.reshape(channels, cells, stride, cells, stride, count)
    planes = lax.optimization_barrier(jnp.stack([x[:, :, i, :, j] for i in range(stride) for j in range(stride)]))
    taps = []
    for tap in range(kernel_size**2):
        (down, row), (right, column) = (divmod(offset, stride) for offset in divmod(tap, kernel_size))
        taps.append(planes[row * stride + column, :, down : down + side, right : right + side])
    patches = lax.optimization_barrier(jnp.concatenate(taps)).reshape(layer[0].shape[1], -1)
    return lax.optimization_barrier(relu6(pointwise(patches, layer))).reshape(-1, side, side, count)


def pointwise(x: jax.Array, layer: Layer) -> jax.Array:
    """1×1 convolution: maps (C, P) to (K, P)."""
    return lax.optimization_barrier(layer[0] @ x) + layer[1][:, None]


def split_parity(x: jax.Array) -> jax.Array:
    """Maps (C, S, S, N) to (C, 4·s·s·N): even rows' even columns, their odd ones, odd rows' even ones, and the rest."""
    channels, size, _, images = x.shape
    half, odd = -(-size // 2), size % 2
    x = jnp.pad(x, ((0, 0), (0, odd), (0, odd), (0, 0))).reshape(channels, half, 2, half, 2, images)
    planes = jnp.stack([x[:, :, row, :, column] for row in (0, 1) for column in (0, 1)], 1)
    return lax.optimization_barrier(planes).reshape(channels, -1)


def depthwise(x: jax.Array, layer: Layer, size: int, stride: int, before: int) -> jax.Array:
    """Depthwise convolution and ReLU6: maps (C, S·S·N), or its `split_parity` if the stride is 2, to (C, s·s·N).

    Above and left of the images of this size are `before` rows and columns of zeros, below and right as many as ⌈size /
    stride⌉ outputs need.
    """
    (kernel, bias), side = layer, -(-size // stride)
    kernel_size, first = math.isqrt(kernel.shape[1]), np.arange(side) * stride
    images = x.shape[1] // (stride * side) ** 2
    length = side * side * images
    groups: dict[bytes, list[tuple[int, int]]] = {}  # mask of outputs → (start in x, index in the kernel) of each tap
    for tap in range(kernel_size**2):
        row, column = (offset - before for offset in divmod(tap, kernel_size))
        plane = row % stride * stride + column % stride
        start = plane * length + (row // stride * side + column // stride) * images
        # Which output rows and columns have an input; for a stride of 1, rows of zeros are added.
        rows, columns = ((first + offset >= 0) & (first + offset < size) for offset in (row, column))
        groups.setdefault(np.outer(rows | (stride == 1), columns).tobytes(), []).append((start, tap))
    starts = [start for taps in groups.values() for start, _ in taps]
    front, back = max(0, -min(starts)), max(0, max(starts) + length - x.shape[1])
    if front or back:
        zeros = jnp.broadcast_to(x[0, 0] * 0, (len(x), front + x.shape[1] + back))
        x = lax.dynamic_update_slice(lax.optimization_barrier(zeros), x, (0, front))
    x, total = lax.optimization_barrier(x), bias[:, None]
    for mask, taps in groups.items():
        part = sum(x[:, front + start : front + start + length] * kernel[:, tap, None] for start, tap in taps)
        weights = np.repeat(np.frombuffer(mask, bool), images).astype(np.float32)[None]
        total += part if weights.all() else part * weights
    return lax.optimization_barrier(relu6(total))


def inverted_residual(x: jax.Array, block: Mapping[str, Layer], stride: int, before: int) -> jax.Array:
    """Maps (C, S, S, N) to (K, s, s, N); `before` as in `depthwise`.

    A block has ``expand`` (1×1 with ReLU6; optional), ``depthwise`` (with ReLU6) and ``project`` (1×1, linear); the
    input is added where the shapes agree.
    """
    channels, size, _, images = x.shape
    inner = split_parity(x) if stride == 2 else x.reshape(channels, -1)
    if "expand" in block:
        inner = relu6(pointwise(inner, block["expand"]))
    outputs = pointwise(depthwise(inner, block["depthwise"], size, stride, before), block["project"])
    if stride == 1 and len(outputs) == channels:
        outputs += x.reshape(channels, -1)
    side = -(-size // stride)
    return lax.optimization_barrier(outputs).reshape(-1, side, side, images)


def channels_first(images: jax.Array) -> jax.Array:
    """Maps (N, S, S, C) to (C, S, S, N)."""
    return lax.optimization_barrier(images.transpose(3, 1, 2, 0))
