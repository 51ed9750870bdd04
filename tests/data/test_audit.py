"""`alljax data audit`: duplicates, merged subjects and the leakage of each protocol."""

import io
import json

import pytest
from data.conftest import encode
from PIL import Image

from alljax.data import audit, synthetic
from alljax.data.protocols import OF_SOURCES, PROTOCOLS

MADE = synthetic.read_synthetic(6, 24, 225, 0)
CELLS = [MADE.read(record) for record in MADE.records]


def converted(data: bytes, form: str = "PNG", transpose: Image.Transpose | None = None, **options: object) -> bytes:
    image = Image.open(io.BytesIO(data))
    return encode(image if transpose is None else image.transpose(transpose), form, **options)


@pytest.fixture
def tree(plant):
    """tree(extra): two classes, four subjects each, three images each, all different; and other files."""

    def make(extra: dict[str, bytes] | None = None) -> str:
        paths = [f"{label}/{label}{who}/{cell}.bmp" for label in "ab" for who in range(4) for cell in range(3)]
        return str(plant(dict(zip(paths, CELLS, strict=True)) | (extra or {})))

    return make


def by_protocol(found: dict) -> dict[str, dict]:
    return {each["protocol"]: each for each in found["protocols"]}


def counts(found: dict, *names: str) -> tuple[int, ...]:
    return tuple(found[name] for name in names)


def test_data_set_without_duplicates(tree, capsys: pytest.CaptureFixture[str]) -> None:
    found = audit.audit(tree({"a/a0/bad.png": b"no image"}))
    assert (found["images"], found["subject_names"], found["merged"], found["error"]) == (24, 8, [], "")
    assert found["exact"]["count"] == found["near"]["count"] == 0
    leaks = by_protocol(found)
    assert list(leaks) == list(PROTOCOLS)
    possible = {name: each["folds"] for name, each in leaks.items() if "refused" not in each}
    assert possible == {"subject_holdout": 1, "leave_one_subject_out": 8, "paper": 1}
    assert leaks["paper"]["subject"] > 0
    assert (leaks["subject_holdout"]["subject"], leaks["subject_holdout"]["field"]) == (0, None)
    audit.print_audit(found)
    output = capsys.readouterr().out
    assert "cannot be read (data.on_error=skip): a/a0/bad.png (not an image in a supported format)" in output
    assert "prelim is impossible: protocol prelim needs the subsets 'train' and 'prelim'" in output
    assert "Declared leaky: paper, " in output


def test_duplicates_of_all_kinds(tree, capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    extra = {
        "a/a1/copy.png": converted(CELLS[0]),  # of a0, in another format
        "a/a2/copy.bmp": CELLS[0],
        "a/a3/rotated.png": converted(CELLS[1], transpose=Image.Transpose.ROTATE_90),
        "b/b0/wrong.jpg": converted(CELLS[2], "JPEG", quality=90),  # of a0 too: one of the classes is wrong
        "b/b1/copy.bmp": CELLS[15],  # of b1
    }
    found = audit.audit(tree(extra))
    exact, near = found["exact"], found["near"]
    assert exact["groups"] == [["a/a0/0.bmp", "a/a1/copy.png", "a/a2/copy.bmp"], ["b/b1/0.bmp", "b/b1/copy.bmp"]]
    assert counts(exact, "count", "subject", "merged", "label") == (2, 1, 0, 0)
    assert near["groups"] == [["a/a0/1.bmp", "a/a3/rotated.png"], ["a/a0/2.bmp", "b/b0/wrong.jpg"]]
    assert counts(near, "count", "subject", "merged", "label") == (2, 2, 2, 1)
    assert near["contradictory"] == [["a/a0/2.bmp", "b/b0/wrong.jpg"]]
    names = ["a0", "a1", "a2"]  # near duplicates do not merge subjects: neither a3 nor b0
    assert found["merged"] == [names]
    assert counts(by_protocol(found)["subject_holdout"], "subject", "duplicate") == (0, 0)
    audit.print_audit(found, tmp_path / "found.json")
    output = capsys.readouterr().out
    assert "near duplicates with several classes: a/a0/2.bmp = b/b0/wrong.jpg" in output
    assert "one subject: a0 = a1 = a2\n" in output
    assert json.loads((tmp_path / "found.json").read_text()) == found


def test_near_duplicates_are_counted_per_test_image(tree) -> None:
    copies = {f"a/a3/{cell}.jpg": converted(CELLS[cell], "JPEG", quality=85) for cell in range(3)}  # of a0
    leaks = by_protocol(audit.audit(tree(copies)))["leave_one_subject_out"]
    # three when a0 is tested, three when a3 is
    assert counts(leaks, "folds", "test_images", "duplicate", "near") == (8, 27, 0, 6)


def test_leaky_subset_is_an_error(tree) -> None:
    extra = {
        "test/a/a0/new.bmp": converted(CELLS[0], transpose=Image.Transpose.ROTATE_180),
        "test/b/b9/new.bmp": CELLS[23],
    }
    found = audit.audit(tree(extra), ["--config.split.test_subset=test"])
    assert "protocol prelim leaks" in found["error"]
    assert "b3+b9" in found["error"]
    assert (found["exact"]["subset"], found["near"]["subset"]) == (1, 1)


@pytest.mark.real
def test_real_images(cnmc_zip) -> None:
    found = audit.audit(str(cnmc_zip))
    assert (found["images"], found["subject_names"], found["error"]) == (526, 59, "")
    assert counts(found["exact"], "count", "subject", "fold", "label") == (3, 3, 2, 0)
    assert counts(found["near"], "count", "subject", "merged", "label") == (20, 3, 0, 0)
    assert found["merged"] == [["20", "21"], ["51", "78"], ["H2", "H4", "H5", "H6"], ["H3", "H10"]]
    names = [[path.rpartition("UID_")[2].split("_")[:2] for path in pair] for pair in found["near"]["groups"]]
    assert [{one[0], other[0]} for one, other in names if one[0] != other[0]] == [
        {"H2", "H6"},
        {"H2", "H6"},
        {"H10", "h3"},
    ]
    assert all(one[1] != other[1] for one, other in names if one[0] == other[0]), "two fields of one subject"
    possible = {name: each for name, each in by_protocol(found).items() if name not in OF_SOURCES}
    leaks = {name: counts(each, "subject", "duplicate", "near") for name, each in possible.items()}
    assert leaks.pop("paper")[0] > 80
    assert leaks.pop("official_folds_by_name") == (31, 4, 10)
    assert set(leaks.values()) == {(0, 0, 0)}
