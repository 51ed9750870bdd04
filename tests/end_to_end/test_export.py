"""Exported files predict, without alljax, what `alljax predict` predicts; docs/how-to/export.md runs as printed."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import safetensors.numpy
from end_to_end.conftest import QUICKSTART, SMALL, Refused, Run, picture, write_files

from alljax.cli import main
from alljax.data.images import decode
from alljax.data.readers import open_unlabeled
from alljax.models.backbones import BACKBONES
from alljax.study.ensemble import open_ensemble

PARITY = Path(__file__).parents[1] / "parity"
PAGE = (Path(__file__).parents[2] / "docs/how-to/export.md").read_text()
NEEDED = {"ONNX": ["jax2onnx", "onnxruntime"], "StableHLO": [], "Safetensors": ["torch", "torchvision"]}
RANDOM = [*SMALL, "--config.weights.name=random", "--config.study.sweep=()", "--config.report.images=false"]
RANDOM += ["--config.study.seeds=1"]


def export(folder: Path, out: Path, *words: str) -> None:
    """In a process of its own, since jax2onnx does not import where ranks must not be promoted."""
    command = [sys.executable, "-m", "alljax.cli", "export", f"--workdir={folder}", f"--out={out}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def vgg_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "study"
    model = ["--config.model.backbone=vgg16", "--config.model.stage=block5", "--config.preprocessing.name=torch"]
    assert main(["study", *RANDOM, *model, f"--workdir={folder}"]) == 0
    return folder


@pytest.mark.parametrize("section", ["ONNX", "StableHLO", "Safetensors"])
def test_page_runs_each_file_without_alljax(
    vgg_study: Path, section: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in NEEDED[section]:
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    Path("cell.bmp").write_bytes(picture(format="BMP", side=48))
    export(vgg_study, tmp_path / f"cells.{section.lower()}")
    code = re.search(rf"^## {section}$.*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert code
    found: dict[str, Any] = {}
    exec(code[1], found)
    assert "alljax" not in re.findall(r"^(?:import|from) (\w+)", code[1], re.MULTILINE)
    assert run("predict", f"--workdir={vgg_study}", "cell.bmp")[0] == 0
    expected = pandas.read_csv("predictions.csv").filter(like="calibrated_").to_numpy()
    if section == "Safetensors":
        (block,) = open_ensemble(vgg_study).predict(open_unlabeled([Path("cell.bmp")]))
        expected, found["probabilities"] = block.probabilities[0], found["logits"].softmax(1).numpy()
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-4)


@pytest.mark.parametrize("backbone", ["vgg16", "resnet50"])
def test_safetensors_have_the_tensors_of_torchvision_and_timm(
    backbone: str, vgg_study: Path, tmp_path: Path, run: Run
) -> None:
    """All but the classifier, which is the head of the first fold and seed; loaded by both where they are installed."""
    folder, out, width = vgg_study, tmp_path / "network.safetensors", 512
    if backbone == "resnet50":
        folder, width, model = tmp_path / "study", 64, ["--config.model.backbone=resnet50", "--config.model.stage=stem"]
        assert run("study", *RANDOM, *model, f"--workdir={folder}")[0] == 0
    assert run("export", f"--workdir={folder}", f"--out={out}")[0] == 0
    tensors = safetensors.numpy.load_file(out)
    heads = {name: tensor for name, tensor in tensors.items() if name.startswith("head.")}
    assert {name: tensor.shape for name, tensor in heads.items()} == {
        "head.dense.weight": (8, width), "head.dense.bias": (8,), "head.predictions.weight": (2, 8),
        "head.predictions.bias": (2,),
    }  # fmt: skip
    golden = np.load(PARITY / f"{backbone}_torchvision.npz")["tensors"]
    rows = {name: tuple(map(int, shape)) for name, *shape in (str(row).split(" ") for row in golden)}
    expected = {name: shape for name, shape in rows.items() if not name.startswith(("classifier.", "fc."))}
    assert {name: tensor.shape for name, tensor in tensors.items() if name not in heads} == expected

    torch, models, timm = (pytest.importorskip(name) for name in ("torch", "torchvision.models", "timm"))
    loaded = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    for network in (getattr(models, backbone)(), timm.create_model(backbone)):
        result = network.load_state_dict(loaded, strict=False)
        assert set(result.unexpected_keys) == set(heads)
        rest = r"(classifier|fc|pre_logits|head)\..*|.*num_batches_tracked"
        assert all(re.fullmatch(rest, name) for name in result.missing_keys), result.missing_keys


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_layout_gives_back_the_bits(backbone: str) -> None:
    shapes = BACKBONES[backbone].shapes
    for layout in BACKBONES[backbone].layouts.values():
        assert len({layout.name_of(path) for path in shapes}) == len(shapes)
        for shape in set(shapes.values()):
            array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            assert np.array_equal(layout.to_flax(layout.from_flax(array)), array)


def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, run: Run, refused: Refused, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ((("texture",), (), "mlp"), (("backbone",), (), "svm"), (("backbone",), ("standardize",), "mlp"))
    keys = "('features.extractor', 'features.select', 'classifier.name')"
    settings = [*SMALL, "--config.report.images=false", "--config.model.stage=stem"]
    sweep = f"--config.study.sweep=(({keys}, {rows}),)"
    combine = "--config.study.combine=(('both', 'mean', '*'),)"
    assert run("study", *settings, sweep, combine, f"--workdir={tmp_path / 'w'}")[0] == 0
    trials = json.loads((tmp_path / "w/metrics.json").read_text())["trials"]
    reasons = ["features.extractor=texture", "classifier.name=svm", "features.select=standardize", "combines"]
    for trial, reason in zip(trials, reasons, strict=True):
        for suffix in ("safetensors",) if reason.startswith("features.select") else ("stablehlo", "safetensors"):
            words = f"--workdir={tmp_path / 'w'}", f"--trial={trial}", f"--out={tmp_path / 'x'}.{suffix}"
            assert reason in refused("export", *words)
    assert "--format=" in refused("export", f"--workdir={study}", f"--out={tmp_path / 'x'}.bin")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    assert "pip install 'alljax[onnx]'" in refused("export", f"--workdir={study}", f"--out={tmp_path / 'x'}.onnx")
    assert not [*tmp_path.glob("x*")]


@pytest.mark.real
@pytest.mark.optimized
@pytest.mark.parametrize("backbone", [pytest.param("vgg16", marks=pytest.mark.long), "efficientnet_lite0"])
def test_real_cells_in_onnx_runtime(
    backbone: str, cnmc_zip: Path, vgg16_weights: Path, tmp_path: Path, run: Run
) -> None:
    """64 cells of C-NMC, one, three and all at a time: the probabilities of `alljax predict` to 1e-4."""
    pytest.importorskip("jax2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, settings = tmp_path / "study", {"source": cnmc_zip, "allow_partial": True}
    words = [*(f"--config.data.{key}={value}" for key, value in settings.items()), "--config.study.sweep=()"]
    words += [f"--config.model.backbone={backbone}", "--config.train.epochs=20", "--config.report.images=false"]
    words += [f"--config.weights.path={vgg16_weights}"] if backbone == "vgg16" else []
    assert main(["study", f"{QUICKSTART}:cnmc", *words, f"--workdir={folder}"]) == 0
    dataset = open_unlabeled([cnmc_zip])
    cells = {f"{row:02}.bmp": dataset.read(record) for row, record in enumerate(dataset.records[::8][:64])}
    write_files(tmp_path / "cells", cells)
    assert run("predict", f"--workdir={folder}", tmp_path / "cells", f"--out={tmp_path / 'p.csv'}")[0] == 0
    expected = pandas.read_csv(tmp_path / "p.csv").filter(like="calibrated_").to_numpy()
    assert np.ptp(expected) > 0.5
    export(folder, tmp_path / "cells.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "cells.onnx")
    images = np.stack([decode(data, name) for name, data in cells.items()])
    for count in (1, 3, 64):
        (found,) = session.run(None, {"images": images[:count]})
        np.testing.assert_allclose(found, expected[:count], atol=1e-4)
