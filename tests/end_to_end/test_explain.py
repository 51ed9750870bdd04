"""`alljax explain`: maps point to what distinguishes the classes; the files that it writes; refusals."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end.conftest import SMALL, Refused, Run, picture, read_table, write_files
from ml_collections import ConfigDict
from PIL import Image

from alljax.data import synthetic
from alljax.data.images import decode
from alljax.study import explain
from alljax.study.ensemble import open_ensemble
from alljax.study.run import run_study
from alljax.training.attribution import Explainer

SIDE = 160


def spotted_cells() -> tuple[dict[str, bytes], dict[str, tuple[int, int]]]:
    """Returns files of 32 cells of 8 subjects, all of one kind, and the places of the spots in those of class b."""
    files, places, rng = {}, {}, np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number in range(32):
        label, subject = "ab"[number % 2], number % 8
        pixels = synthetic.render_cell(3, "12", 1, number, SIDE)
        if label == "b":
            angle = rng.uniform(0, 2 * np.pi)
            row, column = (SIDE / 2 + SIDE / 8 * np.array([np.sin(angle), np.cos(angle)])).astype(int)
            spot = np.exp(-0.5 * ((rows - row) ** 2 + (columns - column) ** 2) / (SIDE / 30) ** 2)[..., None]
            pixels = (pixels + spot * (np.array([240, 230, 120]) - pixels)).astype(np.uint8)
            places[f"{number}.png"] = row, column
        Image.fromarray(pixels).save(content := io.BytesIO(), "PNG")
        files[f"{label}/{label}{subject}/{number}.png"] = content.getvalue()
    return files, places


def test_tokens_of_a_transformer_are_explained_by_occlusion(
    tmp_path: Path, toy_config: Callable[..., ConfigDict]
) -> None:
    config = toy_config(
        data__synthetic__images=24, data__synthetic__image_size=56, preprocessing__image_size=56, train__epochs=1,
        model__stage="block2", model__pool="cls_mean", model__backbone="dinov2_vits14", weights__name="random",
    )  # fmt: skip
    run_study(config, tmp_path / "study")
    Image.fromarray(synthetic.render_cell(3, "12", 1, 0, 56)).save(tmp_path / "a.png")
    found = explain.explain(open_ensemble(tmp_path / "study"), [tmp_path / "a.png"])
    assert found.images[0].maps.keys() == {"occlusion"}
    assert any(line.startswith("occlusion only: no head on feature maps") for line in found.findings)


def test_maps_point_to_the_difference_between_the_classes(
    tmp_path: Path, toy_config: Callable[..., ConfigDict], compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classes differ in a spot whose place changes."""
    monkeypatch.setattr(explain, "CHECKED", 1)
    files, places = spotted_cells()
    write_files(tmp_path / "cells", files)
    config = toy_config(
        data__source=str(tmp_path / "cells"), preprocessing__image_size=SIDE, model__stage="head", model__hidden=64,
        train__epochs=60, train__batch_size=8, train__learning_rate=3e-3,
    )  # fmt: skip
    run_study(config, tmp_path / "study")
    compilations.clear()
    found = explain.explain(open_ensemble(tmp_path / "study"), sorted((tmp_path / "cells").rglob("b*/*.png"))[:3], "b")
    assert len([name for name in compilations if "grad_cam" in name or "occlude" in name]) == 2
    rows, columns = np.mgrid[:SIDE, :SIDE]
    near: dict[str, list[float]] = {method: [] for method in explain.METHODS}
    for image in found.images:
        row, column = places[Path(image.path).name]
        spot = np.hypot(rows - row, columns - column) < SIDE / 6
        assert image.probabilities[1] > 0.5
        for method, attribution in image.maps.items():
            near[method].append(attribution[spot].sum() / attribution.sum() / spot.mean())
    assert all(np.mean(times) > 2 for times in near.values()), f"times the share of the area: {near}"
    assert found.tables["images"]["in_training"].all()
    neighbors = found.tables["neighbors"]
    assert len(neighbors) == 3 * 5
    assert (neighbors["distance"] > 1e-3).all(), "an image is not its own neighbor"


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_files(mode: str, study: Path, tmp_path: Path, run: Run) -> None:
    if mode == "finetune":
        study = tmp_path / "study"
        settings = "--config.train.mode=finetune", "--config.train.epochs=1", "--config.study.seeds=1"
        assert run("train", *SMALL, *settings, f"--workdir={study}")[0] == 0
    dataset, out = synthetic.read_synthetic(subjects=12, images=48, image_size=48, seed=0), tmp_path / "out"
    cells = {f"cells/{record.path}": dataset.read(record) for record in dataset.records[:36:12]}
    write_files(tmp_path, cells | {"cells/bad.png": b"", "noise.png": picture()})
    images = tmp_path / "cells", tmp_path / "noise.png"
    code, printed, err = run("explain", f"--workdir={study}", *images, f"--out={out}")
    assert code == 3, err
    assert "1 image skipped, cannot be read" in err
    assert (out / "findings.txt").read_text() + f"{out}: 4 images\n" == printed
    assert "inside the cell, on average" in printed
    assert "1 image without a black background" in printed
    assert printed.count("with maps of random parameters") == 2
    assert printed.count(" the subject: mean recall") + printed.count("no two subjects") == 2
    rows = read_table(out / "images.csv")
    assert [row["in_training"] for row in rows] == ["True"] * 3 + ["False"]
    assert rows[3]["cell_area"] == rows[3]["occlusion_inside"] == ""
    assert all(0 < float(row["grad_cam_inside"]) <= 1 for row in rows[:3])
    (tmp_path / "cells/bad.png").unlink()
    assert run("predict", f"--workdir={study}", *images, f"--out={tmp_path / 'predicted.csv'}")[0] == 0
    for ours, theirs in zip(rows, read_table(tmp_path / "predicted.csv"), strict=True):
        assert ours["path"] == theirs["path"]
        assert float(ours["prob_all"]) == pytest.approx(float(theirs["prob_all"]), abs=1e-4)
    assert len(read_table(out / "neighbors.csv")) == 4 * 5
    height, width, _ = decode((out / "neighbors.jpg").read_bytes(), "neighbors.jpg").shape
    assert width / height == pytest.approx(6 * 1.3 / (4 * 1.75), rel=0.01), "a row per explained image"
    assert len(read_table(out / "feature_map.csv")) == 48 + 4
    parts = {row["random"] for row in read_table(out / "random_parameters.csv")}
    assert parts == {"head", "backbone"}
    pictures = [*(out / "images").iterdir(), out / "classes.png", out / "neighbors.jpg", out / "feature_map.png"]
    assert len(pictures) == 4 + 3
    assert all(decode(path.read_bytes(), path.name).shape[1] >= 1000 for path in pictures)


