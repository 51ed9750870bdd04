"""Writes the small weight files in `fixtures/` with the original libraries.

Run by hand in a separate environment; the tests only read the files:

    python3.11 -m venv /tmp/fixtures
    /tmp/fixtures/bin/pip install torch==2.13.0 safetensors==0.8.0 keras==3.15.0 h5py==3.16.0 numpy==2.4.6
    KERAS_BACKEND=torch /tmp/fixtures/bin/python tests/weights/make_fixtures.py

The expected values are in expected.npz as ``FILE/TENSOR``, and bfloat16, which npz does not support, as uint16 bits
under ``FILE/TENSOR:bfloat16``.
"""

from pathlib import Path

import h5py
import keras
import numpy as np
import torch
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent / "fixtures"


def state_dict() -> dict[str, torch.Tensor]:
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
    torch.save(torch.nn.Linear(2, 2), FIXTURES / "whole_model_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"a": torch.ones(2, dtype=torch.complex64)}, FIXTURES / "complex.pth")
    chosen = ("0.weight", "float16", "bfloat16", "int64", "scalar", "empty")
    save_file({name: tensors[name].contiguous() for name in chosen}, FIXTURES / "model.safetensors", {"format": "pt"})
    for name, tensor in tensors.items():
        half = tensor.dtype == torch.bfloat16
        values = tensor.detach().contiguous().view(torch.uint16) if half else tensor.detach()
        for file in ("torch", "safetensors") if name in chosen else ("torch",):
            expected[f"{file}/{name}{':bfloat16' if half else ''}"] = values.numpy()


def write_keras(expected: dict[str, np.ndarray]) -> None:
    """Keras's legacy HDF5 with names of layers, and Keras 3's weights file without names of variables."""
    inputs = keras.Input((8, 8, 3), name="input_1")
    outputs = keras.layers.Conv2D(4, 3, name="conv1_conv")(inputs)
    outputs = keras.layers.BatchNormalization(name="conv1_bn")(outputs)
    outputs = keras.layers.GlobalAveragePooling2D(name="avg_pool")(outputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="predictions")(outputs))
    generator = np.random.default_rng(0)
    model.set_weights([generator.random(weight.shape, np.float32) for weight in model.weights])
    with h5py.File(FIXTURES / "keras_new.h5", "w") as group:
        save_weights_to_hdf5_group(group, model)
    for weight in model.weights:
        expected[f"keras_new.h5/{weight.path}"] = keras.ops.convert_to_numpy(weight)
    sequential = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="fc1")])
    sequential.save_weights(FIXTURES / "keras_3.weights.h5")


if __name__ == "__main__":
    arrays: dict[str, np.ndarray] = {}
    write_torch(arrays)
    write_keras(arrays)
    np.savez_compressed(FIXTURES / "expected.npz", **arrays)
