"""What alljax and its peers compute: sizes, seeded weights, generated pixels, features and files.  Needs NumPy only."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS))
from parity import seeded_weights  # noqa: E402

BACKBONES = {
    "vgg16": "vgg16_torchvision",
    "resnet18": "resnet18_torchvision",
    "resnet50": "resnet50_torchvision",
    "resnet101": "resnet101_torchvision",
    "mobilenet_v2": "mobilenet_v2_torchvision",
    "efficientnet_lite0": "efficientnet_lite0",
}
"""Backbone → the golden file with the names and shapes of its weights."""
WIDTHS = {"vgg16": 512, "resnet50": 2048}
OPTIMIZERS = ("adam", "rmsprop")
BATCH, HIDDEN, RATE, DECAY_STEPS, DECAY = 32, 512, 1e-4, 900, 0.95
"""The paper's head and its training."""


@dataclass(frozen=True)
class Sizes:
    """How much is computed; the defaults are those of the paper, and `QUICK` only shows that everything runs."""

    image_size: int = 224
    images: int = 32  # in a slice
    batch: int = 8  # of images in backbones
    cells: int = 10_661
    training_cells: int = 8_528
    epochs: int = 2  # of a head in a slice
    files: int = 480
    side: int = 450  # of the image in a file


QUICK = Sizes(image_size=32, images=16, cells=96, training_cells=64, epochs=1, files=32, side=90)


def weights(backbone: str) -> dict[str, np.ndarray]:
    """Returns the weights of a backbone by the names of PyTorch, in the order of torchvision's and timm's networks."""
    with np.load(TESTS / "parity" / f"{BACKBONES[backbone]}.npz") as golden:
        shapes = seeded_weights.unpack(golden["tensors"])
    classifier = ("classifier", "fc", "_fc")
    return seeded_weights.weights({name: shape for name, shape in shapes.items() if not name.startswith(classifier)})


def pixels(count: int, size: int) -> np.ndarray:
    """Returns uint8 noise (count, size, size, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def labels(count: int) -> np.ndarray:
    """Returns int32 (count,) of two classes."""
    return np.arange(count, dtype=np.int32) % 2


def features(count: int, width: int) -> np.ndarray:
    """Returns float32 (count, width): noise about the mean of the class, at least 0."""
    means = np.random.default_rng(1).standard_normal((2, width), np.float32) * np.float32(1.2 / np.sqrt(width))
    return np.maximum(np.random.default_rng(2).standard_normal((count, width), np.float32) + means[labels(count)], 0)


def split(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows for training and for test."""
    order = np.random.default_rng(0).permutation(sizes.cells)
    return np.sort(order[: sizes.training_cells]), np.sort(order[sizes.training_cells :])


def steps(sizes: Sizes) -> int:
    """Returns the optimizer steps per epoch of a head: 267 in the paper."""
    return -(-sizes.training_cells // BATCH)
