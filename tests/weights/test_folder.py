"""A folder of weights in place of a file: known names, then hashes, then names that begin with the backbone's."""

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from alljax.weights.sources import Source

from alljax.errors import WeightsError
from alljax.weights import sources as sources_module
from alljax.weights import store

Plant = Callable[..., Path]


def content(name: str) -> bytes:
    return f"the weights {name}".encode() * 100


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    """Two sources of VGG16, one of ResNet50 and one of Keras's, none of them in the local store."""
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))

    def source(name: str, backbone: str, file: str) -> Source:
        return Source(
            name, backbone, "torchvision", file, "MIT", True, "torch", "none", url="http://localhost/",
            sha256=hashlib.sha256(content(name)).hexdigest(), default=name in ("vgg", "resnet", "keras"),
        )  # fmt: skip

    found = {
        "vgg": source("vgg", "vgg16", "vgg16-a.pth"),
        "timm": source("timm", "vgg16", "vgg16.tv_in1k.safetensors"),
        "resnet": source("resnet", "resnet50", "resnet50-b.pth"),
        "keras": source("keras", "resnet50_keras", "resnet50_weights.h5"),
    }
    monkeypatch.setattr(sources_module, "sources", lambda: found)
    monkeypatch.setattr(store, "sources", lambda: found)
    return found


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """plant(files): a folder of files, each with the content of a source, or of none."""

    def make(files: dict[str, str]) -> Path:
        (tmp_path / "weights").mkdir()
        for name, source in files.items():
            (tmp_path / "weights" / name).write_bytes(content(source))
        return tmp_path / "weights"

    return make


def fails(folder: Path, name: str, backbone: str) -> str:
    with pytest.raises(WeightsError) as caught:
        store.resolve(folder, name, backbone)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{folder}")
    return str(caught.value)


def test_one_folder_serves_all_backbones(plant: Plant, known: dict[str, Source]) -> None:
    folder = plant({"vgg16-a.pth": "vgg", "resnet50-b.pth": "resnet", "resnet50_weights.h5": "keras", "README.md": ""})
    for name in ("vgg", "resnet", "keras"):
        expected = store.Resolved(folder / known[name].file, known[name].sha256, known[name], "path")
        assert store.resolve(folder, "", known[name].backbone) == expected
        assert store.resolve(str(folder), name, known[name].backbone) == expected


def test_by_name_before_by_hash_before_by_beginning(plant: Plant, known: dict[str, Source]) -> None:
    folder = plant({"vgg16_features.pth": "mine", "renamed.PTH": "timm", "vgg16-a.pth": "vgg", "vgg16-c.txt": "mine"})
    for expected in (known["vgg"], known["timm"], None):
        resolved = store.resolve(folder, "", "vgg16")
        assert resolved.source == expected
        resolved.path.unlink()
    assert resolved.path.name == "vgg16_features.pth"
    fails(folder, "", "vgg16")


def test_the_source_asked_for_is_taken(plant: Plant, known: dict[str, Source]) -> None:
    folder = plant({"vgg16-a.pth": "vgg", "any.safetensors": "timm", "vgg16_mine.pth": "mine"})
    assert store.resolve(folder, "timm", "vgg16").path == folder / "any.safetensors"
    (folder / "any.safetensors").unlink()
    line = fails(folder, "timm", "vgg16")
    assert "looked for vgg16.tv_in1k.safetensors, and for the hashes" in line


def test_a_name_is_checked_as_if_the_file_were_given(plant: Plant, known: dict[str, Source]) -> None:
    folder = plant({"vgg16-a.pth": "mine", "resnet50_weights.h5": "resnet"})
    assert "wrong hash" in fails(folder, "vgg", "vgg16")
    assert "the weights resnet of resnet50, not of resnet50_keras" in fails(folder, "", "resnet50_keras")


@pytest.mark.parametrize(
    ("name", "backbone", "fits"),
    [
        ("vgg16_features-torchvision.pth", "vgg16", True),
        ("VGG16.pth", "vgg16", True),
        ("vgg160.pth", "vgg16", False),
        ("my_vgg16.pth", "vgg16", False),
        ("resnet50-keras-mine.h5", "resnet50_keras", True),
        ("resnet50d.pth", "resnet50", False),
        ("resnet50_weights.h5", "resnet50", False),  # a known name of another backbone
        ("resnet50-mine.pth", "resnet50", True),
        ("resnet50-mine.pth.part", "resnet50", False),
        (".resnet50.pth", "resnet50", False),
    ],
)
def test_names_that_begin_with_the_backbones(name: str, backbone: str, fits: bool, plant: Plant) -> None:
    folder = plant({name: "mine"})
    if fits:
        assert store.resolve(folder, "", backbone).path == folder / name
    else:
        fails(folder, "", backbone)


def test_none_says_what_was_seen_and_looked_for(plant: Plant) -> None:
    folder = plant({"resnet50-b.pth": "resnet", "README.md": ""})
    assert fails(folder, "", "vgg16") == (
        f"{folder}: no weights of vgg16 in this folder (only resnet50-b.pth); looked for vgg16-a.pth, "
        "vgg16.tv_in1k.safetensors, a file whose name begins with vgg16, and for the hashes of these: put one of them "
        "there, or give a file with --config.weights.path=FILE"
    )
    (folder / "resnet50-b.pth").unlink()
    assert "(no weight file at all); looked for a file whose name begins with efficient" in fails(
        folder, "", "efficient"
    )


@pytest.mark.parametrize(
    "files",
    [
        {"vgg16-a.pth": "vgg", "vgg16.tv_in1k.safetensors": "timm"},
        {"one.pth": "vgg", "two.pth": "vgg"},
        {"vgg16_one.pth": "mine", "vgg16_two.pth": "mine"},
    ],
)
def test_several_are_named(files: dict[str, str], plant: Plant) -> None:
    line = fails(plant(files), "", "vgg16")
    assert f"2 files may be the weights of vgg16: {', '.join(sorted(files))}; say which with" in line


def test_a_folder_that_cannot_be_read(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant({})

    def denied(*_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    for method in ("iterdir", "is_dir"):
        monkeypatch.setattr(Path, method, denied)
        assert "cannot be read (Permission denied)" in fails(folder, "", "vgg16")


@pytest.mark.real
def test_the_real_folder(vgg16_weights: Path) -> None:
    assert store.resolve(vgg16_weights.parent, "", "vgg16").path == vgg16_weights
