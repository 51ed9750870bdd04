"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2) as torchvision and timm compute it."""

import re

from alljax.models.backbones import Layout, Rules, register
from alljax.models.inverted_residuals import Blocks, InvertedResidualNetwork

MOBILENET_V2 = InvertedResidualNetwork(
    (
        Blocks(1, 3, 1, 1, 16),
        Blocks(2, 3, 2, 6, 24),
        Blocks(3, 3, 2, 6, 32),
        Blocks(4, 3, 2, 6, 64),
        Blocks(3, 3, 1, 6, 96),
        Blocks(3, 3, 2, 6, 160),
        Blocks(1, 3, 1, 6, 320),
    ),
    "pytorch",
)
LAYER = r"stage(\d)/block(\d)/(\w+)/(conv|norm)"


def _torchvision_name(match: re.Match[str]) -> str:
    """Blocks are numbered through all stages; the first has no expansion, and its layers other numbers."""
    number = MOBILENET_V2.block_number(int(match[1]), int(match[2])) + 1
    layer, norm = ("expand", "depthwise", "project").index(match[3]) - (number == 1), match[4] == "norm"
    name = layer + norm if match[3] == "project" else f"{layer}.{int(norm)}"
    return f"features.{number}.conv.{name}"


def _timm_name(match: re.Match[str]) -> str:
    layer = ("expand", "depthwise", "project").index(match[3]) - (match[1] == "1")
    convolutions = ("conv_dw", "conv_pw") if match[1] == "1" else ("conv_pw", "conv_dw", "conv_pwl")
    name = convolutions[layer] if match[4] == "conv" else f"bn{layer + 1}"
    return f"blocks.{int(match[1]) - 1}.{int(match[2]) - 1}.{name}"


TORCHVISION: Rules = {
    "stem/conv": "features.0.0",
    "stem/norm": "features.0.1",
    LAYER: _torchvision_name,
    "head/conv": "features.18.0",
    "head/norm": "features.18.1",
}
TIMM: Rules = {
    "stem/conv": "conv_stem",
    "stem/norm": "bn1",
    LAYER: _timm_name,
    "head/conv": "conv_head",
    "head/norm": "bn2",
}
register(
    "mobilenet_v2",
    MOBILENET_V2,
    Layout("torchvision", "torch", "pytorch", TORCHVISION, r"features\..*"),
    Layout("timm", "torch", "pytorch", TIMM, r"(blocks|conv_stem|bn1|conv_head|bn2)\..*"),
)
