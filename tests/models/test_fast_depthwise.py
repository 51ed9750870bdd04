"""EfficientNet-Lite0 on a CPU against convolutions of the library and against the plain module."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import lax

from alljax.models.backbones import get_backbone
from alljax.models.fast_depthwise import convolve, inverted_residual
from alljax.weights import conversion, store

LITE = get_backbone("efficientnet_lite0").module


def draw(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def assert_close(ours: Any, theirs: Any) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def library(images: Any, kernel: Any, stride: int, before: int) -> np.ndarray:
    """Convolution, depthwise if the kernel is (k, k, 1, C), with ReLU6; ⌈S / stride⌉ outputs."""
    size, depthwise = images.shape[1], kernel.shape[2] == 1
    padding = (before, (-(-size // stride) - 1) * stride + len(kernel) - size - before)
    outputs = lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        (padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=images.shape[3] if depthwise else 1,
    )
    return np.asarray(outputs)


# The padding before a window of stride 2 is k // 2 in PyTorch and, for even sizes, k // 2 - 1 in TensorFlow.
@pytest.mark.parametrize(
    ("kernel_size", "stride", "size", "before"),
    [(3, 1, 8, 1), (3, 2, 8, 0), (3, 2, 8, 1), (3, 2, 7, 1), (5, 1, 7, 2), (5, 1, 2, 2), (5, 2, 8, 1), (5, 2, 7, 2)],
)
@pytest.mark.parametrize(("width", "features"), [(4, 6), (9, 4)])  # without and with expansion
def test_inverted_residual(kernel_size: int, stride: int, size: int, before: int, width: int, features: int) -> None:
    images, expand = draw(3, size, size, 4), (draw(width, 4), draw(width))
    block = {
        "depthwise": (draw(width, kernel_size**2), draw(width)),
        "project": (draw(features, width), draw(features)),
    }
    inner = images
    if width != 4:
        block["expand"] = expand
        inner = np.clip(images @ expand[0].T + expand[1], 0, 6)
    kernel, bias = block["depthwise"]
    inner = library(inner, kernel.T.reshape(kernel_size, kernel_size, 1, width), stride, before)
    expected = np.clip(inner + bias, 0, 6) @ block["project"][0].T + block["project"][1]
    if stride == 1 and features == 4:
        expected += images
    ours = jax.jit(inverted_residual, static_argnums=(2, 3))(images.transpose(3, 1, 2, 0), block, stride, before)
    assert_close(ours.transpose(3, 1, 2, 0), expected)


@pytest.mark.parametrize(("stride", "size", "before"), [(1, 5, 1), (2, 8, 0), (2, 7, 1)])
def test_convolution_of_few_channels(stride: int, size: int, before: int) -> None:
    images, kernel, bias = draw(2, size, size, 3), draw(3, 3, 3, 8), draw(8)
    ours = jax.jit(convolve, static_argnums=(2, 3))(images, (kernel.reshape(-1, 8).T, bias), stride, before)
    assert_close(ours.transpose(3, 1, 2, 0), np.clip(library(images, kernel, stride, before) + bias, 0, 6))


def seeded_variables() -> Any:
    """Weights and statistics that keep activations near 1."""
    shapes = jax.eval_shape(LITE.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32))
    generator = np.random.default_rng(0)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        values = generator.standard_normal(shape.shape, dtype=np.float32)
        if path[-1].key == "kernel":
            return values / np.sqrt(np.prod(shape.shape[:3], dtype=np.float32))
        return 0.5 + np.abs(values) if path[-1].key in ("scale", "var") else values

    return jax.tree.map_with_path(leaf, shapes)


def assert_equal_stages(variables: Any, images: Any) -> None:
    expected = jax.jit(LITE.apply)(variables, images)
    ours = jax.jit(LITE.on_cpu, static_argnums=2)(LITE.prepare(variables), images, "head")
    assert list(ours) == list(expected)
    for stage, activation in ours.items():
        assert_close(activation, expected[stage])


@pytest.mark.parametrize(("batch", "size"), [(1, 33), (5, 97)])
def test_backbone(batch: int, size: int) -> None:
    """Batches that can and cannot be divided into groups of images; odd sizes."""
    assert_equal_stages(seeded_variables(), draw(batch, size, size, 3))


@pytest.mark.optimized
@pytest.mark.parametrize(("batch", "size"), [(8, 224), (3, 160)])
def test_real_weights(batch: int, size: int) -> None:
    converted = conversion.convert(
        conversion.read_weights(store.find("", "", "efficientnet_lite0").path), "efficientnet_lite0"
    )
    assert_equal_stages(converted.variables, np.clip(draw(batch, size, size, 3), -1, 1))


def test_earlier_stages_only() -> None:
    prepared, images = jax.eval_shape(LITE.prepare, seeded_variables()), draw(2, 48, 48, 3)
    outputs = jax.eval_shape(lambda prepared: LITE.on_cpu(prepared, images, "stage2"), prepared)
    assert list(outputs) == ["stem", "stage1", "stage2"]


def test_large_images_need_little_memory() -> None:
    """malloc asks the operating system for pages of blocks of 32 MB and more at every call."""
    prepared, images = (
        jax.eval_shape(LITE.prepare, seeded_variables()),
        jax.ShapeDtypeStruct((8, 224, 224, 3), np.float32),
    )
    features = jax.jit(lambda prepared, images: LITE.on_cpu(prepared, images, "head")["head"].mean((1, 2)))
    memory = features.lower(prepared, images).compile().memory_analysis()
    assert memory
    assert memory.temp_size_in_bytes < 32 * 2**20
