"""Networks without weight files and from other studies: random weights, work folders, exports."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from end_to_end.conftest import SMALL, Refused, Run, picture

from alljax.models import backbones
from alljax.models.backbones import Backbone
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
    assert "random initial weights" in page
    assert "random initial weights" in (folder / "model_card.md").read_text()
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
    assert re.search(f"skipped: .*: {missing}: no such file", out)
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