def test_maps_that_do_not_depend_on_the_parameters_fail(
    study: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The "random" backbone is the trained one; without the images of the study the rest is done."""
    folder = shutil.copytree(study, tmp_path / "study")
    (tmp_path / "noise.png").write_bytes(picture())

    random_parameters = Explainer.random_parameters

    def same(self: Any, keys: Any) -> Any:
        backbone = {name: self._network.used(name) for name in ("params", "batch_stats")}
        return backbone, random_parameters(self, keys)[1]

    def gone(config: Any) -> Any:
        raise explain.UserError("cells: no such file")

    monkeypatch.setattr(Explainer, "random_parameters", same)
    monkeypatch.setattr(explain.results, "open_records", gone)
    out = tmp_path / "out"
    code, printed, _ = run("explain", f"--workdir={folder}", tmp_path / "noise.png", f"--out={out}", "--class=hem")
    assert code == 0
    assert printed.count("1.00 (backbone)") == printed.count("do not trust these maps") == 2
    assert "not compared with the training images: cells: no such file" in printed
    assert [row["explained"] for row in read_table(out / "images.csv")] == ["hem"]
    assert not (out / "neighbors.jpg").exists()


def test_wrong_input_is_one_line(study: Path, tmp_path: Path, refused: Refused) -> None:
    write_files(tmp_path, {"good.png": picture(), "bad.png": b"", "full/notes.txt": b""})
    out, good = f"--out={tmp_path / 'out'}", tmp_path / "good.png"
    assert "not the --workdir" in refused("explain", f"--workdir={tmp_path}", good, out)
    assert "is not empty" in refused("explain", f"--workdir={study}", good, f"--out={tmp_path / 'full'}")
    assert "did you mean 'hem'" in refused("explain", f"--workdir={study}", good, out, "--class=hme")
    assert "cannot be read" in refused("explain", f"--workdir={study}", tmp_path / "bad.png", out)
    assert not (tmp_path / "out").exists()
