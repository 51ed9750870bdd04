"""Networks without weight files and from other studies: random weights, work folders, exports."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from end_to_end.conftest import SMALL, Refused, Run, picture

from alljax.config import default_config, vary
from alljax.models import backbones
from alljax.models.backbones import Backbone
from alljax.study import exports
from alljax.study.ensemble import open_ensemble
from alljax.training.network import open_networks
from alljax.weights import store

NO_FILE = ["--config.weights.name=random", "--config.weights.path=no/such/file"]


def test_random_weights_are_made_from_the_seed(tmp_path: Path, run: Run) -> None:
    (tmp_path / "cell.png").write_bytes(picture())
    settings, folder, arrays = [*SMALL, *NO_FILE, "--config.model.stage=stem"], tmp_path / "study", []
    for seed in (1, 1, 2):
        out = tmp_path / "features.npz"
        assert run("features", *settings, f"--config.seed={seed}", f"--out={out}")[0] == 0
        arrays.append(np.load(out)["features"])
    assert np.array_equal(arrays[0], arrays[1])
    assert not np.allclose(arrays[0], arrays[2])
    sweep = "--config.study.sweep=(('train.mode', ('frozen', 'finetune')),)"
    command = ["study", *settings, sweep, "--config.study.seeds=1", f"--workdir={folder}"]
    assert run(*command)[0] == 0
    assert "up to date" in run(*command)[2], "nothing is trained again"
    page = (folder / "report.html").read_text()
    assert "efficientnet_lite0, random" in page
    assert "efficientnet_lite0, random" in (folder / "model_card.md").read_text()
    for name, trial in json.loads((folder / "metrics.json").read_text())["trials"].items():
        assert "weights=random" in name
        assert name in page
        assert (trial["weights"]["name"], trial["weights"]["path"]) == ("random", "")
        assert (
            run("predict", tmp_path / "cell.png", f"--workdir={folder}", f"--trial={name}", f"--out={folder}.csv")[0]
            == 0
        )


def test_backbone_without_published_weights(tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    known = backbones.BACKBONES["efficientnet_lite0"]
    monkeypatch.setitem(backbones.BACKBONES, "new", Backbone("new", known.module, known.layouts))
    line = refused("study", *SMALL, "--config.model.backbone=new", f"--workdir={tmp_path / 'run'}")
    assert "weights.path=FILE" in line
    assert "weights.name=random" in line


def test_trials_without_weights_are_skipped_until_they_appear(tmp_path: Path, run: Run, refused: Refused) -> None:
    folder, missing = tmp_path / "study", tmp_path / "lite.safetensors"
    settings = [*SMALL, "--config.study.missing_weights=skip", "--config.study.seeds=1", f"--workdir={folder}"]
    assert f"{missing}: no such file" in refused("study", *settings, f"--config.weights.path={missing}")
    command = ["study", *settings, f"--config.study.sweep=(('weights.path', ('', '{missing}')),)"]
    code, _, err = run(*command, "--dry_run")
    assert code == 0
    assert f"is skipped: {missing}: no such file" in err
    code, out, _ = run(*command)
    assert code == 0
    assert re.search(f"Skipped: .*: {missing.name}: no such file", out)
    summary = json.loads((folder / "metrics.json").read_text())
    ((name, reason),) = summary["skipped"].items()
    assert "no such file" in reason
    assert (len(summary["trials"]), summary["failed"], summary["missing"]) == (1, {}, [])
    assert f"Skipped: {name}" in (folder / "report.html").read_text()
    known = store.find("", "", "efficientnet_lite0").path
    assert run("weights", "convert", known, "--backbone=efficientnet_lite0", f"--out={missing}")[0] == 0
    assert run(*command)[0] == 0
    summary = json.loads((folder / "metrics.json").read_text())
    assert name in summary["trials"]
    assert not summary["skipped"]


def test_study_starts_from_a_network_of_another_study(tmp_path: Path, run: Run, refused: Refused) -> None:
    """From the work folder and from its export: equal bits, those of the backbone of the first fold and seed."""
    first, exported = tmp_path / "first", tmp_path / "first.safetensors"
    command = ["study", *SMALL, "--config.study.sweep=()", "--config.model.stage=stem"]
    command += ["--config.train.groups=(('.*', 1.0),)"]
    tuned = [
        *command,
        "--config.train.mode=finetune",
        "--config.train.learning_rate=0.01",
        "--config.report.images=false",
    ]
    assert run(*tuned, "--config.weights.name=random", f"--workdir={first}")[0] == 0
    assert run("export", f"--workdir={first}", "--format=safetensors", f"--out={exported}")[0] == 0
    opened = open_ensemble(first)
    images = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype(np.float32)
    settings = {"model.stage": "stem", "weights.path": str(exported), "preprocessing.image_size": 0}
    (network,) = open_networks([vary(default_config(), settings)])
    expected = opened.network.backbone.module.apply(opened.members[0].backbone, images, last="stem")["stem"]
    found = network.backbone.module.apply(network.variables, images, last="stem")["stem"]
    np.testing.assert_array_equal(found, expected)
    assert network.preprocessing.image_size == 48, "that of the fine-tuned network"
    tables, weights = [], []
    for path in (first, exported):
        folder = tmp_path / f"from-{path.name}"
        second = [*tuned, "--config.data.synthetic.seed=1", f"--config.weights.path={path}", f"--workdir={folder}"]
        code, _, err = run(*second)
        assert code == 0
        assert "were trained on images of synthetic" in err
        assert "up to date" in run(*second)[2], "nothing is trained again"
        tables += [(file.name, file.read_bytes()) for file in sorted(folder.glob("trials/*/*.csv"))]
        (result,) = json.loads((folder / "metrics.json").read_text())["trials"].values()
        weights.append(result["weights"])
    assert tables[: len(tables) // 2] == tables[len(tables) // 2 :]
    assert weights[0]["name"] == weights[1]["name"] == "random, fine-tuned on synthetic in first"
    assert weights[0]["sha256"] == weights[1]["sha256"]
    folder = tmp_path / "from-first"
    Path(weights[0]["path"]).unlink()
    exports._export_to_cache.cache_clear()
    (tmp_path / "cell.png").write_bytes(picture())
    assert run("predict", tmp_path / "cell.png", f"--workdir={folder}", f"--out={folder}.csv")[0] == 0
    assert run(*command, f"--workdir={tmp_path / 'frozen'}")[0] == 0
    line = refused(*command, f"--config.weights.path={tmp_path / 'frozen'}", f"--workdir={tmp_path / 'x'}")
    assert "no fine-tuned backbone" in line
