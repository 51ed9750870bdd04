"""Real ImageNet weights, where available, give the known results."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from parity import seeded_weights
from PIL import Image

from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import Preprocessing, get_preprocessing
from alljax.weights import conversion, store

HERE = Path(__file__).parent
CATS = range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian


def classify(backbone: str, path: str | Path, classifier: str, preprocessing: Preprocessing) -> int:
    """Returns the ImageNet class of scikit-image's photograph of a cat by the dense layer `classifier` of a file."""
    data = pytest.importorskip("skimage.data", reason="scikit-image, which contains the photograph, is not installed")
    photograph = Image.fromarray(data.chelsea()).crop((75, 0, 375, 300))
    size = (preprocessing.image_size, preprocessing.image_size)
    pixels = np.asarray(photograph.resize(size, Image.Resampling[preprocessing.interpolation.upper()]))
    arrays, images = conversion.read_weights(path), preprocessing(jnp.asarray(pixels)[None])
    *_, last = get_backbone(backbone).module.apply(conversion.convert(arrays, backbone).variables, images).values()
    return int(
        np.argmax(np.asarray(last).mean((1, 2)) @ arrays[f"{classifier}.weight"].T + arrays[f"{classifier}.bias"])
    )


def test_efficientnet_lite0_classifies_a_cat() -> None:
    path = store.find("", "", "efficientnet_lite0").path
    assert classify("efficientnet_lite0", path, "_fc", get_preprocessing("lite")) in CATS


@pytest.mark.real
def test_vgg16_real_activations(vgg16_weights: Path) -> None:
    converted = conversion.convert(conversion.read_weights(vgg16_weights), "vgg16")
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
    assert classify("resnet50", path, "fc", get_preprocessing("torch")) in CATS
