"""Preprocessing, head and catalog; tests/parity and tests/contract check the backbones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alljax.errors import ConfigError
from alljax.models import layers, resnet
from alljax.models.backbones import get_backbone
from alljax.models.head import Head
from alljax.models.preprocessing import PREPROCESSINGS, get_preprocessing

# A black pixel and the pixel (255, 128, 0) after each preprocessing, computed by hand.
EXPECTED = {
    "torch": (
        (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
        ((1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225),
    ),
    "caffe": ((-103.939, -116.779, -123.68), (-103.939, 128 - 116.779, 255 - 123.68)),
    "rescale": ((0, 0, 0), (1, 128 / 255, 0)),
    "lite": ((-127 / 128,) * 3, (1, 1 / 128, -127 / 128)),
}


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_preprocessing(name: str) -> None:
    images = np.array([[[(0, 0, 0), (255, 128, 0)]]], np.uint8)
    output = jax.jit(get_preprocessing(name))(images)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output[0, 0], EXPECTED[name], rtol=1e-6, atol=1e-6)


def test_description_of_a_weight_source() -> None:
    preprocessing = get_preprocessing({"name": "torch", "interpolation": "bicubic"})
    assert (preprocessing.interpolation, preprocessing.mean) == ("bicubic", get_preprocessing("torch").mean)


def test_initialization_as_in_keras() -> None:
    head = Head()
    params = head.init(jax.random.key(0), jnp.zeros((1, 2048)))["params"]
    assert {name: layer["kernel"].shape for name, layer in params.items()} == {
        "dense": (2048, 512),
        "predictions": (512, 2),
    }
    for layer in params.values():
        limit = np.sqrt(6 / sum(layer["kernel"].shape))  # Glorot & Bengio 2010, equation 16
        largest = np.abs(layer["kernel"]).max()
        assert 0.95 * limit < largest <= limit
        assert np.std(layer["kernel"]) == pytest.approx(limit / np.sqrt(3), rel=0.05), "uniform"
        assert not layer["bias"].any()


def test_unknown_backbone() -> None:
    with pytest.raises(ConfigError, match="unknown backbone 'vgg-16': did you mean 'vgg16'"):
        get_backbone("vgg-16")


def test_published_eps() -> None:
    """The difference between the ResNets is too small for the parity tests."""
    assert (layers.PYTORCH.eps, layers.KERAS.eps) == (1e-5, 1.001e-5)


def test_a_backbone_without_measured_chunks_runs_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    module, images = get_backbone("resnet50").module, jnp.ones((2, 32, 32, 3))
    monkeypatch.setattr(resnet.ResNet, "images_at_once", {})
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    found = jax.eval_shape(lambda variables: module.on_cpu(module.prepare(variables), images, "stage1"), variables)
    expected = jax.eval_shape(lambda variables: module.apply(variables, images, last="stage1"), variables)
    assert found == expected
