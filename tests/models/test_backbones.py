import pytest

from alljax.errors import ConfigError
from alljax.models import resnet
from alljax.models.backbones import get_backbone


def test_unknown_backbone() -> None:
    with pytest.raises(ConfigError, match="unknown backbone 'vgg-16': did you mean 'vgg16'"):
        get_backbone("vgg-16")


def test_published_eps() -> None:
    """The difference between the ResNets is too small for the parity tests."""
    assert resnet.EPS == {"torchvision": 1e-5, "keras": 1.001e-5}
