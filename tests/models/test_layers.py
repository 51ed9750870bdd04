import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from alljax.models import fast_cpu, layers
from alljax.models.layers import PREPARED, BatchNorm, BatchNormContext, Conv, Variant


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32))


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"),
    [
        (1, 2, ((0, 0), (0, 0))),
        (3, 1, ((0, 3), (2, 1))),  # each side must be padded by its own number
        (5, 2, ((1, 2), (1, 2))),
    ],
)
def test_cpu_implementation(kernel_size: int, stride: int, padding: layers.Padding) -> None:
    """1×1 convolutions are matrix products, depthwise ones sums of shifted products."""
    depthwise = kernel_size > 1
    images = draw(2, 9, 12, 6)
    layer = Conv(6, kernel_size, stride, padding, depthwise)

    def ours(kernel: jax.Array) -> jax.Array:
        return layer.apply({"params": {"kernel": kernel}}, images)

    def theirs(kernel: jax.Array) -> jax.Array:
        axes, groups = ("NHWC", "HWIO", "NHWC"), 6 if depthwise else 1
        return lax.conv_general_dilated(
            images, kernel, (stride, stride), padding, dimension_numbers=axes, feature_group_count=groups
        )

    @jax.jit
    def outputs_and_gradients(kernel: jax.Array) -> Any:
        return [(f(kernel), jax.grad(lambda kernel, f=f: (f(kernel) ** 2).sum())(kernel)) for f in (ours, theirs)]

    found, expected = outputs_and_gradients(draw(kernel_size, kernel_size, 1 if depthwise else 6, 6))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max()), found, expected)


@pytest.mark.parametrize("layer", [Conv(64, 3, depthwise=True), Conv(10, 1, stride=2), Conv(10, 3)])
def test_implementation_depends_on_the_platform(layer: Conv) -> None:
    images = draw(16, 8, 8, 64)
    traced = jax.jit(layer.apply).trace(jax.eval_shape(layer.init, jax.random.key(0), images), images)
    for platform, count in {"cpu": 0, "cuda": 1, "tpu": 1}.items():
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert program.count("stablehlo.convolution") == count, platform


@pytest.mark.parametrize("size", [(16, 16), (13, 18), (7, 5), (1, 2)])
@pytest.mark.parametrize("strip", [2**20, 1])
def test_winograd(size: tuple[int, int], strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_cpu, "STRIP", strip)
    images, layer = draw(2, *size, 64), Conv(8, 3)
    variables = layer.init(jax.random.key(0), images)
    prepared = {PREPARED: layer.apply(variables, images, mutable=[PREPARED])[1][PREPARED], **variables}
    expected = nn.Conv(8, (3, 3), padding=1, use_bias=False).apply(variables, images)
    for found in (layer.apply(variables, images), layer.apply(prepared, images)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("count", "height", "width", "channels", "features"),
    [(3, 13, 22, 64, 8), (1, 112, 112, 64, 128), (1, 56, 56, 128, 256), (6, 28, 28, 256, 512), (9, 15, 15, 128, 256)],
)
def test_gradients_of_winograd(count: int, height: int, width: int, channels: int, features: int) -> None:
    """Layers of VGG16 and ResNet50, and odd sizes."""
    images, kernel = draw(count, height, width, channels), draw(3, 3, channels, features)
    outputs = draw(count, height, width, features)
    assert fast_cpu.pays(images.shape, features)
    plain, layer = nn.Conv(features, (3, 3), padding=1, use_bias=False), Conv(features, 3)

    def gradients(apply: Any) -> Any:
        loss = lambda images, kernel: (apply({"params": {"kernel": kernel}}, images) * outputs).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1)))(images, kernel)

    for found, expected in zip(gradients(layer.apply), gradients(plain.apply), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_max_pool(size: int, stride: int, padding: int) -> None:
    images = draw(2, 9, 12, 6) - 3
    expected = nn.max_pool(images, (size, size), (stride, stride), ((padding, padding),) * 2)
    assert np.array_equal(layers.max_pool(images, size, stride, padding), expected)


ROOT = frozenset({""})  # the path of a layer that is the root
IMAGES = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 4, 5, 6))
BATCH_NORM = BatchNorm(Variant(momentum=0.9, eps=1e-3))
VARIABLES = {
    "params": {"scale": jnp.linspace(0.5, 2, 6), "bias": jnp.linspace(-1, 1, 6)},
    "batch_stats": {"mean": jnp.linspace(0, 1, 6), "var": jnp.linspace(1, 2, 6)},
}


def normalize(images: jax.Array, context: BatchNormContext | None) -> tuple[jax.Array, dict]:
    return BATCH_NORM.apply(VARIABLES, images, context, mutable=["batch_stats"])


def assert_close(ours: Any, theirs: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_equals_flax_on_a_full_batch(frozen: bool) -> None:
    flax_layer = nn.BatchNorm(frozen, momentum=0.9, epsilon=1e-3, use_fast_variance=False)
    context = None if frozen else BatchNormContext(ROOT, jnp.ones(8, bool))
    assert_close(normalize(IMAGES, context), flax_layer.apply(VARIABLES, IMAGES, mutable=["batch_stats"]))


def test_gradients_of_batch_norm_equal_those_of_flax() -> None:
    flax_layer, outputs = nn.BatchNorm(False, momentum=0.9, epsilon=1e-3, use_fast_variance=False), draw(8, 4, 5, 6)
    context = BatchNormContext(ROOT, jnp.ones(8, bool))

    def loss(params: Any, images: jax.Array, layer: Any, context: Any) -> jax.Array:
        normalized, _ = layer.apply(VARIABLES | {"params": params}, images, *context, mutable=["batch_stats"])
        return (normalized * outputs).sum()

    ours, theirs = (
        jax.jit(jax.grad(functools.partial(loss, layer=layer, context=context), (0, 1)))(VARIABLES["params"], IMAGES)
        for layer, context in ((BATCH_NORM, (context,)), (flax_layer, ()))
    )
    assert_close(ours, theirs)


def test_padding_does_not_change_statistics() -> None:
    mask = jnp.arange(8) < 5
    padded = jnp.where(mask.reshape(-1, 1, 1, 1), IMAGES, 1e3)
    output, statistics = normalize(padded, BatchNormContext(ROOT, mask))
    assert_close((output[:5], statistics), normalize(IMAGES[:5], BatchNormContext(ROOT, jnp.ones(5, bool))))


def test_statistics_of_unequal_devices_are_those_of_the_global_batch() -> None:
    mask = jnp.arange(8) < 5  # 4 images on the first device, 1 on the second
    context = functools.partial(BatchNormContext, ROOT, axis="data")
    parallel = jax.pmap(lambda images, mask: normalize(images, context(mask)), axis_name="data")
    output, statistics = parallel(IMAGES.reshape(2, 4, 4, 5, 6), mask.reshape(2, 4))
    one_device = normalize(IMAGES, BatchNormContext(ROOT, mask))
    assert_close((output.reshape(IMAGES.shape), jax.tree.map(lambda leaf: leaf[1], statistics)), one_device)


def test_bfloat16_is_normalized_in_float32() -> None:
    rounded = IMAGES.astype(jnp.bfloat16)
    output, _ = normalize(rounded, None)
    expected, _ = normalize(rounded.astype(jnp.float32), None)
    assert output.dtype == jnp.bfloat16
    np.testing.assert_array_equal(output, expected.astype(jnp.bfloat16))
