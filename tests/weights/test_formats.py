import os
import pickle
import random
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import containers
import h5py
import ml_dtypes
import numpy as np
import pytest
from containers import Made, Name, Persistent, Zip, dumps, storage, tensor, write_legacy

from alljax.errors import WeightsError
from alljax.weights import formats, keras_files, store

FIXTURES = Path(__file__).parent / "fixtures"
SIX = np.arange(6, dtype="<f4")


def expected(file: str) -> dict[str, np.ndarray]:
    """What the real library had in `file`, in its order."""
    found = {}
    with np.load(FIXTURES / "expected.npz") as values:
        for name in values.files:
            if name.startswith(f"{file}/"):
                tensor, _, kind = name.removeprefix(f"{file}/").partition(":bfloat16")
                bits = name.endswith(":bfloat16")
                found[tensor + kind] = values[name].view(ml_dtypes.bfloat16) if bits else values[name]
    assert found
    return found


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def refusal(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(WeightsError) as caught:
        formats.read(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert line.isprintable()
    return line


# What the real libraries wrote


@pytest.mark.parametrize(("file", "format"), [("zip.pth", "PyTorch (zip)"), ("legacy.pth", "PyTorch (legacy)")])
def test_torch_containers(file: str, format: str) -> None:
    read = formats.load(FIXTURES / file)
    assert read.format == format
    assert read.notes == ()
    same(read.tensors, expected("torch"))


def test_torch_tensors_are_views_of_the_file() -> None:
    tensors = formats.read(FIXTURES / "zip.pth")
    assert not any(array.flags.owndata or array.flags.writeable for array in tensors.values() if array.size)
    assert np.shares_memory(tensors["shared"], tensors["shared_row"])
    assert tensors["transposed"].strides == (4, 16)


def test_checkpoint_is_unwrapped_and_said() -> None:
    read = formats.load(FIXTURES / "checkpoint.pth")
    whole = expected("torch")
    same(read.tensors, {name: whole[name] for name in ("0.weight", "0.bias", "bfloat16")})
    assert "'state_dict' was read" in read.notes[0]
    assert "'epoch'" in read.notes[0]
    assert "'module.'" in read.notes[1]


def test_safetensors() -> None:
    read = formats.load(FIXTURES / "model.safetensors")
    assert read.format == "safetensors"
    wanted = expected("safetensors")
    same({name: read.tensors[name] for name in wanted}, wanted)
    assert len(read.tensors) == len(wanted)


@pytest.mark.parametrize("file", ["keras_new.h5", "keras_old.h5", "keras_model.h5", "keras_1.h5"])
def test_keras(file: str) -> None:
    read = formats.load(FIXTURES / file)
    assert read.format == "Keras HDF5"
    same(read.tensors, expected(file))


def test_keras_names_split_over_attributes(tmp_path: Path) -> None:
    # Above 64 kB Keras splits a list of names.
    with h5py.File(tmp_path / "F.h5", "w") as file:
        file.attrs["layer_names0"], file.attrs["layer_names1"] = np.array([b"a"]), np.array([b"b"])
        for layer in "ab":
            file.create_group(layer).attrs["weight_names"] = np.array([f"{layer}/kernel:0".encode()])
            file[layer][f"{layer}/kernel:0"] = SIX
    same(formats.read(tmp_path / "F.h5"), {"a/kernel:0": SIX, "b/kernel:0": SIX})


def test_format_is_told_by_content(tmp_path: Path) -> None:
    for name in ("zip.pth", "legacy.pth", "model.safetensors", "keras_new.h5"):
        renamed = tmp_path / f"{name}.bin"
        renamed.write_bytes((FIXTURES / name).read_bytes())
        same(formats.read(renamed), formats.read(FIXTURES / name))


# Pickled NumPy arrays


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_numpy(protocol: int, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "float32": SIX.reshape(2, 3),
        "fortran": np.asfortranarray(SIX.reshape(2, 3)),
        "float16": SIX.astype(np.float16),
        "bfloat16": SIX.astype(ml_dtypes.bfloat16),
        "big": SIX.astype(">f4"),
        "int64": np.arange(3),
        "bool": np.array([True, False]),
        "scalar": np.array(1.5),
        "empty": np.zeros((0, 3), np.float32),
    }
    nested = {"VGG16_0": OrderedDict(Conv_0={"kernel": SIX}), "list": [SIX], "epoch": 3, **arrays}
    path = tmp_path / "F.ckpt"
    path.write_bytes(pickle.dumps(nested, protocol))
    read = formats.load(path)
    arrays["big"] = SIX
    same(read.tensors, {"VGG16_0/Conv_0/kernel": SIX, "list/0": SIX, **arrays})
    assert read.format == "pickled NumPy"
    assert read.notes == ("entries that are no arrays were left out: 'epoch'",)


def test_pickled_numpy_of_python_2(tmp_path: Path) -> None:
    # Python 2 wrote bytes as text, and NumPy's core had another name.
    kind = Made(Name("numpy.dtype"), ("f4", 0, 1), (3, "<", None, None, None, -1, -1, 0))
    array = Made(Name("numpy.core.multiarray._reconstruct"), (Name("numpy.ndarray"), (0,), "b"))
    array.state = (1, (6,), kind, False, SIX.tobytes().decode("latin-1"))
    path = containers.write_bare(tmp_path / "F", dumps({"a": array}))
    same(formats.read(path), {"a": SIX})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": np.array([{}, None])}, "array of Python objects"),
        ({"a": np.zeros(2, [("x", "f4")])}, "only arrays of numbers"),
        ({"a": np.array(["text"])}, "only arrays of numbers"),
        ({"a": np.array(["2026"], "M8[D]")}, "only arrays of numbers"),
        ({"a": np.float32(1)}, "scalar"),
        ({(1, 2): SIX}, "key that is a tuple"),
        ({"a": 3}, "holds no tensors"),
    ],
)
def test_other_pickles_are_refused(value: object, says: str, tmp_path: Path) -> None:
    path = tmp_path / "F.ckpt"
    path.write_bytes(pickle.dumps(value, 4))
    assert says in refusal(path)


