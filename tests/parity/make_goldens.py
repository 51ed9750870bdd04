"""Writes the golden files in this folder: activations of torchvision, timm and Keras with seeded weights.

In a separate environment (any Python that torch supports):

    python3.11 -m venv /tmp/parity
    /tmp/parity/bin/pip install torch==2.13.0 timm==1.0.31 keras==3.15.0 numpy==2.4.6
    /tmp/parity/bin/pip install --no-deps torchvision==0.29.2
    /tmp/parity/bin/python tests/parity/make_goldens.py [vgg16_features-torchvision.pth]

Keras runs on torch, so TensorFlow is not needed.  Weights and images come from `seeded_weights`, so the files contain
only names, shapes and activations.  With the file of real VGG16 weights, `vgg16_real.npz` is written too.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import itertools
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import seeded_weights
import torch

# torchvision 0.29 is built for torch 2.14: its compiled operators, which these networks do not use, do not load into
# 2.13, and its import fails unless these two operators are declared.
operators = torch.library.Library("torchvision", "DEF")
operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402

HEIGHT, WIDTH = 43, 37  # odd and even sizes alternate between stages, so that every padding is tested
VGG_ENDS = [0, 5, 10, 17, 24, 31]

Shapes = dict[str, tuple[int, ...]]
Stages = dict[str, torch.nn.Module]


def to_torch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(0, 3, 1, 2).copy())


def from_torch(activation: torch.Tensor) -> np.ndarray:
    array = activation.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def run_stages(stages: Stages, image: np.ndarray) -> dict[str, np.ndarray]:
    activations = {}
    hidden = to_torch(image)
    for name, stage in stages.items():
        hidden = stage(hidden)
        activations[f"stage/{name}"] = from_torch(hidden)
    return activations


def save(name: str, shapes: Shapes, arrays: dict[str, np.ndarray]) -> None:
    path = Path(__file__).with_name(f"{name}.npz")
    np.savez_compressed(path, tensors=seeded_weights.pack(shapes.items()), **arrays)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def torch_golden(
    name: str,
    model: torch.nn.Module,
    stages: Stages,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    rename: Callable[[str], str] = str,
    sampled: bool = False,
    staged: tuple[int, int] = (HEIGHT, WIDTH),
) -> None:
    """Writes the activations of a PyTorch model, or a sample of them, and its logits for an image of `size`.

    The image of the activations has the size `staged`.
    """
    state = {key: tensor for key, tensor in model.state_dict().items() if "num_batches" not in key}
    shapes = {rename(key): tuple(tensor.shape) for key, tensor in state.items()}
    assert len(shapes) == len(state)
    for key, tensor in state.items():
        tensor.copy_(torch.from_numpy(seeded_weights.weight(rename(key), tuple(tensor.shape))))
    model.eval()
    arrays = run_stages(stages, seeded_weights.image(*staged))
    if sampled:
        arrays = {name: seeded_weights.sample(activation) for name, activation in arrays.items()}
    arrays["logits"] = from_torch(model(to_torch(seeded_weights.image(*size))))
    save(name, shapes, arrays)


def vgg_stages(features: torch.nn.Sequential) -> Stages:
    return {f"block{n}": features[VGG_ENDS[n - 1] : VGG_ENDS[n]] for n in range(1, 6)}


def vgg16_torchvision() -> None:
    model = torchvision.models.vgg16()
    torch_golden("vgg16_torchvision", model, vgg_stages(model.features), (224, 224))


def resnet_torchvision(depth: int) -> None:
    model = getattr(torchvision.models, f"resnet{depth}")()
    stages: Stages = {"stem": torch.nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)}
    stages |= {f"stage{n}": getattr(model, f"layer{n}") for n in range(1, 5)}
    torch_golden(f"resnet{depth}_torchvision", model, stages, sampled=depth != 50)


def mobilenet_v2_torchvision() -> None:
    model, stages, first = torchvision.models.mobilenet_v2(), Stages(), 1
    stages["stem"] = model.features[0]
    for n, blocks in enumerate((1, 2, 3, 4, 3, 3, 1), start=1):
        stages[f"stage{n}"] = model.features[first : first + blocks]
        first += blocks
    stages["head"] = model.features[first]
    torch_golden("mobilenet_v2_torchvision", model, stages, sampled=True)


def densenet121(library: str) -> None:
    """The file that torchvision published has other names than what it saves, which timm's files have, too."""
    model = torchvision.models.densenet121() if library == "torchvision" else timm.create_model("densenet121")
    parts = dict(model.features.named_children())
    stages: Stages = {"stem": torch.nn.Sequential(*(part for name, part in parts.items() if name.endswith("0")))}
    for n in range(1, 5):
        before = [parts[f"transition{n - 1}"]] if n > 1 else []
        stages[f"block{n}"] = torch.nn.Sequential(*before, parts[f"denseblock{n}"])
    stages["norm"] = torch.nn.Sequential(parts["norm5"], torch.nn.ReLU())

    def published(name: str) -> str:
        return re.sub(r"(layer\d+\.(?:norm|conv))(\d)", r"\1.\2", name)

    torch_golden(
        f"densenet121_{library}", model, stages, rename=published if library == "torchvision" else str, sampled=True
    )


