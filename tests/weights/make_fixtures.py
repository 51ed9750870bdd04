"""Writes the small weight files in `fixtures/` with the original libraries.

Run by hand in a separate environment; the tests only read the files:

    python3.11 -m venv /tmp/fixtures
    /tmp/fixtures/bin/pip install torch==2.13.0 safetensors==0.8.0 keras==3.15.0 h5py==3.16.0 numpy==2.4.6
    KERAS_BACKEND=torch /tmp/fixtures/bin/python tests/weights/make_fixtures.py

Written are PyTorch's two containers with every supported type and layout, a checkpoint, a pickled module, unsupported
tensors; safetensors; Keras's legacy HDF5 with new and old layer names, a complete Keras model, Keras 3's weights file,
and, with h5py, names of Keras 1.  The expected values are in expected.npz as ``FILE/TENSOR``, and bfloat16, which npz
does not support, as uint16 bits under ``FILE/TENSOR:bfloat16``.
"""

from collections import OrderedDict
from pathlib import Path

import h5py
import keras
import numpy as np
import torch
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent / "fixtures"


def state_dict() -> OrderedDict:
    """The state dict of a module (with _metadata), and one tensor per type and per layout."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(5, 2))
    tensors = module.state_dict()
    base = torch.randn(6, 4)
    tensors["float16"] = base.half()
    tensors["bfloat16"] = base.bfloat16()
    tensors["float64"] = base.double()
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16):
        tensors[str(dtype).removeprefix("torch.")] = torch.arange(7).to(dtype)
    tensors["bool"] = base > 0
    tensors["shared"] = base
    tensors["shared_row"] = base[2]
    tensors["transposed"] = base.t()
    tensors["strided"] = base[::2, 1::2]
    tensors["expanded"] = base[:1, :1].expand(3, 2)
    tensors["parameter"] = torch.nn.Parameter(torch.randn(2, 3))
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 3)
    return tensors


def write_torch(expected: dict[str, np.ndarray]) -> None:
    tensors = state_dict()
    torch.save(tensors, FIXTURES / "zip.pth")
    torch.save(tensors, FIXTURES / "legacy.pth", _use_new_zipfile_serialization=False)
    model = OrderedDict((f"module.{name}", tensors[name]) for name in ("0.weight", "0.bias", "bfloat16"))
    checkpoint = {"epoch": 3, "state_dict": model, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    torch.save(checkpoint, FIXTURES / "checkpoint.pth")
    for name, tensor in tensors.items():
        expect(expected, f"torch/{name}", tensor)
    module = torch.nn.Linear(2, 2)
    torch.save(module, FIXTURES / "whole_model.pth")
    torch.save(module, FIXTURES / "whole_model_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"a": torch.eye(2).to_sparse()}, FIXTURES / "sparse.pth")
    torch.save({"a": torch.ones(2, dtype=torch.complex64)}, FIXTURES / "complex.pth")


def write_safetensors(expected: dict[str, np.ndarray]) -> None:
    tensors = {
        name: tensor.contiguous()
        for name, tensor in state_dict().items()
        if name in ("0.weight", "float16", "bfloat16", "int64", "scalar", "empty")
    }
    save_file(tensors, FIXTURES / "model.safetensors", metadata={"format": "pt"})
    for name, tensor in tensors.items():
        expect(expected, f"safetensors/{name}", tensor)


def keras_model(convolution: str, norm: str, dense: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="input_1")
    outputs = keras.layers.Conv2D(4, 3, name=convolution)(inputs)
    outputs = keras.layers.BatchNormalization(name=norm)(outputs)
    outputs = keras.layers.GlobalAveragePooling2D(name="avg_pool")(outputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name=dense)(outputs))
    generator = np.random.default_rng(0)
    model.set_weights([generator.random(weight.shape, np.float32) for weight in model.weights])
    return model


def write_keras(expected: dict[str, np.ndarray]) -> None:
    for file, names in {
        "keras_new.h5": ("conv1_conv", "conv1_bn", "predictions"),
        "keras_old.h5": ("res2a_branch2a", "bn2a_branch2a", "fc1000"),
    }.items():
        model = keras_model(*names)
        with h5py.File(FIXTURES / file, "w") as group:
            save_weights_to_hdf5_group(group, model)
        for weight in model.weights:
            expected[f"{file}/{weight.path}"] = keras.ops.convert_to_numpy(weight)
    sequential = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="fc1")], name="own")
    sequential.save(FIXTURES / "keras_model.h5")
    for weight in sequential.weights:
        name = f"keras_model.h5/{weight.path.removeprefix('own/')}"
        expected[name] = keras.ops.convert_to_numpy(weight)
    sequential.save_weights(FIXTURES / "keras_3.weights.h5")
    kernel, bias = (np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4), np.arange(4, dtype=np.float32))
    with h5py.File(FIXTURES / "keras_1.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"input_1", b"block1_conv1"])
        file.create_group("input_1").attrs["weight_names"] = np.array([])
        layer = file.create_group("block1_conv1")
        layer.attrs["weight_names"] = np.array([b"block1_conv1_W_1:0", b"block1_conv1_b_1:0"])
        layer["block1_conv1_W_1:0"], layer["block1_conv1_b_1:0"] = kernel, bias
    expected["keras_1.h5/block1_conv1/block1_conv1_W_1:0"] = kernel
    expected["keras_1.h5/block1_conv1/block1_conv1_b_1:0"] = bias


def expect(expected: dict[str, np.ndarray], name: str, tensor: torch.Tensor) -> None:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        expected[f"{name}:bfloat16"] = tensor.contiguous().view(torch.uint16).numpy()
    else:
        expected[name] = tensor.numpy()


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    values: dict[str, np.ndarray] = {}
    write_torch(values)
    write_safetensors(values)
    write_keras(values)
    np.savez_compressed(FIXTURES / "expected.npz", **values)
    for written in FIXTURES.iterdir():
        written.chmod(0o644)
    print(sum(path.stat().st_size for path in FIXTURES.iterdir()), "bytes in", FIXTURES)