def test_dictionaries_that_hold_one_another_are_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    doubled: dict[str, Any] = {"a": SIX}
    for _ in range(40):
        doubled = {"a": doubled, "b": doubled}
    for value in (endless, doubled):
        path = tmp_path / "F.ckpt"
        path.write_bytes(pickle.dumps(value, 4))
        assert "hold one another" in refusal(path)


# What old versions wrote


def test_parameters_of_the_first_versions(tmp_path: Path) -> None:
    parameter = Name("torch.nn.parameter.Parameter")
    for legacy in (False, True):
        view = tensor(storage(legacy=legacy), version="")
        values = {
            "with state": Made(parameter, (view,), (True, False, OrderedDict()), new=True),
            "data in state": Made(parameter, (), (view, None, None, True, False), new=True),
            "tensor by state": Made(Name("torch.FloatTensor"), (), (storage(legacy=legacy), 0, (2, 3), (3, 1))),
            "rebuilt": Made(Name("torch._utils._rebuild_parameter"), (view, True, OrderedDict())),
        }
        path = tmp_path / "F.pth"
        if legacy:
            write_legacy(path, dumps(values), {"0": (6, SIX.tobytes())})
        else:
            Zip(dumps(values), {"0": SIX.tobytes()}).write(path)
        same(formats.read(path), dict.fromkeys(values, SIX.reshape(2, 3)))


def test_legacy_stretch_of_a_storage(tmp_path: Path) -> None:
    stretch = Persistent(("storage", Name("torch.FloatStorage"), "0", "cpu", 6, ("1", 2, 3)))
    values = {"a": tensor(stretch, 1, (2,), (1,))}
    path = write_legacy(tmp_path / "F.pth", dumps(values), {"0": (6, SIX.tobytes())})
    same(formats.read(path), {"a": SIX[3:5]})
    stretch.identity = (*stretch.identity[:-1], ("1", 4, 3))
    write_legacy(path, dumps(values), {"0": (6, SIX.tobytes())})
    assert "damaged" in refusal(path)


