"""`alljax data verify|audit|prepare`: findings, exit codes and refusals."""

import json
from pathlib import Path

import pytest
from end_to_end.conftest import SMALL, Refused, Run, picture, write_files


def test_verify_reports_problems(images: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new/found.json"
    code, _, err = run("data", "verify", f"--source={images}", f"--out={out}")
    assert code == 0, err
    assert not json.loads(out.read_text())["problems"]
    write_files(images, {"a/a0/0.png": b"", "b/b1/1.png": picture()[:900]})
    code, text, err = run("data", "verify", f"--source={images}")
    assert code == 1
    assert "a/a0/0.png" in text
    assert "b/b1/1.png" in text
    assert "alljax:" not in err


def test_audit_finds_subjects_with_two_names(images: Path, tmp_path: Path, run: Run) -> None:
    write_files(images, {"a/a1/copy.png": (images / "a/a0/0.png").read_bytes()})
    command = ["data", "audit", f"--source={images}", f"--out={tmp_path / 'found.json'}"]
    code, text, err = run(*command, "--config.split.folds=3", "--config.split.repeats=2")
    assert code == 0, err
    assert "a0 = a1" in text
    protocol = json.loads((tmp_path / "found.json").read_text())["protocols"][0]
    assert (protocol["protocol"], protocol["folds"]) == ("subject_kfold", 6)


@pytest.mark.parametrize("command", ["data audit", "study --dry_run", "features"])
def test_files_left_out_are_counted(command: str, images: Path, tmp_path: Path, run: Run) -> None:
    write_files(images, dict.fromkeys(("a/a0/1.dcm", "a/a0/2.DCM", "b/b1/1.jp2"), b""))
    words, folder = [*SMALL, f"--config.data.source={images}"], tmp_path / "out"
    options = [f"--workdir={folder}" if command.startswith("study") else f"--out={folder}", *words]
    code, out, err = run(*command.split(), *([f"--source={images}"] if command == "data audit" else options))
    assert code == 0, err
    assert "left out files of formats that are not read: 2 .dcm, 1 .jp2 (first: a/a0/1.dcm)" in out + err


@pytest.mark.parametrize(
    ("words", "message"),
    [("verify --source=x --out=.", "is a folder"), ("prepare --source=x", "--out")],
)
def test_wrong_arguments_are_one_line(words: str, message: str, refused: Refused) -> None:
    assert message in refused("data", *words.split())


def test_prepared_set_can_be_verified(tmp_path: Path, run: Run) -> None:
    files = {f"set/fold_0/{name}.bmp": picture(format="BMP") for name in ("all/UID_11_5_1_all", "hem/UID_H6_1_1_hem")}
    write_files(tmp_path, files | {"set/fold_0/all/scan.jp2": b""})
    code, _, err = run("data", "prepare", f"--source={tmp_path / 'set'}", f"--out={tmp_path / 'prepared'}")
    assert code == 0, err
    assert "left out files of formats that are not read: 1 .jp2" in err
    code, text, _ = run("data", "verify", f"--source={tmp_path / 'prepared'}", f"--out={tmp_path / 'found.json'}")
    assert code == 1
    assert "2 of 10,661" in text
    problems = json.loads((tmp_path / "found.json").read_text())["problems"]
    assert len(problems["missing"]) == 15_112
