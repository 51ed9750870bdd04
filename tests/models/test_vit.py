"""DINOv2's transformers: files as users have them, and what is refused; tests/parity checks the numbers."""

import numpy as np
import pytest

from alljax.config import default_config, vary
from alljax.errors import ConfigError, WeightsError
from alljax.models.backbones import BACKBONES
from alljax.training.network import check_names
from alljax.weights.conversion import best_match, convert


def of_file(prefix: str = "", grid: int = 37, width: int = 384) -> dict[str, np.ndarray]:
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
    with pytest.raises(WeightsError, match=f"1 tensor of another variant of the network: {tensor}"):
        convert(of_file() | {tensor: np.zeros((1, 4, 384), np.float32)}, "dinov2_vits14")


@pytest.mark.parametrize(
    ("backbone", "changes", "message"),
    [
        ("dinov2_vits14", {"preprocessing.image_size": 64}, "image_size=64: .* set 56 or another multiple of 14"),
        ("dinov2_vits14", {"model.pool": "max"}, "model.pool='max': dinov2_vits14 has cls, cls_mean, flatten"),
        ("resnet50", {"model.pool": "cls"}, "model.pool='cls': resnet50 has average, max, flatten"),
    ],
)
def test_settings_that_do_not_fit(backbone: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_names(vary(default_config(), {"model.backbone": backbone} | changes))
