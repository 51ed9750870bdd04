"""What every backbone of the catalog must satisfy.  A new backbone needs a row in `AT_224` and `PARAMETERS`."""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.extend.core import Var

from alljax.models.backbones import BACKBONES, Backbone
from alljax.models.layers import BatchNormContext
from alljax.models.preprocessing import PREPROCESSINGS
from alljax.weights.conversion import convert
from alljax.weights.store import UNKNOWN

# Height, width and channels at 224 pixels, from the tables of the papers.
RESNET18 = {"stem": (56, 64), "stage1": (56, 64), "stage2": (28, 128), "stage3": (14, 256), "stage4": (7, 512)}
RESNET = {"stem": (56, 64), "stage1": (56, 256), "stage2": (28, 512), "stage3": (14, 1024), "stage4": (7, 2048)}
TOKENS = ["embed", *(f"block{number}" for number in range(1, 13)), "norm"]
AT_224 = {
    "dinov2_vits14": dict.fromkeys(TOKENS, (257, 384)),  # number and width of tokens
    "dinov2_vitb14": dict.fromkeys(TOKENS, (257, 768)),
    "histonet": {
        "block1": (111, 32),
        "block2": (55, 32),
        "block3": (27, 128),
        "block4": (13, 256),
        "block5": (5, 128),
        "block6": (1, 256),
        "hidden": (1, 512),
    },
    "residual_attention": RESNET,
    "vgg16": {"block1": (112, 64), "block2": (56, 128), "block3": (28, 256), "block4": (14, 512), "block5": (7, 512)},
    "resnet18": RESNET18,
    "resnet50": RESNET,
    "resnet101": RESNET,
    "resnet50_keras": RESNET,
    "densenet121": {
        "stem": (56, 64),
        "block1": (56, 256),
        "block2": (28, 512),
        "block3": (14, 1024),
        "block4": (7, 1024),
        "norm": (7, 1024),
    },
    "efficientnet_lite0": {
        "stem": (112, 32),
        "stage1": (112, 16),
        "stage2": (56, 24),
        "stage3": (28, 40),
        "stage4": (14, 80),
        "stage5": (14, 112),
        "stage6": (7, 192),
        "stage7": (7, 320),
        "head": (7, 1280),
    },
    "mobilenet_v2": {
        "stem": (112, 32),
        "stage1": (112, 16),
        "stage2": (56, 24),
        "stage3": (28, 32),
        "stage4": (14, 64),
        "stage5": (14, 96),
        "stage6": (7, 160),
        "stage7": (7, 320),
        "head": (7, 1280),
    },
}
# From torchvision's model table, Keras's summary() and timm, less those of the classifiers.
PARAMETERS = {
    "dinov2_vits14": 22_056_192 - (37**2 - 16**2) * 384,  # as many position embeddings as 224 pixels need
    "dinov2_vitb14": 86_579_712 - (37**2 - 16**2) * 768,
    "histonet": 2_988_578 - 1_026,  # of the authors' code for two classes
    "residual_attention": 31_818_280 - 2_049_000,  # the paper states 31.9 million
    "vgg16": 138_357_544 - 123_642_856,
    "resnet18": 11_689_512 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "resnet50_keras": 25_583_592 - 2_049_000,
    "densenet121": 7_978_856 - 1_025_000,
    "efficientnet_lite0": 4_652_008 - 1_281_000,
    "mobilenet_v2": 3_504_872 - 1_281_000,
}
LAYOUTS = [(name, layout) for name, backbone in BACKBONES.items() for layout in backbone.layouts]


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return BACKBONES[request.param]