def test_big_endian(tmp_path: Path) -> None:
    half = SIX.astype(ml_dtypes.bfloat16)
    values = {
        "float32": tensor(storage("0")),
        "bfloat16": tensor(storage("1", kind="torch.BFloat16Storage"), 0, (3, 2), (1, 3)),
        "bool": tensor(storage("2", kind="torch.BoolStorage"), 0, (6,), (1,)),
    }
    raw = {
        "0": SIX.astype(">f4").tobytes(),
        "1": half.view("<u2").astype(">u2").tobytes(),
        "2": (SIX > 2).tobytes(),
    }
    path = Zip(dumps(values), raw, byteorder=b"big").write(tmp_path / "F.pth")
    same(formats.read(path), {"float32": SIX.reshape(2, 3), "bfloat16": half.reshape(2, 3).T, "bool": SIX > 2})
    Zip(dumps(values), raw, byteorder=b"middle").write(path)
    assert "byte order" in refusal(path)


# Claims that are not true


@pytest.mark.parametrize(
    "view",
    [
        tensor(storage(count=7)),
        tensor(storage(count=10**15), 0, (10**15,), (1,)),
        tensor(storage(), 0, (2, 4), (4, 1)),
        tensor(storage(), 1),
        tensor(storage(), -1),
        tensor(storage(), 5, (2, 3), (-3, -1)),
        tensor(storage(), 0, (2, 3), (2**61, 1)),
        tensor(storage(), 0, (2**62, 4), (0, 0)),
        tensor(storage(), 0, (-2, -3), (3, 1)),
        tensor(storage(), 0, (2, 3), (3,)),
        tensor(storage(), 0, (2.0, 3), (3, 1)),
        tensor(storage(), 0, (1,) * 100, (1,) * 100),
        tensor(storage(count=-6)),
        tensor(storage(count=True)),
        tensor(storage("9")),
        tensor(storage("../data.pkl")),
        tensor(storage(kind="torch.DoubleStorage")),
        tensor(SIX.tolist()),
        tensor(storage(), 0, (0, 2**62), (1, 1)),
        Made(Name("torch.FloatTensor"), ()),
    ],
)
def test_tensors_that_point_outside_their_storage(view: Made, tmp_path: Path) -> None:
    path = Zip(dumps({"a": view}), {"0": SIX.tobytes()}).write(tmp_path / "F.pth")
    assert "damaged or cut short" in refusal(path)


@pytest.mark.parametrize("count", [-1, 7, 2**40, -(2**63)])
def test_legacy_storage_past_the_end(count: int, tmp_path: Path) -> None:
    values = dumps({"a": tensor(storage(legacy=True))})
    assert "damaged or cut short" in refusal(write_legacy(tmp_path / "F.pth", values, {"0": (count, SIX.tobytes())}))


def test_pickled_array_of_another_size_than_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "F"
    path.write_bytes(pickle.dumps({"a": SIX}, 4).replace(b"K\x06\x85", b"K\x07\x85"))
    assert "24 bytes" in refusal(path)


