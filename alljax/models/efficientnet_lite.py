"""EfficientNet-Lite0 (https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html).

EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, table 1) without squeeze-and-excitation, with ReLU6 for Swish.
"""

import re

from alljax.models.backbones import Layout, Rules, register
from alljax.models.inverted_residuals import Blocks, InvertedResidualNetwork

LITE0 = InvertedResidualNetwork(
    (
        Blocks(1, 3, 1, 1, 16),
        Blocks(2, 3, 2, 6, 24),
        Blocks(2, 5, 2, 6, 40),
        Blocks(3, 3, 2, 6, 80),
        Blocks(3, 5, 1, 6, 112),
        Blocks(4, 5, 2, 6, 192),
        Blocks(1, 3, 1, 6, 320),
    ),
    "tensorflow",
)


def _block_layer(match: re.Match[str]) -> str:
    """The PyTorch port numbers the 16 blocks through all stages."""
    number = LITE0.block_number(int(match[1]), int(match[2]))
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[match[3]]
    return f"_blocks.{number}.{norm if match[4] == 'norm' else f'_{match[3]}_conv'}"


RULES: Rules = {
    "stem/conv": "_conv_stem",
    "stem/norm": "_bn0",
    r"stage(\d)/block(\d)/(\w+)/(conv|norm)": _block_layer,
    "head/conv": "_conv_head",
    "head/norm": "_bn1",
}
register(
    "efficientnet_lite0", LITE0, Layout("efficientnet_lite_pytorch", "lite", "pytorch", RULES, r"_(blocks|conv|bn).*")
)
