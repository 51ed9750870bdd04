"""The public Python API: the example in each docstring, and that results are those of the commands."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alljax
from alljax import cli
from alljax.errors import ConfigError, WeightsError

BACKBONE = {"weights": "random", "stage": "stage1", "image_size": 64}


@pytest.mark.parametrize("name", [name for name in alljax.__all__ if name != "__version__"])
def test_the_example_of_every_public_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in NumPy's documentation, examples use `alljax` and `np` without importing them."""
    monkeypatch.chdir(tmp_path)
    text = getattr(alljax, name).__doc__
    test = doctest.DocTestParser().get_doctest(text, {"alljax": alljax, "np": np}, name, None, 0)
    assert test.examples, "needs an example"
    output: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test, out=output.append)
    assert not output, "".join(output)


def test_import_loads_no_library_and_names_are_found_by_completion() -> None:
    code = "import sys; import alljax; print(*sorted(set(sys.modules) & {'jax', 'numpy', 'pandas', 'ml_collections'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert dir(alljax) == sorted(alljax.__all__)
    with pytest.raises(AttributeError, match="it has .*load_backbone"):
        alljax.load_backbon  # noqa: B018


def test_features_are_those_of_the_command(tmp_path: Path) -> None:
    """Images of two sizes, from a folder and as arrays, more than one batch; the command decodes PNG files."""
    rng, folder, arrays = np.random.default_rng(0), tmp_path / "cells", []
    for number in range(20):
        pixels = rng.integers(0, 256, (50 + number % 2, 40, 3), np.uint8)
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        arrays.append(pixels)
    words = ["model.stage=stage1", "weights.name=random", "preprocessing.image_size=64", f"data.source={folder}"]
    out = tmp_path / "features.npz"
    quickstart = f"--config={Path(__file__).parents[1] / 'configs/quickstart.py'}"
    assert cli.main(["features", quickstart, *(f"--config.{word}" for word in words), f"--out={out}"]) == 0
    stored = np.load(out)
    backbone = alljax.load_backbone("efficientnet_lite0", **BACKBONE)
    order = [int(Path(path).stem) for path in stored["paths"]]
    found = alljax.extract_features(backbone, [arrays[number] for number in order])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, stored["features"])
    np.testing.assert_array_equal(alljax.extract_features(backbone, [folder / path for path in stored["paths"]]), found)
    np.testing.assert_array_equal(alljax.extract_features(backbone, arrays[order[0]][None]), found[:1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "vgg61"}, ConfigError, "unknown backbone 'vgg61': did you mean 'vgg16'"),
        ({"name": "vgg16", "weights": "torchvision-vgg61"}, WeightsError, "did you mean 'torchvision-vgg16'"),
        ({"name": "vgg16", "weights": "vgg16.pth"}, WeightsError, "vgg16.pth: no such file"),
        ({"name": "vgg16", "weights": "random", "image_size": "64"}, ConfigError, "image_size='64' has the wrong type"),
        ({"name": "vgg16", "weights": "random", "stage": "block9"}, ConfigError, "vgg16 has the stages block1"),
    ],
)
def test_backbones_that_do_not_exist(arguments: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        alljax.load_backbone(**arguments)