def keras_file(path: Path, **options: Any) -> Path:
    """One weight named a/kernel:0, made as `options` say."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"a"])
        group = file.create_group("a")
        group.attrs["weight_names"] = np.array([b"a/kernel:0"])
        group.create_dataset("a/kernel:0", **options)
    return path


def test_keras_datasets_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "F.h5"
    same(formats.read(keras_file(path, data=SIX.astype(">f2"))), {"a/kernel:0": SIX.astype(np.float16)})
    same(formats.read(keras_file(path, shape=(0, 3), dtype="f4")), {"a/kernel:0": np.zeros((0, 3), np.float32)})
    assert "in chunks" in refusal(keras_file(path, shape=(2**40,), dtype="f4", chunks=(1024,)))
    assert "compressed" in refusal(keras_file(path, data=SIX, compression="gzip"))
    assert "not numbers" in refusal(keras_file(path, data=[b"text"]))


def test_keras_group_without_its_weight(tmp_path: Path) -> None:
    path = keras_file(tmp_path / "F.h5", data=SIX)
    with h5py.File(path, "a") as file:
        del file["a/a/kernel:0"]
    assert "damaged" in refusal(path)


# One byte of keras_new.h5 with which HDF5 2.0 crashes, and one with which it never comes back.
@pytest.mark.parametrize(("place", "value"), [(857, 9), (2256, 0x54)], ids=["crash", "endless"])
def test_what_the_hdf5_library_does_not_survive(
    place: int, value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_files, "PATIENCE", 3.0)
    content = bytearray((FIXTURES / "keras_new.h5").read_bytes())
    content[place] = value
    path = tmp_path / "F.h5"
    path.write_bytes(content)
    assert "damaged or cut short" in refusal(path)


def test_keras_links_out_of_the_file_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SIX.tobytes())
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["kernel"] = SIX
    for number in range(3):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = np.array([b"a"])
            group = file.create_group("a")
            group.attrs["weight_names"] = np.array([b"kernel"])
            if number == 0:
                group.create_dataset("kernel", (6,), "f4", external=[(str(secret), 0, 24)])
            elif number == 1:
                group["kernel"] = h5py.ExternalLink(str(other), "kernel")
            else:
                layout = h5py.VirtualLayout((6,), "f4")
                layout[:] = h5py.VirtualSource(str(other), "kernel", (6,))
                group.create_virtual_dataset("kernel", layout)
        assert "not followed" in refusal(path)


def test_compressed_entry_and_wrong_checksum(tmp_path: Path) -> None:
    values = dumps({"a": tensor(storage())})
    path = Zip(values, {"0": SIX.tobytes()}, compression=zipfile.ZIP_DEFLATED).write(tmp_path / "F.pth")
    assert "compressed or encrypted" in refusal(path)
    Zip(values, {"0": SIX.tobytes()}).write(path)
    content = bytearray(path.read_bytes())
    content[content.index(SIX.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert "checksum" in refusal(path)


# Files that are no weights, or no longer whole


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty (0 bytes)"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
        (b"\x1f\x8b\x08\x00whatever", "unpack it"),
        (b"hello, world", "not a weight file"),
        (b"\x00" * 100, "not a weight file"),
        (b"PK\x03\x04", "damaged or cut short"),
        (b"\x80\x02", "damaged or cut short"),
        (b"\x89HDF\r\n\x1a\n", "damaged or cut short"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "damaged or cut short"),
    ],
)
def test_not_weights(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "F.pth"
    path.write_bytes(content)
    assert says in refusal(path)


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nowhere.pth")
    assert "folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "device" in refusal(tmp_path / "pipe")


def test_other_archives(tmp_path: Path) -> None:
    path = tmp_path / "F.pth"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    assert "PyTorch before 0.2" in refusal(path)
    np.savez(tmp_path / "F.npz", a=SIX)
    assert ".npz" in refusal(tmp_path / "F.npz")
    for name, says in {"model.weights.h5": ".keras", "notes.txt": "unpack it"}.items():
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "x")
        assert says in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", dumps({}))
        archive.writestr("model/constants.pkl", dumps(()))
    assert "TorchScript" in refusal(path)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("whole_model.pth", "torch.nn.modules.linear.Linear"),
        ("whole_model_legacy.pth", "torch.nn.modules.linear.Linear"),
        ("sparse.pth", "sparse tensors"),
        ("complex.pth", "complex tensors"),
        ("keras_3.weights.h5", "model.save('FILE.h5')"),
    ],
)
def test_what_is_known_and_not_read(file: str, says: str) -> None:
    assert says in refusal(FIXTURES / file)


def test_no_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "F.pth"
    for value, says in {
        "a list": ([tensor(storage())], "no dictionary of tensors"),
        "a checkpoint without": ({"epoch": 3, "state_dict": {}}, "it has 'epoch', 'state_dict'"),
        "a quantized tensor": ({"a": tensor(storage(kind="torch.QInt8Storage"))}, "quantized tensors"),
        "a conjugate": ({"a": tensor(storage(), 0, (2, 3), (3, 1), {"conj": True})}, "conjugate"),
    }.values():
        Zip(dumps(value), {"0": SIX.tobytes()}).write(path)
        assert says in refusal(path)


@pytest.mark.parametrize("file", ["zip.pth", "legacy.pth", "model.safetensors", "keras_new.h5"])
def test_truncated(file: str, tmp_path: Path) -> None:
    whole = (FIXTURES / file).read_bytes()
    path = tmp_path / file
    # HDF5 leaves room at its end that no weight lies in; half a file is broken in any format.
    for share in (0.1, 0.5, 0.7):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "damaged or cut short" in refusal(path)


# Pickles that want to run code


class Wants:
    """Its pickle calls a function when it is opened freely."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