def timm_stages(model: torch.nn.Module) -> Stages:
    stages: Stages = {"stem": torch.nn.Sequential(model.conv_stem, model.bn1)}
    stages |= {f"stage{n}": block for n, block in enumerate(model.blocks, start=1)}
    return stages | {"head": torch.nn.Sequential(model.conv_head, model.bn2)}


def mobilenet_v2_timm() -> None:
    model = timm.create_model("mobilenetv2_100", pretrained=False)
    torch_golden("mobilenet_v2_timm", model, timm_stages(model), sampled=True)


def lite_name(name: str) -> str:
    """timm's name for a tensor → the name in efficientnet-lite0-57934424.pth."""
    first, *rest, variable = name.split(".")
    if first != "blocks":
        ends = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
        return f"{ends.get(first, '_fc')}.{variable}"
    stage, block, layer = rest
    number = [1, 2, 2, 3, 3, 4, 1]
    if stage == "0":  # without an expansion, timm's layers are numbered differently
        layers = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    else:
        layers = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
        layers |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    return f"_blocks.{sum(number[: int(stage)]) + int(block)}.{layers[layer]}.{variable}"


def efficientnet_lite0() -> None:
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    torch_golden("efficientnet_lite0", model, timm_stages(model), rename=lite_name)


def interpolate(positions: torch.Tensor, grid: int, method: str) -> torch.Tensor:
    """As torch.hub's dinov2_vits14 and as timm: (1, 1 + n * n, D) to (1, 1 + grid * grid, D)."""
    if method == "timm":
        return timm.layers.resample_abs_pos_embed(positions, [grid, grid])
    stored = round((positions.shape[1] - 1) ** 0.5)
    patches = positions[:, 1:].reshape(1, stored, stored, -1).permute(0, 3, 1, 2)
    scale = (grid + 0.1) / stored
    resized = torch.nn.functional.interpolate(patches, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def dinov2_vits14(method: str, size: int) -> None:
    """Files of DINOv2 have a mask token and 37 x 37 position embeddings, which are interpolated."""
    model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, img_size=size, num_classes=0).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes |= {"pos_embed": (1, 1 + 37**2, 384)} | ({"mask_token": (1, 384)} if method == "dinov2" else {})
    state = {name: torch.from_numpy(array) for name, array in seeded_weights.weights(shapes).items()}
    state["pos_embed"] = interpolate(state["pos_embed"], size // 14, method)
    state.pop("mask_token", None)
    model.load_state_dict(state)
    hidden = model._pos_embed(model.patch_embed(to_torch(seeded_weights.image(size, size))))
    arrays = {"stage/embed": hidden}
    for number, block in enumerate(model.blocks, start=1):
        arrays[f"stage/block{number}"] = hidden = block(hidden)
    arrays["stage/norm"] = model.norm(hidden)
    save(f"dinov2_vits14_{method}", shapes, {name: from_torch(tokens)[:, :, None] for name, tokens in arrays.items()})


def position_embeddings() -> None:
    arrays = {}
    for method, grid in itertools.product(("dinov2", "timm"), (4, 16, 40)):
        positions = torch.from_numpy(seeded_weights.weight("pos_embed", (1, 1 + 37**2, 2)))
        arrays[f"{method} {grid}"] = from_torch(interpolate(positions, grid, method))
    save("position_embeddings", {}, arrays)


def histonet() -> None:
    """The network that the code of HistoTNet describes."""
    blocks, inputs, layers = ((7, 32), (5, 32), (5, 128), (5, 256), (7, 128), (3, 256)), 3, []
    for kernel_size, features in blocks:
        pooling = torch.nn.MaxPool2d(7, 4, 1) if kernel_size == 3 else torch.nn.MaxPool2d(2, 2, 1)
        layers += [torch.nn.Conv2d(inputs, features, kernel_size, padding=1), torch.nn.ReLU()]
        layers += [torch.nn.BatchNorm2d(features), pooling]
        inputs = features
    dense = torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.BatchNorm1d(512), torch.nn.Linear(512, 2)
    parts = {
        "features": torch.nn.Sequential(*layers),
        "flat": torch.nn.Flatten(),
        "classifierG": torch.nn.Sequential(*dense),
    }
    model = torch.nn.Sequential(OrderedDict(parts))
    stages = {f"block{n}": model.features[4 * n - 4 : 4 * n] for n in range(1, 7)}
    pixel = torch.nn.Unflatten(1, (512, 1, 1))
    stages["hidden"] = torch.nn.Sequential(model.flat, model.classifierG[:3], pixel)
    torch_golden("histonet", model, stages, (224, 224), sampled=True, staged=(215, 230))


def keras_load(model: keras.Model) -> Shapes:
    shapes = {weight.path: tuple(weight.shape) for weight in model.weights}
    for weight in model.weights:
        weight.assign(seeded_weights.weight(weight.path, shapes[weight.path]))
    return shapes


def keras_stages(model: keras.Model, layers: dict[str, str], image: np.ndarray) -> dict[str, np.ndarray]:
    outputs = {f"stage/{name}": model.get_layer(layer).output for name, layer in layers.items()}
    activations = keras.Model(model.input, outputs).predict(image, verbose=0)
    return {stage: activations[stage] for stage in outputs}


def vgg16_keras() -> None:
    image = seeded_weights.image(HEIGHT, WIDTH)
    features = keras.applications.VGG16(weights=None, include_top=False, input_shape=image.shape[1:])
    keras_load(features)
    arrays = keras_stages(features, {f"block{n}": f"block{n}_pool" for n in range(1, 6)}, image)
    model = keras.applications.VGG16(weights=None, classifier_activation=None)
    shapes = keras_load(model)
    arrays["logits"] = model.predict(seeded_weights.image(224, 224), verbose=0)
    save("vgg16_keras", shapes, arrays)


def resnet50_keras() -> None:
    image = seeded_weights.image(HEIGHT, WIDTH)
    model = keras.applications.ResNet50(weights=None, classifier_activation=None, input_shape=image.shape[1:])
    shapes = keras_load(model)
    layers = {"stem": "pool1_pool", "stage1": "conv2_block3_out", "stage2": "conv3_block4_out"}
    layers |= {"stage3": "conv4_block6_out", "stage4": "conv5_block3_out"}
    arrays = keras_stages(model, layers, image)
    arrays["logits"] = model.predict(image, verbose=0)
    save("resnet50_keras", shapes, arrays)


def vgg16_real(path: str) -> None:
    """About 300 evenly spaced activations per stage with the real weights, which are not redistributed."""
    features = torchvision.models.vgg16().features
    state = torch.load(path, weights_only=True)
    features.load_state_dict({name.removeprefix("features."): tensor for name, tensor in state.items()})
    arrays = run_stages(vgg_stages(features), seeded_weights.image(96, 64))
    save("vgg16_real", {}, {name: array.ravel()[:: max(array.size // 300, 1)] for name, array in arrays.items()})


if __name__ == "__main__":
    for depth in (18, 50, 101):
        resnet_torchvision(depth)
    for make in (vgg16_torchvision, mobilenet_v2_torchvision, mobilenet_v2_timm, efficientnet_lite0, histonet):
        make()
    for make in (vgg16_keras, resnet50_keras):
        make()
    for library in ("torchvision", "timm"):
        densenet121(library)
    dinov2_vits14("dinov2", 42)
    dinov2_vits14("timm", 28)
    position_embeddings()
    if sys.argv[1:]:
        vgg16_real(sys.argv[1])