def images(backbone: Backbone, height: int, width: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    multiple = backbone.module.multiple
    return jax.ShapeDtypeStruct((2, height // multiple * multiple, width // multiple * multiple, 3), dtype)


def abstract(backbone: Backbone, images: jax.ShapeDtypeStruct) -> Any:
    """The variables as shapes."""
    return jax.eval_shape(backbone.module.init, jax.random.key(0), images)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (160, 96), (75, 53)])
def test_stages_and_shapes(backbone: Backbone, height: int, width: int) -> None:
    pixels = images(backbone, height, width)
    activations = jax.eval_shape(backbone.module.apply, abstract(backbone, pixels), pixels)
    expected = AT_224[backbone.name]
    assert tuple(activations) == tuple(expected) == backbone.stages
    for stage, (size, channels) in expected.items():
        assert backbone.module.widths[stage] == channels
        if backbone.module.multiple > 1:
            assert activations[stage].shape == (2, 1 + (height // 14) * (width // 14), 1, channels)
            continue
        stride = 224 // size
        rounding = math.floor if backbone.name == "vgg16" else math.ceil  # VGG's pooling drops an odd last row
        shape = (2, rounding(height / stride), rounding(width / stride), channels)
        if backbone.name == "densenet121":  # its stem pads, its poolings drop an odd last row
            shape = (2, *(math.ceil(side / 4) // (stride // 4) for side in (height, width)), channels)
        if backbone.name == "histonet":  # its sizes are no fractions of those of the images
            shape = (2, size, size, channels) if height == 224 else (*activations[stage].shape[:3], channels)
        assert activations[stage].shape == shape, stage


def test_later_stages_are_not_computed(backbone: Backbone) -> None:
    last = backbone.stages[1]
    pixels = images(backbone, 64, 64)
    variables = jax.eval_shape(lambda x: backbone.module.init(jax.random.key(0), x, last=last), pixels)
    assert set(variables["params"]) == set(backbone.stages[:2])


def test_published_number_of_parameters(backbone: Backbone) -> None:
    sizes = [math.prod(shape) for path, shape in backbone.shapes.items() if path.startswith("params/")]
    assert sum(sizes) == PARAMETERS[backbone.name]


def test_each_parameter_belongs_to_a_stage(backbone: Backbone) -> None:
    assert {path.split("/")[1] for path in backbone.shapes} == {*backbone.stages}


def test_bfloat16_input_gives_bfloat16_activations(backbone: Backbone) -> None:
    pixels = images(backbone, 64, 64, jnp.bfloat16)
    activations = jax.eval_shape(backbone.module.apply, abstract(backbone, images(backbone, 64, 64)), pixels)
    assert {activation.dtype for activation in activations.values()} == {jnp.dtype(jnp.bfloat16)}


def test_gradients_reach_every_parameter(backbone: Backbone) -> None:
    """Follows the dependencies in the program of the gradient; a parameter without influence has a constant one."""
    pixels = images(backbone, 64, 64)
    variables = abstract(backbone, pixels)

    def loss(params: Any, variables: Any, images: jax.Array) -> jax.Array:
        activations = backbone.module.apply({**variables, "params": params}, images)
        return (activations[backbone.stages[-1]] ** 2).sum()

    closed = jax.make_jaxpr(jax.grad(loss))(variables["params"], variables, pixels)
    dependent = set(closed.jaxpr.invars)
    for equation in closed.jaxpr.eqns:
        if any(isinstance(variable, Var) and variable in dependent for variable in equation.invars):
            dependent.update(equation.outvars)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])]
    gradients = zip(paths, closed.jaxpr.outvars, strict=True)
    assert [path for path, variable in gradients if not isinstance(variable, Var) or variable not in dependent] == []


def test_only_requested_layers_use_batch_statistics(backbone: Backbone) -> None:
    last = backbone.stages[1]
    pixels = jax.random.normal(jax.random.key(1), images(backbone, 32, 32).shape)
    variables = jax.jit(lambda x: backbone.module.init(jax.random.key(0), x, last=last))(pixels)
    statistics = flatten_dict(variables.get("batch_stats", {}), sep="/")
    layers = frozenset(path.rpartition("/")[0] for path in statistics if path.startswith(last))

    @jax.jit
    def apply(variables: Any, pixels: jax.Array) -> list[tuple[Any, Any]]:
        contexts = [BatchNormContext(names, jnp.ones(2, bool)) for names in (frozenset[str](), layers)]
        return [
            backbone.module.apply(variables, pixels, last=last, context=context, mutable=["batch_stats"])
            for context in contexts
        ]

    (frozen, same), (trained, updated) = apply(variables, pixels)
    for path, before in statistics.items():
        assert np.array_equal(flatten_dict(same["batch_stats"], sep="/")[path], before), path
        after = flatten_dict(updated["batch_stats"], sep="/")[path]
        assert np.array_equal(after, before) == (not path.startswith(last)), path
    assert np.array_equal(frozen[backbone.stages[0]], trained[backbone.stages[0]])
    assert bool(layers) != np.array_equal(frozen[last], trained[last])


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_conversion_round_trip_of_every_layout(name: str, layout: str) -> None:
    shapes, of_file = BACKBONES[name].shapes, BACKBONES[name].layouts[layout]
    arrays = {  # every array has its own value
        of_file.name_of(path): np.broadcast_to(np.float32(number), of_file.shape_of(shape))
        for number, (path, shape) in enumerate(shapes.items())
    }
    converted = convert(arrays | ({of_file.mark: np.zeros(0)} if of_file.mark else {}), name)
    assert converted.layout == layout
    assert of_file.preprocessing in PREPROCESSINGS
    flat = flatten_dict(converted.variables, sep="/")
    again = convert(flat, name, source=replace(UNKNOWN, layout=layout))
    assert again.layout == converted.layout
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, converted.variables))
    for number, (path, shape) in enumerate(shapes.items()):
        assert flat[path].shape == shape, path
        assert (flat[path] == number).all(), path
