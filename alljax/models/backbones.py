"""The catalog of backbones, and how weight files of other libraries name and arrange their variables.

To add one, write a module with the network, its layouts and a call of `register`, as `alljax.models.vgg` does.
"""

import functools
import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from alljax import extensions
from alljax.errors import ConfigError, unknown_name
from alljax.models.layers import PREPARED, BatchNormContext

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
# running_std is a variance despite its name.
KERAS_1_VARIABLES = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}


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
    mark: str = ""  # end of the name of a tensor that only such files have, which tells apart layouts of equal names

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
        if self.format == "pytorch":
            return f"{module}.{PYTORCH.get(variable, variable)}".removeprefix(".")
        return f"{module}/{variable}"

    def normalize(self, name: str) -> str:
        """Brings the spelling of a name in a file, in any version of Keras, into the form that `name_of` gives."""
        layer, _, rest = name.partition("/")
        match = KERAS_VARIABLE.search(rest.rpartition("/")[2]) if self.format == "keras" else None
        if not match:
            return name
        return f"{layer}/{KERAS_1_VARIABLES.get(match[1], match[1])}"

    def shape_of(self, ours: Shape) -> Shape:
        """Returns the shape in such a file of a variable of shape `ours`."""
        return self.from_flax(np.broadcast_to(np.float32(), ours)).shape

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """Returns an array of such a file with our order of axes, a view."""
        if self.format != "pytorch" or array.ndim not in (2, 4):
            return array
        return array.transpose(*range(2, array.ndim), 1, 0)

    def from_flax(self, array: np.ndarray) -> np.ndarray:
        """Returns an array with the order of axes of such a file, a view."""
        if self.format != "pytorch" or array.ndim not in (2, 4):
            return array
        return array.transpose(array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))


