"""`alljax data verify|audit|prepare`: what a person types, sees and gets as exit code."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from alljax.cli import main
from alljax.data import audit, synthetic, verify
from alljax.data.images import decode

MADE = synthetic.read_synthetic(6, 16, 225, 0)
CELLS = [MADE.read(record) for record in MADE.records]
Plant = Callable[[dict[str, bytes]], Path]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    def make(files: dict[str, bytes]) -> Path:
        for path, data in files.items():
            (tmp_path / "trials" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "trials" / path).write_bytes(data)
        return tmp_path / "trials"

    return make


def people(part: str = "") -> dict[str, bytes]:
    places = [f"{part}{label}/{label}{who}/{cell}.bmp" for label in "ab" for who in range(4) for cell in range(2)]
    return dict(zip(places, CELLS, strict=True))


def jpeg(data: bytes) -> bytes:
    decode(data, "x").save(file := io.BytesIO(), "JPEG", quality=90)
    return file.getvalue()


def test_verify_a_set_that_is_well(plant: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new/found.json"
    assert main(["data", "verify", f"--source={plant(people())}", f"--out={out}"]) == 0
    said, error = capsys.readouterr()
    assert "nothing is off" in said
    assert "16/16" in error
    assert json.loads(out.read_text())["well"] is True


def test_verify_a_set_that_is_not(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    source = plant(people() | {"a/a0/0.bmp": b"", "b/b1/1.bmp": CELLS[0][:900]})
    assert main(["data", "verify", f"--source={source}"]) == 1
    said, error = capsys.readouterr()
    assert "2 cannot be read: a/a0/0.bmp (empty (0 bytes)), b/b1/1.bmp (damaged or truncated" in said
    assert "alljax:" not in error


@pytest.mark.parametrize("action", ["verify", "audit"])
def test_a_source_that_cannot_be_opened(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 torn")
    for name, says in (("nowhere", "no such file"), ("torn.zip", "not a complete zip")):
        assert main(["data", action, f"--source={tmp_path / name}"]) == 2
        said, error = capsys.readouterr()
        assert said == ""
        (line,) = error.splitlines()
        assert line.startswith("alljax: ")
        assert says in line


@pytest.mark.parametrize("module", [verify, audit])
def test_out_is_looked_at_before_long_work(
    module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    action = module.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
    monkeypatch.setattr(module, action, lambda *arguments: pytest.fail("long work"))
    assert main(["data", action, "--source=x", f"--out={tmp_path}"]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_audit_tells_and_is_content(plant: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = plant(people() | {"a/a1/again.bmp": CELLS[0], "b/b1/near.jpg": jpeg(CELLS[9])})
    out = tmp_path / "found.json"
    command = ["data", "audit", f"--source={source}", f"--out={out}", "--protocol=subject_kfold"]
    assert main([*command, "--config.split.folds=3", "--config.split.repeats=2"]) == 0
    said = capsys.readouterr().out
    assert "one person: a0 = a1 (a0 = a1 share 1 image here)" in said
    assert "no people are united by them" in said
    (found,) = json.loads(out.read_text())["protocols"]
    assert (found["protocol"], found["splits"], found["person"], found["duplicate"]) == ("subject_kfold", 6, 0, 0)


def test_audit_of_all_protocols(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "audit", f"--source={plant(people())}"]) == 0
    said, error = capsys.readouterr()
    assert "leave_one_subject_out" in said
    assert "prelim is not possible" in said
    assert "alljax:" not in error


def test_a_protocol_that_leaks_without_being_declared(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    source = plant(people("train/") | {"test/a/a9/1.bmp": CELLS[0], "test/b/b9/1.png": jpeg(CELLS[15])})
    command = ["data", "audit", f"--source={source}", "--config.split.test_subset=test"]
    for more in ([], ["--protocol=prelim"]):
        assert main([*command, *more]) == 2
        said, error = capsys.readouterr()
        assert "one person: a0 = a9" in said, "what was found is told all the same"
        last = error.splitlines()[-1]
        assert last.startswith("alljax: protocol prelim leaks in fold 0 of repeat 0: 1 of 2 test cells")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audit", "--source=x", "--protocol=kfold"], "split.protocol='kfold' is none of its choices"),
        (["audit", "--source=x", "--config.split.foldz=3"], "did you mean split.folds?"),
        (["verify", "--source=x", "--config.split.folds=3"], "--config.split.folds=3"),
        (["verify"], "--source"),
        (["prepare", "--source=x"], "--out"),
        (["audit", "--source="], "no such file or folder"),
    ],
)
def test_mistakes_get_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("alljax: ")
    assert says in line


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(
    width: int, plant: Plant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"training_data/fold_{n % 3}/all/UID_{n}_1_1_all.bmp" for n in range(1, 9)]
    names += [f"training_data/fold_{n % 3}/hem/UID_H{n}_1_1_hem.bmp" for n in range(1, 9)]
    source = plant(dict(zip(names, CELLS, strict=True)))
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    for action in ("verify", "audit"):
        main(["data", action, f"--source={source}"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    heads = [" ".join(line.split()) for line in lines]
    assert "part fold class images of subjects of missing surplus unreadable odd size" in heads
    assert "duplicates pairs two subjects two people two folds two parts two classes" in heads
    assert "protocol splits tested person photograph same nearly" in heads


def test_prepare_and_verify_what_was_prepared(plant: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"fold_0/all/UID_11_5_1_all.bmp": CELLS[0], "fold_0/hem/UID_H6_1_1_hem.bmp": CELLS[1]}
    out = tmp_path / "prepared"
    assert main(["data", "prepare", f"--source={plant(files)}", f"--out={out}"]) == 0
    assert "prepared 2 images" in capsys.readouterr().err
    assert main(["data", "verify", f"--source={out}", f"--out={tmp_path / 'found.json'}"]) == 1
    assert "train 2 of 10,661, prelim 0 of 1,867, final 0 of 2,586 images" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert {kind: len(names) for kind, names in found["problems"].items()} == {"missing": 15_112, "odd_size": 2}
    assert main(["data", "prepare", f"--source={tmp_path / 'trials/fold_0/hem'}", f"--out={out}"]) == 2
    assert "was prepared from another source" in capsys.readouterr().err


def test_a_large_image_is_one_line(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "trials" / label).mkdir(parents=True)
        (tmp_path / "trials" / label / "1.bmp").write_bytes(CELLS[0])
    Image.new("1", (10_000, 10_000)).save(tmp_path / "trials/a/large.png")
    command = [sys.executable, "-m", "alljax.cli", "data", "verify", f"--source={tmp_path / 'trials'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "1 cannot be read: a/large.png (more than 89,478,485 pixels, no picture of a cell)" in done.stdout
    assert "Warning" not in done.stderr


@pytest.mark.real
def test_the_real_cells(cnmc_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert main(["data", "verify", f"--source={cnmc_zip}", f"--out={out}"]) == 1
    said = capsys.readouterr().out
    assert "train 512 of 10,661, prelim 14 of 1,867, final 0 of 2,586 images" in said
    assert "14,588 missing: train/fold_0/all/" in said
    missing = json.loads(out.read_text())["problems"]["missing"]
    assert sum(name.startswith("train/") for name in missing) == 10_661 - 512
    assert main(["data", "audit", f"--source={cnmc_zip}", "--protocol=official_folds_by_name"]) == 0
    said = capsys.readouterr().out
    assert "one person: 20 = 21 (20 = 21 share 2 images here; known)" in said
    assert "declared to leak: official_folds_by_name" in said
