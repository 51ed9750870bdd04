"""`alljax data audit --split`: what the sides of a division of images share."""

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

import alljax
from alljax import cli
from alljax.data import synthetic
from alljax.errors import DataError

MADE = synthetic.read_synthetic(8, 16, 96, 0)
SUBJECTS = sorted({record.subject for record in MADE.records})


def write(folder: Path, sides: list[str], extra: tuple[str, str, bytes] | None = None) -> Path:
    """A CSV in which the subjects take turns on the sides; `extra` is the subject, side and content of one more."""
    lines = ["path,label,subject,split"]
    for number, record in enumerate(MADE.records):
        (folder / f"{number:02}.bmp").write_bytes(MADE.read(record))
        side = sides[SUBJECTS.index(record.subject) % len(sides)]
        lines.append(f"{number:02}.bmp,{MADE.classes[record.label]},{record.subject},{side}")
    if extra:
        (folder / "extra.png").write_bytes(extra[2])
        lines.append(f"extra.png,{MADE.classes[0]},{extra[0]},{extra[1]}")
    path = folder / "split.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def audit(path: Path) -> tuple[int, dict, list[dict[str, str]]]:
    code = cli.main(["data", "audit", f"--split={path}", f"--out={path.parent / 'found.json'}"])
    found = json.loads((path.parent / "found.json").read_text())
    with (path.parent / "found.csv").open() as file:
        return code, found, list(csv.DictReader(file))


def test_clean_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, rows = audit(write(tmp_path, ["train", "test"]))
    assert (code, rows) == (0, [])
    assert found["images"] == {"train": 8, "test": 8}
    assert all(set(pair.values()) == {"train", "test", 0} for pair in found["shared"])
    assert "\ntrain  test       0     0       0\n" in capsys.readouterr().out


def test_copy_of_an_image_under_another_subject(tmp_path: Path) -> None:
    """The copy has another format, so its bytes differ; its subject is one with that of the original."""
    record, original = next(
        (r, f"{n:02}.bmp") for n, r in enumerate(MADE.records) if SUBJECTS.index(r.subject) % 2 == 0
    )
    copy = io.BytesIO()
    Image.open(io.BytesIO(MADE.read(record))).save(copy, "PNG")
    code, found, rows = audit(write(tmp_path, ["train", "test"], ("other", "test", copy.getvalue())))
    assert code == 1
    assert {"side": "test", "other": "train", "shares": "image", "path": "extra.png", "other_path": original} in rows
    counts = {(pair["side"], pair["other"]): pair for pair in found["shared"]}
    assert counts["test", "train"] | {"side": "", "other": ""} == {
        "side": "", "other": "", "subject": 1, "image": 1, "similar": 1,
    }  # fmt: skip
    assert counts["train", "test"]["subject"] == sum(each.subject == record.subject for each in MADE.records)


def test_subject_on_two_of_three_sides(tmp_path: Path) -> None:
    train, test = (next(r.subject for r in MADE.records if SUBJECTS.index(r.subject) % 3 == side) for side in (0, 2))
    path = write(tmp_path, ["train", "val", "test"])
    lines = path.read_text().splitlines()
    moved = next(number for number, line in enumerate(lines) if line.split(",")[2] == test)
    lines[moved] = lines[moved].replace(f",{test},", f",{train},")
    path.write_text("\n".join(lines))
    code, found, rows = audit(path)
    assert code == 1
    shared = {(pair["side"], pair["other"]): pair["subject"] for pair in found["shared"]}
    assert shared["test", "train"] == 1
    assert shared["val", "train"] == shared["test", "val"] == 0
    assert {row["path"] for row in rows if row["side"] == "test"} == {lines[moved].split(",")[0]}


def test_python_and_the_command_find_the_same(tmp_path: Path) -> None:
    """Subject names as numbers, with None where they are unknown."""
    lines = write(tmp_path, ["train", "test"]).read_text().splitlines()
    paths, labels, subjects, split = map(list, zip(*(line.split(",") for line in lines[1:]), strict=True))
    numbers = [None if name.startswith("H") else int(name) for name in subjects]
    subjects = ["" if number is None else str(number) for number in numbers]
    split[0] = "test" if split[0] == "train" else "train"
    text = "\n".join(map(",".join, zip(paths, labels, subjects, split, strict=True)))
    (tmp_path / "split.csv").write_text(f"{lines[0]}\n{text}\n")
    _, found, rows = audit(tmp_path / "split.csv")
    of_arrays = alljax.audit_split([tmp_path / path for path in paths], labels, numbers, split)
    assert of_arrays.shared == found["shared"]
    shown = of_arrays.to_pandas().map(lambda value: Path(value).name)
    assert shown.to_dict("records") == rows
    with pytest.raises(DataError, match="2 labels for 16 images; give one for each"):
        alljax.audit_split([tmp_path / path for path in paths], labels[:2], numbers, split)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --source, to audit a data set, or --split"),
        (["--split={}"], "all images are in 'train'; a column 'split' must name at least two sides"),
    ],
)
def test_refused(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, ["train"])
    assert cli.main(["data", "audit", *(word.format(path) for word in arguments)]) == 2
    assert message in capsys.readouterr().err