class StagedNetwork(nn.Module):
    """Base class of backbones: stages that are computed one after the other.

    A subclass lists its stages in `widths` and has a submodule ``STAGE(images, context)`` for each.
    """

    # Stage → images of 224 × 224 pixels that a CPU computes at once from it on: few while activations are large, whose
    # memory should stay below 32 MB (the C library maps again at every call), more where kernels are larger.
    images_at_once: ClassVar[Mapping[str, int]] = {}
    poolings: ClassVar[tuple[str, ...]] = ("average", "max", "flatten")  # names in `POOLINGS`, the default first
    multiple: ClassVar[int] = 1  # number of pixels that must divide the size of the images
    resized: ClassVar[str] = ""  # variable whose second axis depends on the size of the images, see `resize`

    @property
    def widths(self) -> Mapping[str, int]:
        """Number of channels of each stage, in the order of computation."""
        raise NotImplementedError

    def __call__(
        self,
        images: jax.Array,
        last: str | None = None,
        context: BatchNormContext | None = None,
        first: str | None = None,
    ) -> OrderedDict[str, jax.Array]:
        """Returns the activation (B, h, w, channels) of each stage up to `last`, by name, in order.

        Images are float32 or bfloat16 (B, H, W, 3) of at least 32×32 pixels, preprocessed as the weights expect; with
        `first` they are the input of this stage.  Without a context all layers use the running statistics.
        """
        activations: OrderedDict[str, jax.Array] = OrderedDict()
        stages = list(self.widths)
        for name in stages[stages.index(first) if first else 0 :]:
            images = activations[name] = checkpoint_name(getattr(self, name)(images, context), "stage")
            if name == last:
                break
        return activations

    def resize(self, variables: Any, image_size: int, layout: str) -> Any:
        """Returns the variables of a file of this layout for images of this size."""
        return variables

    def prepare(self, variables: Any) -> Any:
        """Returns the variables in the form that `on_cpu` needs; transforms kernels once."""
        transform = jax.jit(lambda variables: self.apply(variables, jnp.zeros((1, 64, 64, 3)), mutable=[PREPARED])[1])
        return {**variables, **transform(variables)}

    def on_cpu(self, prepared: Any, images: jax.Array, last: str) -> OrderedDict[str, jax.Array]:
        """Returns what a call does, computed in chunks of images, see `images_at_once`."""
        names, activations = list(self.widths), OrderedDict[str, jax.Array]()
        names = names[: names.index(last) + 1]
        at_once = {names[0]: 1, **self.images_at_once}
        starts = [name for name in names if name in at_once]
        limits = [at_once[start] * max(1, 224**2 // math.prod(images.shape[1:3])) for start in starts]
        for start, following, limit in zip(starts, [*starts[1:], None], limits, strict=True):
            end = names[names.index(following) - 1] if following else last
            size = max(size for size in range(1, limit + 1) if len(images) % size == 0)
            compute = functools.partial(self.compute, prepared, first=start, last=end)
            outputs = lax.map(compute, images.reshape(-1, size, *images.shape[1:]))
            activations.update({name: leaf.reshape(-1, *leaf.shape[2:]) for name, leaf in outputs.items()})
            images = activations[end]
        return activations

    def compute(self, prepared: Any, images: jax.Array, first: str, last: str) -> OrderedDict[str, jax.Array]:
        """Returns the activations of the stages from `first` to `last` from the input of `first`, on a CPU."""
        activations: Any = self.apply(prepared, images, first=first, last=last)
        return activations


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network of the catalog with the layouts of its weight files."""

    name: str  # in configs
    module: StagedNetwork
    layouts: Mapping[str, Layout]  # of weight files that fit, by name
    # Changes with the activations, so that stored features are computed again; from outside: a hash of the program.
    version: int | str = 2

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in the order of computation."""
        return tuple(self.module.widths)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of each variable by name, such as ``params/stem/conv/kernel`` or ``batch_stats/stem/norm/mean``."""
        images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
        tree = jax.eval_shape(self.module.init, jax.random.key(0), images)
        return {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}


BACKBONES: dict[str, Backbone] = {}  # all that are registered


def register(name: str, module: StagedNetwork, *layouts: Layout) -> None:
    """Adds a backbone to the catalog; a weight file that fits several layouts has the first of them."""
    BACKBONES[name] = Backbone(name, module, {layout.name: layout for layout in layouts})


def get_backbone(name: str) -> Backbone:
    """Returns the backbone of this name or ``package.module:Name``; `ConfigError` suggests the nearest name."""
    if name not in BACKBONES and extensions.is_reference(name):
        BACKBONES[name] = _load_external(name)
    if name not in BACKBONES:
        raise ConfigError(unknown_name("backbone", name, BACKBONES))
    return BACKBONES[name]


def _load_external(name: str) -> Backbone:
    """Returns a backbone from outside the package, with its reference as name; checks its contract by tracing it."""
    where = f"model.backbone={name}"
    with extensions.loaded("model.backbone", name) as found:
        found = found() if isinstance(found, type) and issubclass(found, StagedNetwork) else found
        found = Backbone(name, found, {}) if isinstance(found, StagedNetwork) else found
        if not isinstance(found, Backbone):
            raise ConfigError(f"{where} is of type {type(found).__name__}, not a StagedNetwork or a Backbone")
        side = 224 // found.module.multiple * found.module.multiple
        images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
        program = jax.jit(found.module.init_with_output).lower(jax.random.key(0), images)
        activations, variables = program.out_info
        for stage, width in found.module.widths.items():
            of_stage = activations[stage]
            if (*of_stage.shape[::3], of_stage.ndim, of_stage.dtype) != (2, width, 4, jnp.float32):
                gives = f"{of_stage.dtype} {of_stage.shape} for images {images.shape}"
                raise ConfigError(f"{where}: stage {stage!r} gives {gives}, not float32 (2, h, w, {width})")
    if outside := {path.split("/")[1] for path in flatten_dict(variables, sep="/")} - {*found.stages}:
        raise ConfigError(f"{where}: {min(outside)!r} has variables, but is no stage; list it in widths")
    layouts = found.layouts or {"alljax": Layout("alljax", "torch", "flax", {}, "(params|batch_stats)/.*")}
    version = hashlib.sha256(program.as_text().encode()).hexdigest()
    return replace(found, name=name, layouts=layouts, version=version)
