import jax
import jax.numpy as jnp
import pytest

from alljax.errors import ConfigError
from alljax.models import efficientnet_lite, resnet
from alljax.models.backbones import get_backbone


def test_unknown_backbone() -> None:
    with pytest.raises(ConfigError, match="unknown backbone 'vgg-16': did you mean 'vgg16'"):
        get_backbone("vgg-16")


def test_vgg16_classifier_needs_224_pixels() -> None:
    module = get_backbone("vgg16").module
    images = jax.ShapeDtypeStruct((1, 96, 128, 3), jnp.float32)
    with pytest.raises(ConfigError, match=r"224 x 224 pixels, not 96 x 128: set image_size to 224"):
        jax.eval_shape(lambda x: module.init(jax.random.key(0), x, method="logits"), images)


def test_published_eps() -> None:
    """The difference between the ResNets is too small for the parity tests."""
    assert resnet.EPS == {"torchvision": 1e-5, "keras": 1.001e-5}
    assert efficientnet_lite.EPS == 1e-3
