"""Every stage of every backbone computes what torchvision, timm and Keras compute with the same weights.

The weights are generated (`seeded_weights`), written with safetensors or h5py under the names and in the layout of the
original library, read and converted.  `make_goldens.py` wrote the reference activations.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
import safetensors.numpy
from parity import seeded_weights

from alljax.models.backbones import get_backbone
from alljax.models.vit import resize_positions
from alljax.weights import conversion

HERE = Path(__file__).parent
HEIGHT, WIDTH = 43, 37
TOLERANCE = 1e-4  # of the largest activation

Shapes = Mapping[str, tuple[int, ...]]
Case = tuple[str, dict[str, np.ndarray], Any]

BACKBONES = {
    "vgg16_torchvision": "vgg16",
    "vgg16_keras": "vgg16",
    "resnet18_torchvision": "resnet18",
    "resnet50_torchvision": "resnet50",
    "resnet101_torchvision": "resnet101",
    "resnet50_keras": "resnet50_keras",
    "densenet121_torchvision": "densenet121",
    "densenet121_timm": "densenet121",
    "efficientnet_lite0": "efficientnet_lite0",
    "mobilenet_v2_torchvision": "mobilenet_v2",
    "mobilenet_v2_timm": "mobilenet_v2",
    "dinov2_vits14_dinov2": "dinov2_vits14",
    "dinov2_vits14_timm": "dinov2_vits14",
    "histonet": "histonet",
}
SIZES = {"histonet": (215, 230), "dinov2_vits14_dinov2": (42, 42), "dinov2_vits14_timm": (28, 28)}


def write_keras(path: Path, shapes: Shapes) -> None:
    """Writes Keras's layout with the names of Keras 1 for VGG16 and of Keras 2 for ResNet50."""
    layers: dict[str, list[str]] = {}
    for name in shapes:
        layers.setdefault(name.partition("/")[0], []).append(name)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, names in layers.items():
            group = file.create_group(layer)
            stored = []
            for name in names:
                kind = name.partition("/")[2]
                if layer.startswith("block"):
                    stored.append(f"{layer}_{'W' if kind == 'kernel' else 'b'}_1:0")
                else:
                    stored.append(f"{layer}/{kind}:0")
                group[stored[-1]] = seeded_weights.weight(name, shapes[name])
            group.attrs["weight_names"] = [name.encode() for name in stored]


def variables(name: str, shapes: Shapes, folder: Path) -> Any:
    """Writes seeded weights to a file, reads and converts it."""
    path = folder / name
    if "keras" in name:
        write_keras(path, shapes)
    else:
        safetensors.numpy.save_file(seeded_weights.weights(shapes), path)
    converted = conversion.convert(conversion.read_weights(path), BACKBONES[name])
    path.unlink()
    size, _ = SIZES.get(name, (HEIGHT, WIDTH))
    return get_backbone(BACKBONES[name]).module.resize(converted.variables, size, converted.layout)


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(HERE / f"{name}.npz") as file:
        return dict(file)


def assert_close(ours: jax.Array, theirs: np.ndarray, what: str) -> None:
    found = np.asarray(ours) if theirs.ndim > 1 else seeded_weights.sample(np.asarray(ours))
    assert found.shape == theirs.shape, what
    error = np.abs(found - theirs).max() / np.abs(theirs).max()
    assert error < TOLERANCE, f"{what} is off by {error:.1e} of its largest activation"


@pytest.fixture(scope="module", params=BACKBONES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name = request.param
    expected = golden(name)
    shapes = seeded_weights.unpack(expected["tensors"])
    if name.startswith("vgg16"):  # without its large classifier
        shapes = {tensor: shape for tensor, shape in shapes.items() if tensor.startswith(("features", "block"))}
    return name, expected, variables(name, shapes, tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("images", [1, 6])
def test_prepared_variables_in_chunks_of_images(case: Case, images: int) -> None:
    name, _, tree = case
    if name in ("resnet101_torchvision", "densenet121_timm") or (name, images) == ("densenet121_torchvision", 1):
        pytest.skip("it compiles for long; another case has the same chunks")
    module, size = get_backbone(BACKBONES[name]).module, SIZES.get(name, (40, 40))
    batch = np.random.default_rng(0).standard_normal((images, *size, 3), np.float32)
    prepared, last = module.prepare(tree), list(module.widths)[-1]
    expected, ours = jax.jit(module.apply)(tree, batch), jax.jit(module.on_cpu, static_argnums=2)(prepared, batch, last)
    assert list(ours) == list(expected)
    for stage, activation in ours.items():
        assert_close(activation, expected[stage], f"{name} {stage}")


def test_every_stage(case: Case) -> None:
    name, expected, tree = case
    backbone, image = get_backbone(BACKBONES[name]), seeded_weights.image(*SIZES.get(name, (HEIGHT, WIDTH)))
    ours = jax.jit(backbone.module.apply)(tree, image)
    assert tuple(f"stage/{stage}" for stage in ours) == tuple(key for key in expected if key.startswith("stage/"))
    for stage, activation in ours.items():
        assert_close(activation, expected[f"stage/{stage}"], f"{name} {stage}")


def test_interpolation_of_position_embeddings() -> None:
    expected, stored = golden("position_embeddings"), seeded_weights.weight("pos_embed", (1, 1 + 37**2, 2))
    for name in expected.keys() - {"tensors"}:
        method, grid = name.split()
        np.testing.assert_allclose(resize_positions(stored, int(grid), method), expected[name], atol=1e-5)
