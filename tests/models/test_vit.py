"""DINOv2's transformers: files as users have them, features, and what is refused; tests/parity checks the numbers."""

import jax
import numpy as np
import pytest
from parity import seeded_weights

from alljax.config import default_config, vary
from alljax.errors import ConfigError, WeightsError
from alljax.models.backbones import BACKBONES
from alljax.models.head import POOLINGS
from alljax.training.network import check_names
from alljax.weights.conversion import best_match, convert

Arrays = dict[str, np.ndarray]


def of_file(prefix: str = "", grid: int = 37, width: int = 384) -> Arrays:
    """Names and shapes of torch.hub's file."""
    backbone = BACKBONES["dinov2_vits14" if width == 384 else "dinov2_vitb14"]
    layout = backbone.layouts["dinov2"]
    shapes = {layout.name_of(path): layout.shape_of(shape) for path, shape in backbone.shapes.items()}
    shapes |= {"pos_embed": (1, 1 + grid**2, width), "mask_token": (1, width)}
    return {prefix + name: np.broadcast_to(np.float32(0.5), shape) for name, shape in shapes.items()}


def test_files_of_dinov2_dinobloom_and_timm() -> None:
    timm = {name: array for name, array in of_file().items() if name != "mask_token"}
    bloom = of_file("teacher/backbone.", grid=16) | {"teacher/dino_head.mlp.0.bias": np.zeros(2048, np.float32)}
    for arrays, layout, count in ((of_file(), "dinov2", 1370), (timm, "timm", 1370), (bloom, "dinov2", 257)):
        converted = convert(arrays, "dinov2_vits14")
        assert converted.layout == layout
        assert converted.variables["params"]["embed"]["pos_embed"].shape == (1, count, 384)
        resized = BACKBONES["dinov2_vits14"].module.resize(converted.variables, 224, layout)
        assert resized["params"]["embed"]["pos_embed"].shape == (1, 257, 384)
    assert best_match(of_file(width=768)).backbone.name == "dinov2_vitb14"


@pytest.mark.parametrize("tensor", ["register_tokens", "reg_token", "blocks.12.norm1.weight"])
def test_other_variants_are_refused(tensor: str) -> None:
    arrays = of_file() | {tensor: np.zeros((1, 4, 384), np.float32)}
    with pytest.raises(WeightsError, match=f"1 tensor of another variant of the network: {tensor}"):
        convert(arrays, "dinov2_vits14")
    with pytest.raises(WeightsError, match="of another shape"):
        convert(of_file(width=768), "dinov2_vits14")


def test_class_token_is_the_default_feature() -> None:
    tokens = jax.numpy.asarray(seeded_weights.uniform("tokens", (2, 5, 1, 3)))
    np.testing.assert_array_equal(POOLINGS["cls"](tokens), tokens[:, 0, 0])
    both = np.concatenate([tokens[:, 0, 0], np.mean(tokens[:, 1:, 0], axis=1)], axis=1)
    np.testing.assert_allclose(POOLINGS["cls_mean"](tokens), both, atol=1e-6)
    assert BACKBONES["dinov2_vits14"].module.poolings[0] == "cls"
    assert BACKBONES["vgg16"].module.poolings[0] == "average"


@pytest.mark.parametrize(
    ("backbone", "changes", "message"),
    [
        ("dinov2_vits14", {"preprocessing.image_size": 64}, "image_size=64: .* set 56 or another multiple of 14"),
        ("dinov2_vits14", {"model.pool": "max"}, "model.pool='max': dinov2_vits14 has the poolings cls, cls_mean"),
        ("resnet50", {"model.pool": "cls"}, "model.pool='cls': resnet50 has the poolings average, max, flatten"),
    ],
)
def test_settings_that_do_not_fit(backbone: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_names(vary(default_config(), {"model.backbone": backbone} | changes))