class WantsState:
    """Its pickle calls `__setstate__` when it is opened freely."""

    def __init__(self, place: str = "") -> None:
        self.place = place

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["place"]).touch()


def evil_pickles(canary: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would leave `canary` behind, each with what its refusal must name."""
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    call = Made(Name("os.system"), (touch,))
    stored = Persistent(("storage", call, "0", "cpu", 1))
    hooked = tensor(storage(), 0, (2, 3), (3, 1), {"metadata": call})
    return {
        "os.system": (pickle.dumps({"a": Wants(os.system, touch)}, 2), f"{os.system.__module__}.system"),
        "eval": (pickle.dumps({"a": Wants(eval, code)}, 4), "builtins.eval"),
        "exec": (pickle.dumps([Wants(exec, code)], 5), "builtins.exec"),
        "setstate": (pickle.dumps(WantsState(str(canary)), 2), "WantsState"),
        "setstate 4": (pickle.dumps({"a": WantsState(str(canary))}, 4), "WantsState"),
        # Protocol 0 has no mark by which it could be told from text: it is given that of protocol 2.
        "old instance": (f"\x80\x02(S'{touch}'\nios\nsystem\n.".encode("latin-1"), "os.system"),
        "old object": (f"\x80\x02(cos\nsystem\nS'{touch}'\no.".encode("latin-1"), "os.system"),
        "state of a dictionary": (dumps(Made(Name("collections.OrderedDict"), (), call)), "os.system"),
        "in a persistent id": (dumps({"a": stored}), "os.system"),
        "in a tensor": (dumps({"a": hooked}), "os.system"),
    }


def odd_pickles() -> dict[str, tuple[bytes, str]]:
    """Pickles that do nothing by themselves and use what no weight file needs."""
    return {
        "codec": (dumps({"a": Made(Name("_codecs.encode"), ("x", "rot13"))}), "codec"),
        "extension": (b"\x80\x02\x82\x01.", "EXT1"),
        "name with dots": (b"\x80\x04\x8c\x05torch\x8c\x0bload.system\x93.", "torch.load.system"),
        "name with a line break": (b"\x80\x04\x8c\x02os\x8c\x07sys\ntem\x93.", "os.sys"),
        "torch.load": (dumps(Made(Name("torch.load"), ("F",))), "torch.load"),
        "numpy.load": (dumps(Made(Name("numpy.load"), ("F", None, True))), "numpy.load"),
        "attribute of a function": (
            dumps(Made(Name("collections.OrderedDict"), ())).replace(b")R", b"}b"),
            "sets attributes",
        ),
        "call of a dictionary": (b"\x80\x02})R.", "calls something"),
        "item of a type": (b"\x80\x02ctorch\nFloatStorage\nK\x01K\x02s.", "dictionary"),
        "buffer outside": (b"\x80\x05\x97.", "NEXT_BUFFER"),
        "set": (pickle.dumps({1, 2}, 4), "EMPTY_SET"),
        "memo of 64 GB": (b"\x80\x02}r\xff\xff\xff\xff.", "holds no"),
    }


@pytest.mark.parametrize("container", containers.CONTAINERS)
@pytest.mark.parametrize("kind", evil_pickles(Path("canary")))
def test_no_code_runs(kind: str, container: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickled, name = evil_pickles(canary)[kind]
    line = refusal(containers.CONTAINERS[container](tmp_path / "F.pth", pickled))
    # As a bare pickle it knows no tensors, and their name comes first.
    assert name in line or (container == "bare pickle" and "torch." in line)
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["os.system", "eval", "exec", "setstate", "setstate 4", "old instance", "old object"])
def test_the_canary_sings_where_code_runs(kind: str, tmp_path: Path) -> None:
    pickle.loads(evil_pickles(tmp_path / "canary")[kind][0])
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("container", containers.CONTAINERS)
@pytest.mark.parametrize("kind", odd_pickles())
def test_odd_pickles_are_refused(kind: str, container: str, tmp_path: Path) -> None:
    pickled, says = odd_pickles()[kind]
    line = refusal(containers.CONTAINERS[container](tmp_path / "F.pth", pickled))
    assert says in line or (container == "bare pickle" and "torch." in line)


# Damage of any kind


def mutated(content: bytes, generator: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or cut off."""
    damaged = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(damaged))
        match generator.randrange(5):
            case 0:
                damaged[place] = generator.randrange(256)
            case 1:
                damaged[place] ^= 1 << generator.randrange(8)
            case 2:
                del damaged[place : place + generator.randint(1, 9)]
            case 3:
                damaged[place:place] = damaged[place : place + generator.randint(1, 9)]
            case 4:
                del damaged[max(place, 1) :]
        if not damaged:
            return b"P"
    return bytes(damaged)


