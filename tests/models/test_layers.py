from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alljax.models import layers
from alljax.models.layers import Convolution, library_convolution, matrix_product, shifted_sum

SIZES = [(9, 12), (7, 7), (8, 5)]


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32))


def close(ours: jax.Array, theirs: jax.Array) -> bool:
    assert ours.shape == theirs.shape
    return bool(np.abs(np.asarray(ours) - np.asarray(theirs)).max() < 1e-5 * np.abs(np.asarray(theirs)).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_shifted_sum_is_a_depthwise_convolution(size: tuple[int, int], side: int, stride: int) -> None:
    images, kernel = draw(2, *size, 6), draw(side, side, 1, 6)
    padding = layers.tensorflow_same_padding(size, side, stride)
    uneven = ((0, 3), (2, 1))  # no rule would give it: each side must be where it belongs

    @jax.jit
    def both(images: jax.Array, kernel: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        return [
            (shifted_sum(images, kernel, stride, each), library_convolution(images, kernel, stride, each, groups=6))
            for each in (padding, uneven)
        ]

    for ours, theirs in both(images, kernel):
        assert close(ours, theirs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [1, 2])
def test_matrix_product_is_a_1x1_convolution(size: tuple[int, int], stride: int) -> None:
    images, kernel = draw(2, *size, 6), draw(1, 1, 6, 10)
    theirs = jax.jit(lambda x, k: library_convolution(x, k, stride, layers.UNPADDED))(images, kernel)
    assert close(jax.jit(lambda x, k: matrix_product(x, k, stride))(images, kernel), theirs)


@pytest.mark.parametrize(
    ("length", "side", "stride", "expected"),
    [
        (224, 3, 2, (0, 1)),
        (75, 3, 2, (1, 1)),
        (56, 5, 2, (1, 2)),
        (19, 5, 2, (2, 2)),
        (14, 5, 1, (2, 2)),
        (14, 3, 1, (1, 1)),
        (7, 1, 1, (0, 0)),
        (7, 1, 2, (0, 0)),
    ],
)
def test_tensorflow_same_padding(length: int, side: int, stride: int, expected: tuple[int, int]) -> None:
    assert layers.tensorflow_same_padding((length, 64), side, stride)[0] == expected
    assert layers.tensorflow_same_padding((64, length), side, stride)[1] == expected


def lowered(layer: Convolution, platform: str) -> str:
    images = draw(1, 8, 8, 6)
    variables = jax.eval_shape(layer.init, jax.random.key(0), images)
    return jax.jit(layer.apply).trace(variables, images).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    "layer",
    [Convolution(6, 3, padding=((1, 1), (1, 1)), kind="depthwise"), Convolution(10, 1, stride=2)],
    ids=["depthwise", "pointwise"],
)
def test_the_form_is_chosen_for_the_platform(layer: Convolution) -> None:
    assert "stablehlo.convolution" not in lowered(layer, "cpu")
    for platform in ("cuda", "tpu"):
        assert lowered(layer, platform).count("stablehlo.convolution") == 1


@pytest.mark.parametrize("kind", ["full", "depthwise"])
def test_gradients_pass_through(kind: str) -> None:
    images = draw(2, 7, 6, 4)
    side = 3 if kind == "depthwise" else 1
    layer = Convolution(4, side, stride=2, kind=kind)
    kernel = draw(side, side, 1 if kind == "depthwise" else 4, 4)

    def ours(kernel: jax.Array) -> jax.Array:
        return (layer.apply({"params": {"kernel": kernel}}, images) ** 2).sum()

    def theirs(kernel: jax.Array) -> jax.Array:
        groups = 4 if kind == "depthwise" else 1
        return (library_convolution(images, kernel, 2, layers.UNPADDED, groups) ** 2).sum()

    assert close(*jax.jit(lambda kernel: (jax.grad(ours)(kernel), jax.grad(theirs)(kernel)))(kernel))


def test_bias_and_padding_of_a_full_convolution() -> None:
    images = draw(2, 7, 6, 4)
    layer = Convolution(5, 3, 2, layers.symmetric_padding(1), use_bias=True)
    kernel, bias = draw(3, 3, 4, 5), draw(5)
    ours = layer.apply({"params": {"kernel": kernel, "bias": bias}}, images)
    padded = np.pad(np.asarray(images), ((0, 0), (1, 1), (1, 1), (0, 0)))
    by_hand = np.einsum("bhwc,hwcd->bd", padded[:, 2:5, 4:7], np.asarray(kernel)) + np.asarray(bias)
    assert ours.shape == (2, 4, 3, 5)
    np.testing.assert_allclose(ours[:, 1, 2], by_hand, rtol=1e-5, atol=1e-5)


def test_no_layer_names_its_padding_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flax's own Conv, whose default is "SAME", is nowhere used; nor is a padding given as text."""
    import flax.linen as nn

    from alljax.models import backbones

    def refuse(function: Callable) -> Callable:
        def checked(*arguments: object, **keywords: object) -> jax.Array:
            given = [*arguments, *keywords.values()]
            assert "SAME" not in given
            assert "VALID" not in given
            assert len(arguments) == 4, "max_pool without explicit padding"
            return function(*arguments, **keywords)

        return checked

    monkeypatch.setattr(nn, "Conv", None)
    monkeypatch.setattr(nn, "max_pool", refuse(nn.max_pool))
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    for backbone in backbones.BACKBONES.values():
        jax.eval_shape(backbone.module.init, jax.random.key(0), images)
