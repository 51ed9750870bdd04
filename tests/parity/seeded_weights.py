"""Weights and images of the parity tests, generated from names and shapes.

Only NumPy is used, so that `make_goldens.py` (with torch and Keras) and the tests (without) generate the same numbers.
Activations are of order one in every layer.
"""

import re
import zlib
from collections.abc import Iterable, Mapping

import numpy as np

SEED = 20240229


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns float32 numbers in [-1, 1) that depend only on the name and the shape."""
    generator = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(name.encode())]))
    numbers = generator.random(shape, dtype=np.float32)
    numbers *= 2
    numbers -= 1
    return numbers


def image(height: int, width: int) -> np.ndarray:
    """Returns a preprocessed image, float32 (1, height, width, 3) in [-2, 2)."""
    return 2 * uniform(f"image {height}x{width}", (1, height, width, 3))


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the tensor of this name in a PyTorch or Keras model."""
    numbers = uniform(name, shape)
    kind = name.replace("/", ".").rpartition(".")[2]
    if kind in ("running_var", "moving_variance"):
        return 1 + numbers / 2
    if kind in ("running_mean", "moving_mean", "bias", "beta"):
        return numbers / 4
    if kind in ("cls_token", "pos_embed", "mask_token"):
        return numbers
    if kind == "gamma" or len(shape) == 1:
        scale = 1 + numbers / 4
        # The last layer of a ResNet's branch: otherwise each of sixteen additions doubles the activations.
        return scale / 4 if re.search(r"bn3\.weight|_3_bn/gamma", name) else scale
    # He initialization; outputs are first in PyTorch and last in Keras.
    fan_in = int(np.prod(shape[:-1] if kind == "kernel" else shape[1:]))
    numbers *= np.float32(np.sqrt(6 / fan_in))
    return numbers


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns all tensors of a model by name."""
    return {name: weight(name, shape) for name, shape in shapes.items()}


def sample(activation: np.ndarray) -> np.ndarray:
    """Returns about 2,000 values; the step is odd, so that they are of all channels."""
    return activation.ravel()[:: activation.size // 2000 | 1]


def pack(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> np.ndarray:
    """Returns names and shapes as an array of text, for a golden file."""
    return np.array([" ".join((name, *map(str, shape))) for name, shape in shapes])


def unpack(lines: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Returns what `pack` packed: name → shape."""
    return {name: tuple(map(int, shape)) for name, *shape in map(str.split, lines.tolist())}