# A Keras file takes a process of its own each time.
TIMES = {
    "zip.pth": 120,
    "legacy.pth": 150,
    "checkpoint.pth": 50,
    "model.safetensors": 60,
    "keras_1.h5": 8,
    "keras_new.h5": 8,
    "F.ckpt": 120,
}


@pytest.mark.parametrize("file", TIMES)
def test_damage_never_escapes_as_another_error(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_files, "PATIENCE", 3.0)
    if file == "F.ckpt":
        content = pickle.dumps({"a": {"kernel": SIX, "bias": SIX.astype(np.float16)}, "b": [SIX]}, 3)
    else:
        content = (FIXTURES / file).read_bytes()
    generator = random.Random(file)
    path = tmp_path / file
    refused = 0
    for _ in range(TIMES[file]):
        path.write_bytes(mutated(content, generator))
        try:
            tensors = formats.read(path)
        except WeightsError:
            refused += 1
        else:
            for array in tensors.values():
                np.array(array)  # every number of it is there to be read
    assert refused >= TIMES[file] // 4


# Real files


@pytest.mark.real
def test_real_vgg16(vgg16_weights: Path) -> None:
    tensors = formats.read(vgg16_weights)
    assert len(tensors) == 26
    assert tensors["features.28.weight"].shape == (512, 512, 3, 3)
    assert sum(array.size for array in tensors.values()) == 14_714_688


def test_real_legacy_file_of_an_installed_package() -> None:
    listed = next(each for each in store.listing() if each.source.name == "efficientnet-lite0")
    if listed.path is None:
        pytest.skip(f"real legacy .pth not checked: {listed.source.package} is not installed")
    tensors = formats.read(listed.path)
    trained = {name: array for name, array in tensors.items() if array.dtype == np.float32 and "running" not in name}
    assert sum(array.size for array in trained.values()) == 4_652_008
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert tensors["_bn0.num_batches_tracked"].dtype == np.int64
