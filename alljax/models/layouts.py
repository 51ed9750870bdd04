"""How weight files of other libraries name and arrange the variables of a backbone.

Each backbone's module lists its layouts beside the network.  `alljax.weights.conversion` uses them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Shape = tuple[int, ...]
Rules = Mapping[str, str | Callable[[re.Match[str]], str]]
"""Regular expression over module paths → replacement, as in `re.sub`; the first full match applies."""

PYTORCH = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
KERAS = {"kernel": "kernel", "bias": "bias"}
KERAS_NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}

# The last part of a Keras weight name in different versions: kernel:0, block1_conv1_W_1:0.
KERAS_VARIABLE = re.compile(
    r"(?:^|_)(W|b|kernel|bias|gamma|beta|moving_mean|moving_variance|running_mean|running_std)(?:_\d+)?(?::0)?$"
)
KERAS_1_VARIABLES = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # a variance despite its name
}


@dataclass(frozen=True)
class Layout:
    """Names, axes and preprocessing of one kind of weight file for one backbone.

    Attributes:
        name: origin of the files, for example ``"torchvision"``.
        description: the network in messages, for example ``"torchvision's VGG16"``.
        preprocessing: name of the preprocessing that such weights expect.
        name_of: our flat variable name (``params/stem/conv/kernel``) → the file's name.
        network: regular expression over names of the network in such files, the classifier excluded.  A surplus
            tensor with such a name belongs to another variant of the network, for example to a deeper one.
        axes: ``"pytorch"`` (outputs first) or ``"flax"`` (outputs last, also Keras).
        normalize: brings the spelling of a name in a file into the form that `name_of` gives.
        ignored: regular expression over names without meaning for inference, for example counters.
        flattened: our name of a dense kernel → (C, H, W) of the activation that PyTorch flattened before it.
    """

    name: str
    description: str
    preprocessing: str
    name_of: Callable[[str], str]
    network: str
    axes: Literal["pytorch", "flax"] = "flax"
    normalize: Callable[[str], str] = str
    ignored: str = r"(?!)"
    flattened: Mapping[str, Shape] = field(default_factory=dict)

    def fits(self, shape: Shape, ours: Shape) -> bool:
        """Whether an array of this shape in such a file can become a variable of shape `ours`."""
        if shape == self.shape_of(ours):
            return True
        # A dense layer stored as a convolution (O, C, H, W), as in timm's VGG.
        return self.axes == "pytorch" and len(ours) == 2 and len(shape) == 4 and (
            shape[0] == ours[1] and int(np.prod(shape[1:])) == ours[0]
        )  # fmt: skip

    def shape_of(self, ours: Shape) -> Shape:
        """Returns the shape in such a file of a variable of shape `ours`."""
        if self.axes == "flax":
            return ours
        return (ours[3], ours[2], ours[0], ours[1]) if len(ours) == 4 else ours[::-1]

    def to_flax(self, array: np.ndarray, path: str, ours: Shape) -> np.ndarray:
        """Brings an array that `fits` into the shape `ours` of the variable `path`; a view where possible."""
        if self.axes == "flax":
            return array
        if path in self.flattened:  # PyTorch flattens in the order C, H, W; Flax and Keras in the order H, W, C
            array = array.reshape(ours[1], *self.flattened[path])
        if array.ndim == 4:
            return array.transpose(2, 3, 1, 0).reshape(ours)
        return array.T


def pytorch_layout(
    name: str,
    description: str,
    preprocessing: str,
    rules: Rules,
    network: str,
    flattened: Mapping[str, Shape] | None = None,
) -> Layout:
    """Returns a layout of PyTorch files, see `Layout`; `rules` rename modules: ``stem/conv`` → ``conv1``."""

    def name_of(path: str) -> str:
        module, variable = split_path(path)
        return f"{_rename(rules, module)}.{PYTORCH[variable]}"

    counters = r".*\.num_batches_tracked"
    return Layout(name, description, preprocessing, name_of, network, "pytorch", str, counters, flattened or {})


def keras_layout(name: str, description: str, preprocessing: str, rules: Rules, network: str) -> Layout:
    """Returns a layout of Keras files, see `Layout`; `rules` rename modules: ``stem/conv`` → ``conv1_conv``."""

    def name_of(path: str) -> str:
        module, variable = split_path(path)
        variables = KERAS_NORM if re.search(r"norm\d?$", module) else KERAS
        return f"{_rename(rules, module)}/{variables[variable]}"

    return Layout(name, description, preprocessing, name_of, network, normalize=normalize_keras)


def normalize_keras(name: str) -> str:
    """Brings a Keras weight name of any version to ``layer/variable``; returns other names unchanged."""
    layer, _, rest = name.partition("/")
    match = KERAS_VARIABLE.search(rest.rpartition("/")[2])
    if not match:
        return name
    layer = "predictions" if layer == "probs" else layer  # the classifier in Keras Applications 1.0.7
    return f"{layer}/{KERAS_1_VARIABLES.get(match[1], match[1])}"


def split_path(path: str) -> tuple[str, str]:
    """Returns module path and variable: ``params/stem/conv/kernel`` → ``stem/conv``, ``kernel``."""
    module, _, variable = path.partition("/")[2].rpartition("/")
    return module, variable


def _rename(rules: Rules, module: str) -> str:
    for pattern, replacement in rules.items():
        if match := re.fullmatch(pattern, module):
            return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
    return module
