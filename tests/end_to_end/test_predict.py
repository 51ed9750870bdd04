"""`alljax predict`: the mean over the heads of a trial, and refusals."""

import io
import json
import shutil
import signal
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end.conftest import SMALL, Refused, Run, picture, read_table, write_files
from PIL import Image

from alljax import interrupts
from alljax.data import inspection, synthetic
from alljax.data.dataset import Dataset, Record
from alljax.study import predict, workdir


def test_sources_are_those_of_a_study(study: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, zip, CSV or .npz of the same images gives the same predictions as the files; labels are not needed."""
    monkeypatch.chdir(tmp_path)
    files = {f"cells/{subject}/{n}.png": picture(10 * subject + n) for subject in range(3) for n in range(2)}
    write_files(tmp_path, files | {"cells/0/scan.dcm": b"", "cells/1/scan.jp2": b"", "cells/1/2.jp2": b""})
    with zipfile.ZipFile("cells.zip", "w") as archive:
        for name in (*files, "cells/0/scan.dcm", "cells/1/scan.jp2", "cells/1/2.jp2"):
            archive.write(name, name.removeprefix("cells/"))
    Path("list.csv").write_text("\n".join(("filename", *files)))
    pixels = [np.asarray(Image.open(name)) for name in files]
    np.savez("cells.npz", test_images=pixels, test_labels=np.zeros(len(files), int))
    found = {}
    for source in (["cells"], ["cells.zip"], ["list.csv"], ["cells.npz"], [*files]):
        code, _, err = run("predict", f"--workdir={study}", *source, "--out=found.csv")
        assert code == 0, err
        formats = "left out files of formats that are not read: 2 .jp2, 1 .dcm (first: "
        assert (formats in err) == (source[0] in ("cells", "cells.zip"))
        found[source[0]] = read_table(Path("found.csv"))
    assert [row["path"] for row in found["cells"]] == [row["path"] for row in found["list.csv"]] == [*files]
    assert found["cells.zip"][-1]["path"] == "cells.zip/2/1.png"
    assert found["cells.npz"][-1]["path"] == "cells.npz/test/000005"
    for rows in found.values():
        assert [row["prob_all"] for row in rows] == [row["prob_all"] for row in found["cells"]]


def test_wrong_input_is_one_line(study: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "good.png").write_bytes(picture())
    (tmp_path / "folder").mkdir()
    out, good = f"--out={tmp_path / 'predictions.csv'}", tmp_path / "good.png"
    for name, message in (("nowhere", "no such file"), ("folder", "no image")):
        assert message in refused("predict", f"--workdir={study}", out, tmp_path / name)
    assert "not the --workdir" in refused("predict", f"--workdir={tmp_path}", out, good)
    assert "adam" in refused("predict", f"--workdir={study}", out, "--trial=x", good)
    assert "is a folder" in refused("predict", f"--workdir={study}", f"--out={tmp_path}", good)
    folder = shutil.copytree(study, tmp_path / "study")
    for file in folder.glob("trials/*/checkpoint/*"):
        file.write_bytes(b"damaged")
    assert "checkpoint" in refused("predict", f"--workdir={folder}", out, good)
    assert not (tmp_path / "predictions.csv").exists()


def test_weights_that_were_moved(tmp_path: Path, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are given by file or folder."""
    from alljax.weights import store

    monkeypatch.chdir(tmp_path)
    shutil.copy(store.find("", "", "efficientnet_lite0").path, tmp_path / "mine.pth")
    write_files(tmp_path, {"good.png": picture()})
    assert run("train", *SMALL, "--config.weights.path=mine.pth", "--workdir=run")[0] == 0
    Path("folder").mkdir()
    (tmp_path / "mine.pth").rename(tmp_path / "folder/moved.pth")
    assert "--weights" in refused("predict", "--workdir=run", "good.png")
    assert run("predict", "--workdir=run", "good.png", "--weights=folder/moved.pth")[0] == 0
    moved = tmp_path / "folder/moved.pth"
    assert run("weights", "convert", moved, "--backbone=efficientnet_lite0", "--out=folder/other.safetensors")[0] == 0
    assert "SHA-256" in refused("predict", "--workdir=run", "good.png", "--weights=folder/other.safetensors")
    assert run("predict", "--workdir=run", "good.png", "--weights=folder")[0] == 0
    moved.unlink()
    assert "no weight file with the SHA-256" in refused("predict", "--workdir=run", "good.png", "--weights=folder")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """The 48 images of the study, under their names, which state the subject."""
    dataset = synthetic.read_synthetic(subjects=12, images=48, image_size=48, seed=0)
    return write_files(tmp_path / "cells", {Path(each.path).name: dataset.read(each) for each in dataset.records})


def test_columns_warnings_and_subjects(study: Path, cells: Path, tmp_path: Path, run: Run) -> None:
    """Unreadable images are rows with the reason; images of the study, other sizes and odd pixels are named."""
    folder, out = shutil.copytree(study, tmp_path / "study"), tmp_path / "new/found.csv"
    trial, summary = "efficientnet_lite0-adam", json.loads((folder / "metrics.json").read_text())
    points = [{"target": "sensitivity", "value": 0.9, "threshold": 0.25, "thresholds": []}]
    summary["trials"][trial] |= {"temperature": 2.5, "operating_points": points}
    workdir.write_study(folder, {"metrics.json": summary})
    write_files(cells, {"UID_900_1_1_all.bmp": b"bad", "UID_901_1_1_all.png": picture(side=60)})
    Image.fromarray(np.full((48, 48, 3), 9, np.uint8)).save(cells / "UID_901_1_2_all.png")
    code, printed, _ = run("predict", f"--workdir={folder}", f"--trial={trial}", cells, f"--out={out}")
    assert code == 3
    assert printed.splitlines() == [
        f"{out}: 51 images",
        "1 image cannot be read (column warnings)",
        "48 images were trained on: their predictions are no test",
        f"{out.with_name('found-subjects.csv')}: 13 subjects",
    ]
    rows = {Path(row["path"]).name: row for row in read_table(out)}
    bad, large, blank = (
        rows.pop(name) for name in ("UID_900_1_1_all.bmp", "UID_901_1_1_all.png", "UID_901_1_2_all.png")
    )
    assert bad["warnings"] == "unreadable: not an image in a supported format"
    assert not bad["predicted"] + bad["prob_all"] + bad["calibrated_all"] + bad["sensitivity_0.9"] + bad["distance"]
    assert large["warnings"] == "60 × 60 pixels, in the study 48 × 48: crop it if the scale is the same"
    assert "of one color only" in blank["warnings"]
    assert {row["warnings"] for row in rows.values()} == {"trained on this image"}
    assert all(float(row["distance"]) < 0.02 for row in rows.values())
    assert float(blank["distance_quantile"]) == 1
    for row in (large, blank, *rows.values()):
        chance = float(row["prob_all"])
        assert row["subject"] == Path(row["path"]).name.split("_")[1]
        assert row["sensitivity_0.9"] == ("all" if chance >= 0.25 else "hem")
        assert abs(float(row["calibrated_all"]) - 0.5) < abs(chance - 0.5) or abs(chance - 0.5) < 0.05
    subjects = {row["subject"]: row for row in read_table(out.with_name("found-subjects.csv"))}
    for name, row in subjects.items():
        chances = np.array(
            [float(each["prob_all"]) for each in (large, *rows.values(), blank) if each["subject"] == name]
        )
        assert int(row["images"]) == len(chances)
        log_odds = np.log(chances / (1 - chances)).mean()
        assert float(row["mean_log_odds_all"]) == pytest.approx(log_odds, abs=1e-4)
        assert row["predicted"] == ("all" if log_odds > 0 else "hem")


def test_interrupted_prediction_continues(
    study: Path, cells: Path, tmp_path: Path, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same predictions; another model is refused. A killed process leaves a part of a row."""
    monkeypatch.setattr(predict, "CHUNK", 10)
    words = "predict", f"--workdir={study}", "--trial=efficientnet_lite0-adam", cells
    assert run(*words, f"--out={tmp_path / 'whole.csv'}")[0] == 0
    inspected, original = [], inspection.properties

    def interrupted(dataset: Dataset, record: Record) -> dict[str, Any]:
        inspected.append(record.path)
        if len(inspected) == 25:
            monkeypatch.setattr(interrupts, "requested", signal.SIGTERM)
        return original(dataset, record)

    monkeypatch.setattr(inspection, "properties", interrupted)
    out = f"--out={tmp_path / 'parts.csv'}"
    assert run(*words, out)[:2] == (0, "")
    monkeypatch.setattr(interrupts, "requested", 0)
    assert not (tmp_path / "parts.csv").exists()
    [part] = tmp_path.glob(".parts.csv.*.part")
    with part.open("a") as file:
        file.write("cells/half of a r")
    assert "another model" in refused(*words, "--trial=efficientnet_lite0-rmsprop", out)
    assert "other images" in refused(*words[:-1], next(cells.iterdir()), out)
    code, _, err = run(*words, out)
    assert code == 0
    assert "20 images were predicted before" in err
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert not part.exists()


def test_several_studies_predict_together(
    study: Path, cells: Path, images: Path, tmp_path: Path, run: Run, refused: Refused
) -> None:
    """The mean of their predictions; studies of other classes are refused."""
    other, unlike = tmp_path / "seed", tmp_path / "ab"
    assert run("train", *SMALL, "--config.seed=7", f"--workdir={other}")[0] == 0
    found = []
    for folders in ([study], [other], [study, other]):
        out = tmp_path / "found.csv"
        assert run("predict", *(f"--workdir={folder}" for folder in folders), cells, f"--out={out}")[0] == 0
        found.append(np.array([float(row["prob_all"]) for row in read_table(out)]))
    assert np.abs(found[0] - found[1]).max() > 1e-3
    np.testing.assert_allclose(found[2], (found[0] + found[1]) / 2, atol=1e-6)
    assert run("train", *SMALL, f"--config.data.source={images}", f"--workdir={unlike}")[0] == 0
    line = refused("predict", f"--workdir={study}", f"--workdir={unlike}", cells)
    assert line.endswith(f"cannot predict together: {unlike} has a, b, {study} has hem, all")


def test_checkpoint_of_another_shape_or_without_numbers_is_refused(
    study: Path, tmp_path: Path, refused: Refused
) -> None:
    """Prepared files, one of which claims 40 GB, in a folder whose checksums are right."""
    folder = shutil.copytree(study, tmp_path / "study")
    (tmp_path / "good.png").write_bytes(picture())
    trial = folder / "trials" / "efficientnet_lite0-adam"
    arrays = dict(np.load(trial / workdir.PARAMETERS))
    words = (
        "predict",
        f"--workdir={folder}",
        f"--trial={trial.name}",
        f"--out={tmp_path}/new.csv",
        tmp_path / "good.png",
    )
    np.savez(trial / workdir.PARAMETERS, **{name: array * np.nan for name, array in arrays.items()})
    workdir.record(trial, [workdir.PARAMETERS])
    assert "predicts no numbers; its parameters are damaged" in refused(*words)
    huge = np.broadcast_to(np.float32(0), (100_000, 100_000))
    with zipfile.ZipFile(trial / workdir.PARAMETERS, "w") as archive:
        for name, array in arrays.items():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, np.lib.format.header_data_from_array_1_0(huge if name == "1/dense/kernel" else array)
            )
            archive.writestr(f"{name}.npy", header.getvalue() + array.tobytes())
    workdir.record(trial, [workdir.PARAMETERS])
    message = refused(*words)
    assert "parameters.npz does not fit its network: another shape of 1/dense/kernel" in message
