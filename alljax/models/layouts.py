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
    """Names, axes and preprocessing of one kind of weight file for one backbone."""

    name: str  # origin of the files: "torchvision"
    preprocessing: str  # that such weights expect
    format: Literal["pytorch", "keras", "flax"]  # names of the variables and order of the axes
    rules: Rules  # module path in alljax (stem/conv) → in such files (conv1); empty where all names are the same
    # Regular expression over names of the network in such files, the classifier excluded.  A surplus tensor with such
    # a name belongs to another variant of the network, for example to a deeper one.
    network: str
    # Variable name of a dense kernel → (C, H, W) of the activation that PyTorch flattened before it.
    flattened: Mapping[str, Shape] = field(default_factory=dict)

    def name_of(self, path: str) -> str:
        """Returns the name in such a file of a variable such as ``params/stem/conv/kernel``."""
        if not self.rules:
            return path
        module, _, variable = path.partition("/")[2].rpartition("/")
        if self.format == "keras":
            variable = (KERAS_NORM if re.search(r"norm\d?$", module) else KERAS)[variable]
        for pattern, replacement in self.rules.items():
            if match := re.fullmatch(pattern, module):
                module = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
                break
        return f"{module}.{PYTORCH[variable]}" if self.format == "pytorch" else f"{module}/{variable}"

    def normalize(self, name: str) -> str:
        """Brings the spelling of a name in a file, in any version of Keras, into the form that `name_of` gives."""
        layer, _, rest = name.partition("/")
        match = KERAS_VARIABLE.search(rest.rpartition("/")[2]) if self.format == "keras" else None
        if not match:
            return name
        layer = "predictions" if layer == "probs" else layer  # the classifier in Keras Applications 1.0.7
        return f"{layer}/{KERAS_1_VARIABLES.get(match[1], match[1])}"

    def shape_of(self, ours: Shape) -> Shape:
        """Returns the shape in such a file of a variable of shape `ours`."""
        if self.format != "pytorch":
            return ours
        return (ours[3], ours[2], ours[0], ours[1]) if len(ours) == 4 else ours[::-1]

    def to_flax(self, array: np.ndarray, path: str, ours: Shape) -> np.ndarray:
        """Brings an array of such a file into the shape `ours` of the variable `path`, as a view where possible.

        The result has another shape if the array does not fit.
        """
        if self.format != "pytorch":
            return array
        if path in self.flattened and array.shape[1:] == ours[:1]:
            array = array.reshape(-1, *self.flattened[path])  # PyTorch flattens C, H, W; Flax and Keras H, W, C
        if array.ndim != 4:
            return array.T
        array = array.transpose(2, 3, 1, 0)
        return array.reshape(-1, array.shape[-1]) if len(ours) == 2 else array  # timm's VGG has dense convolutions
