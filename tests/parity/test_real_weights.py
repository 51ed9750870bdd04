"""Real ImageNet weights, where available, give the known results."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import seeded_weights
from PIL import Image

from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import Preprocessing, get_preprocessing
from alljax.weights import conversion, formats, store

HERE = Path(__file__).parent
CATS = range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian


def classify(backbone: str, variables: Any, preprocessing: Preprocessing) -> int:
    """Returns the predicted ImageNet class of scikit-image's photograph of a cat."""
    data = pytest.importorskip("skimage.data", reason="scikit-image, which contains the photograph, is not installed")
    photograph = Image.fromarray(data.chelsea()).crop((75, 0, 375, 300))
    size = (preprocessing.image_size, preprocessing.image_size)
    pixels = np.asarray(photograph.resize(size, Image.Resampling[preprocessing.interpolation.upper()]))
    images = preprocessing(jnp.asarray(pixels)[None])
    return int(jnp.argmax(get_backbone(backbone).module.apply(variables, images, method="logits")))


def test_efficientnet_lite0_classifies_a_cat() -> None:
    path = store.find("", "", "efficientnet_lite0").path
    converted = conversion.convert(formats.read_weights(path), "efficientnet_lite0", classifier=True)
    preprocessing = get_preprocessing(get_backbone("efficientnet_lite0").layouts[converted.layout].preprocessing)
    assert sum(leaf.size for leaf in jax.tree.leaves(converted.variables["params"])) == 4_652_008
    assert classify("efficientnet_lite0", converted.variables, preprocessing) in CATS


@pytest.mark.real
def test_vgg16_real_activations(vgg16_weights: Path) -> None:
    converted = conversion.convert(formats.read_weights(vgg16_weights), "vgg16")
    ours = get_backbone("vgg16").module.apply(converted.variables, seeded_weights.image(96, 64))
    with np.load(HERE / "vgg16_real.npz") as expected:
        for stage, activation in ours.items():
            theirs = expected[f"stage/{stage}"]
            some = np.asarray(activation).ravel()[:: max(activation.size // 300, 1)]
            assert np.abs(some - theirs).max() < 1e-4 * np.abs(theirs).max(), stage


@pytest.mark.real
def test_resnet50_real_weights() -> None:
    if not (path := os.environ.get("ALLJAX_RESNET50_PTH")):
        pytest.skip(
            "real ResNet50 weights were not checked: set ALLJAX_RESNET50_PTH to torchvision's resnet50-0676ba61.pth"
        )
    converted = conversion.convert(formats.read_weights(path), "resnet50", classifier=True)
    assert classify("resnet50", converted.variables, get_preprocessing("torch")) in CATS
