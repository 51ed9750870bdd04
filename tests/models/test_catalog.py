import json
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alljax.errors import ConfigError
from alljax.models import backbones


def pixels() -> np.ndarray:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 0, 1] = (255, 128, 0)
    return images


# By hand: a black pixel and the pixel (255, 128, 0), after each preprocessing.
EXPECTED = {
    "torch": (
        (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
        ((1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225),
    ),
    "caffe": ((-103.939, -116.779, -123.68), (-103.939, 128 - 116.779, 255 - 123.68)),
    "rescale": ((0, 0, 0), (1, 128 / 255, 0)),
    "lite": ((-127 / 128,) * 3, (1, 1 / 128, -127 / 128)),
}


@pytest.mark.parametrize("name", backbones.PREPROCESSINGS)
def test_preprocessing(name: str) -> None:
    preprocessing = backbones.preprocessing(name)
    assert preprocessing.image_size == 224
    for images in (pixels(), jnp.asarray(pixels())):
        ours = jax.jit(preprocessing)(images)
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours[0, 0, 0], EXPECTED[name][0], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(ours[0, 0, 1], EXPECTED[name][1], rtol=1e-6, atol=1e-6)
    json.dumps(asdict(preprocessing))


def test_weights_may_differ_from_a_named_preprocessing() -> None:
    ours = backbones.preprocessing({"name": "torch", "interpolation": "bicubic", "std": [0.5, 0.5, 1]})
    assert ours.interpolation == "bicubic"
    assert ours.std == (0.5, 0.5, 1.0)
    assert ours.mean == backbones.preprocessing("torch").mean


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("torsh", "unknown preprocessing 'torsh': did you mean 'torch'?"),
        ("", "known are torch, caffe, rescale, lite"),
        ({"mean": [0, 0, 0]}, "unknown preprocessing 'None'"),
        ({"name": "torch", "interpolatoin": "box"}, "did you mean 'interpolation'?"),
        ({"name": "torch", "interpolation": "cubic"}, "interpolation is 'cubic', but should be one of nearest"),
        ({"name": "torch", "image_size": 0}, "image_size is 0, but should be pixels"),
        ({"name": "torch", "std": [0.5, 0.5]}, "should be three numbers"),
        ({"name": "torch", "std": [0.5, 0.5, 0]}, "should be three numbers above 0"),
        ({"name": "torch", "mean": "abc"}, "should be three numbers"),
        ({"name": "torch", "channels": "gbr"}, "should be rgb or bgr"),
        ({"name": "torch", "scale": True}, "should be a number above 0"),
        ({"name": "torch", "antialias": 1}, "antialias is 1, but should be true or false"),
    ],
)
def test_preprocessing_that_cannot_be(description: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        backbones.preprocessing(description)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg-16", "unknown backbone 'vgg-16': did you mean 'vgg16'?"),
        ("resnet50keras", "did you mean 'resnet50_keras'?"),
        ("transformer", "known are vgg16, resnet50, resnet50_keras, efficientnet_lite0"),
    ],
)
def test_unknown_backbone(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        backbones.get(name)
    assert message in str(caught.value)


def test_every_family_has_a_preprocessing() -> None:
    for name, backbone in backbones.BACKBONES.items():
        assert backbones.get(name) is backbone
        assert backbone.name == name
        for preprocessing in backbone.families.values():
            assert backbones.preprocessing(preprocessing).name == preprocessing
