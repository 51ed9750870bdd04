"""`alljax predict`: the mean over the heads of a trial, and refusals."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from end_to_end.conftest import SMALL, Refused, Run, picture, read_table

from alljax.data import synthetic
from alljax.study import outputs


def test_prediction_is_the_mean_of_the_stored_heads(study: Path, tmp_path: Path, run: Run) -> None:
    """Recomputed here in NumPy from the checkpoint and the features."""
    dataset = synthetic.read_synthetic(subjects=12, images=48, image_size=48, seed=0)
    (tmp_path / "images").mkdir()
    for record in dataset.records:
        (tmp_path / "images" / Path(record.path).name).write_bytes(dataset.read(record))
    out, features = tmp_path / "predictions.csv", tmp_path / "features.npz"
    trial = "efficientnet_lite0-adam"
    assert run("predict", f"--workdir={study}", f"--trial={trial}", tmp_path / "images", f"--out={out}")[0] == 0
    assert run("features", *SMALL, f"--out={features}")[0] == 0
    stored = np.load(features)
    probabilities = []
    for fold in outputs.load_parameters(study / "trials" / trial):
        for seed in range(2):
            dense, last = ({k: leaf[seed] for k, leaf in fold[layer].items()} for layer in ("dense", "predictions"))
            hidden = np.maximum(stored["features"] @ dense["kernel"] + dense["bias"], 0)
            exponents = np.exp(hidden @ last["kernel"] + last["bias"])
            probabilities.append(exponents / exponents.sum(1, keepdims=True))
    assert len(probabilities) == 4
    mean = dict(zip((Path(path).name for path in stored["paths"]), np.mean(probabilities, 0), strict=True))
    rows = read_table(out)
    assert len(rows) == 48
    for row in rows:
        expected = mean[Path(row["path"]).name]
        np.testing.assert_allclose([float(row["prob_hem"]), float(row["prob_all"])], expected, atol=1e-5)
        assert row["predicted"] == ("hem", "all")[int(expected.argmax())]
    single = rows[0]["path"]
    assert run("predict", f"--workdir={study}", f"--trial={trial}", single, f"--out={out}")[0] == 0
    assert float(read_table(out)[0]["prob_all"]) == pytest.approx(float(rows[0]["prob_all"]), abs=1e-6)


def test_wrong_input_is_one_line(study: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "good.png").write_bytes(picture())
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    out, good = f"--out={tmp_path / 'predictions.csv'}", tmp_path / "good.png"
    for name, message in (("nowhere", "no such file"), ("bad.png", "empty"), ("folder", "no image")):
        assert message in refused("predict", f"--workdir={study}", out, tmp_path / name)
    assert "not the --workdir" in refused("predict", f"--workdir={tmp_path}", out, good)
    assert "adam" in refused("predict", f"--workdir={study}", out, "--trial=x", good)
    assert "is a folder" in refused("predict", f"--workdir={study}", f"--out={tmp_path}", good)
    folder = shutil.copytree(study, tmp_path / "study")
    for file in folder.glob("trials/*/checkpoint/*"):
        file.write_bytes(b"damaged")
    assert "checkpoint" in refused("predict", f"--workdir={folder}", out, good)
    assert not (tmp_path / "predictions.csv").exists()


def test_moved_weights_are_given_by_path(
    tmp_path: Path, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alljax.weights import store

    monkeypatch.chdir(tmp_path)
    shutil.copy(store.find("", "", "efficientnet_lite0").path, tmp_path / "mine.pth")
    (tmp_path / "good.png").write_bytes(picture())
    assert run("train", *SMALL, "--config.weights.path=mine.pth", "--workdir=run")[0] == 0
    (tmp_path / "mine.pth").rename(tmp_path / "moved.pth")
    assert "--weights" in refused("predict", "--workdir=run", "good.png")
    assert run("predict", "--workdir=run", "good.png", "--weights=moved.pth")[0] == 0
    assert run("weights", "convert", "moved.pth", "--backbone=efficientnet_lite0", "--out=other.safetensors")[0] == 0
    assert "SHA-256" in refused("predict", "--workdir=run", "good.png", "--weights=other.safetensors")
