"""`alljax predict`: the mean over the heads of a trial, and refusals."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from end_to_end.conftest import SMALL, Refused, Run, picture, read_table, write_files
from PIL import Image

from alljax.data import synthetic
from alljax.study import workdir
from alljax.training import checkpoints


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
    for fold in checkpoints.load_arrays(study / "trials" / trial / workdir.PARAMETERS).values():
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
        formats = "left out 3 files of formats that are not read: 2 .jp2, 1 .dcm (first: "
        assert (formats in err) == (source[0] in ("cells", "cells.zip"))
        found[source[0]] = read_table(Path("found.csv"))
    assert [row["path"] for row in found["cells"]] == [row["path"] for row in found["list.csv"]] == [*files]
    assert found["cells.zip"][-1]["path"] == "cells.zip/2/1.png"
    assert found["cells.npz"][-1]["path"] == "cells.npz/test/000005"
    for rows in found.values():
        assert [row["prob_all"] for row in rows] == [row["prob_all"] for row in found["cells"]]


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


def test_weights_and_unreadable_images(
    tmp_path: Path, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved weights are given by file or folder; unreadable images are skipped if the study says so."""
    from alljax.weights import store

    monkeypatch.chdir(tmp_path)
    shutil.copy(store.find("", "", "efficientnet_lite0").path, tmp_path / "mine.pth")
    write_files(tmp_path, {"good.png": picture(), "bad.png": b"bad"})
    assert (
        run("train", *SMALL, "--config.weights.path=mine.pth", "--config.data.on_error=skip", "--workdir=run")[0] == 0
    )
    Path("folder").mkdir()
    (tmp_path / "mine.pth").rename(tmp_path / "folder/moved.pth")
    assert "--weights" in refused("predict", "--workdir=run", "good.png")
    assert run("predict", "--workdir=run", "good.png", "--weights=folder/moved.pth")[0] == 0
    moved = tmp_path / "folder/moved.pth"
    assert run("weights", "convert", moved, "--backbone=efficientnet_lite0", "--out=folder/other.safetensors")[0] == 0
    assert "SHA-256" in refused("predict", "--workdir=run", "good.png", "--weights=folder/other.safetensors")
    code, out, err = run("predict", "--workdir=run", "good.png", "bad.png", "--weights=folder")
    assert (code, out) == (3, "predictions.csv: 1 image\n")
    assert "1 image skipped, cannot be read (data.on_error=skip): bad.png" in err
    assert "1 of 1 image cannot be read" in refused("predict", "--workdir=run", "bad.png", "--weights=folder")
    moved.unlink()
    assert "no weight file with the SHA-256" in refused("predict", "--workdir=run", "good.png", "--weights=folder")


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
