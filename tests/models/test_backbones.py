import math
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alljax.models.normalization import Batch
from flax.traverse_util import flatten_dict

from alljax.errors import ConfigError
from alljax.models import backbones, efficientnet_lite, resnet

IMAGES = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)

# Sides and channels at 224 pixels, from the papers' tables.
STAGES = {
    "vgg16": {"block1": (112, 64), "block2": (56, 128), "block3": (28, 256), "block4": (14, 512), "block5": (7, 512)},
    "resnet50": {"stem": (56, 64), "stage1": (56, 256), "stage2": (28, 512), "stage3": (14, 1024), "stage4": (7, 2048)},
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
}
STAGES["resnet50_keras"] = STAGES["resnet50"]

# Published numbers of trainable parameters, classifier included: torchvision's model table, Keras's summary().
PARAMETERS = {
    "vgg16": 138_357_544,
    "resnet50": 25_557_032,
    "resnet50_keras": 25_583_592,
    "efficientnet_lite0": 4_652_008,
}


@pytest.fixture(params=backbones.BACKBONES)
def backbone(request: pytest.FixtureRequest) -> backbones.Backbone:
    return backbones.get(request.param)


def test_stages_and_shapes(backbone: backbones.Backbone) -> None:
    module = backbone.module
    variables = jax.eval_shape(module.init, jax.random.key(0), IMAGES)
    assert "classifier" not in variables["params"], "features need no classifier"
    activations = jax.eval_shape(module.apply, variables, IMAGES)
    expected = STAGES[backbone.name]
    assert list(activations) == list(expected) == list(backbone.stages), "in order, through jit as well"
    for stage, (side, width) in expected.items():
        assert activations[stage].shape == (2, side, side, width)
        assert backbone.widths[stage] == width


def test_number_of_parameters(backbone: backbones.Backbone) -> None:
    sizes = [math.prod(shape) for path, shape in backbones.shapes(backbone.name).items() if path.startswith("params/")]
    assert sum(sizes) == PARAMETERS[backbone.name]


def test_later_stages_are_not_computed(backbone: backbones.Backbone) -> None:
    stop = backbone.stages[1]
    variables = jax.eval_shape(lambda key, x: backbone.module.init(key, x, last=stop), jax.random.key(0), IMAGES)
    assert set(variables["params"]) == set(backbone.stages[:2]), "no parameter of a later stage is even asked for"
    activations = jax.eval_shape(lambda v, x: backbone.module.apply(v, x, last=stop), variables, IMAGES)
    assert tuple(activations) == backbone.stages[:2]


def test_layer_groups_cover_each_parameter_once(backbone: backbones.Backbone) -> None:
    paths = [path.partition("/")[2] for path in backbones.shapes(backbone.name)]
    matched = dict.fromkeys(backbone.groups, 0)
    for path in paths:
        groups = [group for group, pattern in backbone.groups.items() if re.fullmatch(pattern, path)]
        assert len(groups) == 1, f"{path} is in {groups}"
        matched[groups[0]] += 1
    assert all(matched.values()), "a group without parameters"


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0"])
def test_only_named_layers_follow_the_batch(name: str) -> None:
    module = backbones.get(name).module
    images = jax.random.normal(jax.random.key(1), (2, 33, 35, 3))
    last = "stage1"
    variables = jax.jit(lambda key, x: module.init(key, x, last=last))(jax.random.key(0), images)
    layers = {path.rpartition("/")[0] for path in flatten_dict(variables["batch_stats"], sep="/")}
    chosen = frozenset(path for path in layers if path.startswith("stage1/"))
    assert {"stem/norm"} < layers
    assert chosen

    @partial(jax.jit, static_argnames="layers")
    def apply(variables: Any, images: jax.Array, layers: frozenset[str]) -> Any:
        batch = Batch(layers, jnp.ones(2, bool))
        return module.apply(variables, images, last=last, batch=batch, mutable=["batch_stats"])

    frozen, same = apply(variables, images, frozenset())
    assert jax.tree.all(jax.tree.map(np.array_equal, same["batch_stats"], variables["batch_stats"]))
    trained, updated = apply(variables, images, chosen)
    assert np.array_equal(frozen["stem"], trained["stem"])
    assert not np.allclose(frozen[last], trained[last])
    equal = jax.tree.map(np.array_equal, updated["batch_stats"], variables["batch_stats"])
    assert jax.tree.all(equal["stem"])
    assert not any(jax.tree.leaves(equal["stage1"]))


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "efficientnet_lite0"])
def test_bfloat16_in_bfloat16_out(name: str) -> None:
    module = backbones.get(name).module
    images = jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    last = backbones.get(name).stages[1]
    variables = jax.jit(lambda key, x: module.init(key, x, last=last))(jax.random.key(0), images)
    exact = module.apply(variables, images, last=last)[last]
    rounded = module.apply(variables, images.astype(jnp.bfloat16), last=last)[last]
    assert rounded.dtype == jnp.bfloat16
    error = jnp.abs(rounded.astype(jnp.float32) - exact).max() / jnp.abs(exact).max()
    assert 0 < error < 0.05  # 8 bits of mantissa, several layers deep


def test_vgg16_has_no_statistics() -> None:
    assert not [path for path in backbones.shapes("vgg16") if path.startswith("batch_stats")]


def test_vgg16_classifier_says_which_size_it_reads() -> None:
    module = backbones.get("vgg16").module
    with pytest.raises(ConfigError, match=r"224 x 224 pixels, these have 96 x 128: set image_size to 224"):
        jax.eval_shape(
            lambda key, x: module.init(key, x, method="logits"),
            jax.random.key(0),
            jax.ShapeDtypeStruct((1, 96, 128, 3), jnp.float32),
        )


def test_epsilons_are_the_published_ones() -> None:
    """Too small a difference between the ResNets for the parity tests to see."""
    assert resnet.EPSILON == {"torchvision": 1e-5, "keras": 1.001e-5}
    assert efficientnet_lite.EPSILON == 1e-3
