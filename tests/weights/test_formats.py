import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from weights.test_pickles import dumps, storage, tensor, write

from alljax.errors import WeightsError
from alljax.weights.conversion import read_weights

FIXTURES = Path(__file__).parent / "fixtures"
SIX = np.arange(6, dtype="<f4").reshape(2, 3)


def expected(file: str) -> dict[str, np.ndarray]:
    """The arrays that the original library had in a file (see make_fixtures.py); uint16 is not read."""
    found = {}
    with np.load(FIXTURES / "expected.npz") as values:
        for name in values.files:
            if name.startswith(f"{file}/") and not name.endswith("/uint16"):
                key, _, bfloat16 = name.removeprefix(f"{file}/").partition(":bfloat16")
                bits = name.endswith(":bfloat16")
                found[key + bfloat16] = values[name].view(ml_dtypes.bfloat16) if bits else values[name]
    assert found
    return found


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    return line


@pytest.mark.parametrize(
    ("file", "values"), [("zip.pth", "torch"), ("legacy.pth", "torch"), ("model.safetensors", "safetensors")]
)
def test_files_of_the_original_libraries(file: str, values: str, tmp_path: Path) -> None:
    (tmp_path / "renamed.bin").write_bytes((FIXTURES / file).read_bytes())
    assert_same(read_weights(tmp_path / "renamed.bin"), expected(values))


@pytest.mark.parametrize("protocol", [2, 5])
def test_pickled_numpy(protocol: int, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "float32": SIX,
        "fortran": np.asfortranarray(SIX),
        "float16": SIX.astype(np.float16),
        "bfloat16": SIX.astype(ml_dtypes.bfloat16),
        "big": SIX.astype(">f4"),
        "int64": np.arange(3),
        "bool": np.array([True, False]),
        "scalar": np.array(1.5),
        "empty": np.zeros((0, 3), np.float32),
    }
    other = {"objects": np.array([{}, None]), "record": np.zeros(2, [("x", "f4")]), "number": np.float64(0.9)}
    (tmp_path / "F").write_bytes(pickle.dumps(arrays | other, protocol))
    assert_same(read_weights(tmp_path / "F"), arrays)


# Keras


def test_keras_file() -> None:
    wanted = {f"{name.partition('/')[0]}/{name}": array for name, array in expected("keras_new.h5").items()}
    assert_same(read_weights(FIXTURES / "keras_new.h5"), wanted)


def test_keras_file_without_h5py_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(WeightsError, match=r"pip install 'alljax\[keras\]'"):
        read_weights(FIXTURES / "keras_new.h5")


def test_keras_names_are_paths(tmp_path: Path) -> None:
    """Keras 1 stored names without the layer; a model inside another one is one layer."""
    names = ["vgg16/block1_conv1/kernel:0", "vgg16/block1_conv1/bias:0", "dense/dense/kernel:0", "old/old_W:0"]
    with h5py.File(tmp_path / "F.h5", "w") as file:
        for name in names:
            file.create_dataset(f"model_weights/{name}", data=SIX, compression="gzip")
        file["optimizer_weights/momentum"] = SIX
    assert_same(read_weights(tmp_path / "F.h5"), dict.fromkeys(names, SIX))


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, **config}}


INNER = [layer("Conv2D", "conv1_conv"), layer("BatchNormalization", "conv1_bn"), layer("Conv2D", "conv2")]
NESTED = layer("Functional", "", layers=[layer("Functional", "resnet50", layers=INNER), layer("Dense", "head")])


@pytest.mark.parametrize("named", [True, False], ids=["with layer names", "Keras 3.0"])
def test_keras_archive(named: bool, tmp_path: Path) -> None:
    kernel = SIX.reshape(1, 1, 2, 3)
    layers: dict[str, tuple[str, dict[str, np.ndarray]]] = {
        "layers/functional/layers/conv2d": ("conv1_conv", {"kernel": kernel, "bias": SIX[0]}),
        "layers/functional/layers/batch_normalization": (
            "conv1_bn",
            {kind: SIX[0] + n for n, kind in enumerate(("gamma", "beta", "moving_mean", "moving_variance"))},
        ),
        "layers/functional/layers/conv2d_1": ("conv2", {"kernel": kernel + 1}),
        "layers/dense": ("head", {"kernel": SIX, "bias": SIX[0]}),
    }
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        for path, (name, arrays) in layers.items():
            group = file.create_group(f"{path}/vars")
            group.attrs.update({"name": name} if named else {})
            for number, array in enumerate(arrays.values()):
                group[str(number)] = array
        file["optimizer/vars/0"] = SIX
    if not named:
        assert "without names of Keras layers; load it in Keras" in refusal(tmp_path / "model.weights.h5")
    with zipfile.ZipFile(tmp_path / "F.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(NESTED))
        archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
    wanted = {f"{name}/{kind}": array for name, arrays in layers.values() for kind, array in arrays.items()}
    assert_same(read_weights(tmp_path / "F.keras"), wanted)


def test_keras_3_weights_file() -> None:
    shapes = {name: array.shape for name, array in read_weights(FIXTURES / "keras_3.weights.h5").items()}
    assert shapes == {"fc1/kernel": (4, 2), "fc1/bias": (2,)}


# Refused files


@pytest.mark.parametrize(
    ("file", "kind"),
    [("whole_model_legacy.pth", "torch.nn.modules.linear.Linear"), ("complex.pth", "torch.ComplexFloatStorage")],
)
def test_unsupported_files_name_the_way_out(file: str, kind: str) -> None:
    message = refusal(FIXTURES / file)
    assert f"objects of {kind}" in message
    assert "torch.save(model.state_dict(), FILE)" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
        (b"hello, world", "not a weight file"),
    ],
)
def test_not_weights(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "F.pth").write_bytes(content)
    assert message in refusal(tmp_path / "F.pth")


def test_folders_and_other_archives(tmp_path: Path) -> None:
    assert "model.save('FILE.keras')" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "missing.pth")
    np.savez(tmp_path / "F.npz", a=SIX)
    assert "without PyTorch or Keras weights" in refusal(tmp_path / "F.npz")


@pytest.mark.parametrize("file", ["zip.pth", "legacy.pth", "model.safetensors", "keras_new.h5"])
def test_truncated(file: str, tmp_path: Path) -> None:
    content = (FIXTURES / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) // 2])
    assert "damaged or incomplete" in refusal(tmp_path / file)


@pytest.mark.parametrize("kind", ["HDF5", "zip", "tensor"])
def test_declared_sizes_are_checked_before_memory_is_used(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "F"
    monkeypatch.setenv("ALLJAX_READ_GB", "1e-3")
    match kind:
        case "HDF5":
            with h5py.File(path, "w") as file:
                file.create_dataset("conv1/conv1/kernel:0", (10**12,), "f4", chunks=(1024,))
        case "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("model/data.pkl", bytes(2_000_000))
        case _:
            write(path, "legacy", dumps({"a": tensor(storage("0", 10**12), shape=(10**12,), stride=(1,))}))
    assert path.stat().st_size < 10_000
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert f"{kind} " in message
    assert message.endswith(" GB of memory, more than 0.00 GB (ALLJAX_READ_GB=0.001); replace or remove it")
