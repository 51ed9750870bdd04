"""`alljax data verify`: the complete C-NMC set, everything that can be wrong, and other folders."""

import json
from collections import Counter

import pytest

from alljax.data import audit, cnmc

TRAIN, PRELIM, FINAL = "training_data", "validation_data/C-NMC_test_prelim_phase_data", "testing_data/phase3"
TABLE = "validation_data/C-NMC_test_prelim_phase_data_labels.csv"


EXPECTED = cnmc.expected().values()
IMAGES = Counter(map(cnmc.group, EXPECTED))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes 12 × 12 pixels (final phase: 16 × 16) the expected sizes."""
    monkeypatch.setattr(cnmc, "SIZES", {"train": (12, 12), "prelim": (12, 12), "final": (16, 16)})


@pytest.fixture
def complete(picture) -> dict[str, bytes]:
    """The files of the complete set in the Kaggle layout, with one image per phase."""
    cell, larger = picture("cell.bmp"), picture("larger.bmp", 16)
    files, rows = {}, ["Patient_ID,new_names,labels"]
    for record in EXPECTED:
        if record.subset == "train":
            files[f"{TRAIN}/fold_{record.fold}/{cnmc.CLASSES[record.label]}/{record.path}"] = cell
        elif record.subset == "prelim":
            files[f"{PRELIM}/{len(rows)}.bmp"] = cell
            rows.append(f"{record.path},{len(rows)}.bmp,{record.label}")
        else:
            files[f"{FINAL}/{record.path}"] = larger
    return files | {TABLE: "".join(f"{row}\r\n" for row in rows).encode()}


def counts(found: dict, *names: str) -> dict[tuple[str, str, str], tuple]:
    return {
        (group["subset"], group["fold"], group["class"]): tuple(group[name] for name in names)
        for group in found["groups"]
        if any(group[name] for name in names)
    }


def test_complete_set(plant, complete, small, capsys: pytest.CaptureFixture[str]) -> None:
    found = audit.verify(str(plant(complete, zipped=True)))
    assert found["problems"] == {}
    columns = ("images", "expected_images", "subjects")
    subjects = Counter(group for group, subject in {(cnmc.group(r), r.subject) for r in EXPECTED} if subject)
    assert counts(found, *columns) == {group: (images, images, subjects[group]) for group, images in IMAGES.items()}
    assert found["sizes"] == {"12 × 12": 12_528, "16 × 16": 2_586}
    audit.print_verification(found)
    output = capsys.readouterr().out
    assert "\nprelim: 1,867 of 1,867 images\nfinal: 2,586 of 2,586 images\n" in output
    assert output.endswith("no problems found\n")


def test_all_problems(plant, complete, small, picture, capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    files = {path: data for path, data in complete.items() if "/fold_0/" in path or "/fold_2/hem/" in path}
    gone = [path for path in files if "/fold_0/all/UID_11_29_" in path]
    for path in gone:
        del files[path]
    first, second, third, fourth, fifth = sorted(path for path in files if "/fold_0/all/UID_4_" in path)[:5]
    files[first], files[second], files[third] = b"", files[second][:100], picture("large.bmp", 20)
    files[fourth.replace("fold_0", "fold_2")] = files.pop(fourth)
    files |= {
        f"{TRAIN}/fold_0/all/Thursday.bmp": None,
        f"{TRAIN}/fold_0/all/UID_999_1_1_all.bmp": None,
        f"{TRAIN}/fold_0/hem/UID_4_999_1_all.bmp": None,  # contradicts its folder
        f"copies/fold_0/all/{fifth.rpartition('/')[2]}": None,
        f"{PRELIM}/1.bmp": None,  # without the label CSV
    }
    found = audit.verify(str(plant(files)))
    assert set(found["problems"]) == set(audit.PROBLEMS) - {"outside", "unusable"}
    assert found["problems"]["odd_name"] == [f"{TRAIN}/fold_0/all/Thursday.bmp"]
    assert found["problems"]["surplus"] == [f"{TRAIN}/fold_0/all/UID_999_1_1_all.bmp"]
    assert found["problems"]["unlabeled"] == [f"{PRELIM}/1.bmp"]
    assert found["problems"]["contradictory"][0].startswith(f"{TRAIN}/fold_0/hem/UID_4_999_1_all.bmp: ")
    assert [name.partition(" (")[0] for name in found["problems"]["unreadable"]] == [first, second]
    assert found["problems"]["odd_size"] == [f"{third} (20 × 20)"]
    assert len(found["problems"]["repeated"]) == 1
    belongs = f"{fourth.replace('fold_0', 'fold_2')} (belongs in {fourth.replace(TRAIN, 'train')})"
    assert belongs in found["problems"]["misplaced"]
    absent = {g: IMAGES[g] for g in IMAGES if g[1] not in ("0", "2") or g == ("train", "2", "all")}
    absent["train", "0", "all"] = len(gone)
    missing = {group: (IMAGES[group] - count,) for group, count in absent.items() if IMAGES[group] > count}
    assert missing.items() <= counts(found, "images").items()
    assert "train/fold_0/all/UID_11_29_4_all.bmp" in found["problems"]["missing"]
    audit.print_verification(found, tmp_path / "found.json")
    assert f"{sum(absent.values()):,} missing: train/fold_0/all/" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text()) == found
    assert found["complete"] is False
    assert found["sizes"]["20 × 20"] == 1


FOLDER = {
    f"{subset}/{label}/{who}{label}/{cell}.png": None
    for subset in ("train", "test")
    for label in ("cat", "dog")
    for who in "xy"
    for cell in range(3)
}


def test_folder(plant, picture, capsys: pytest.CaptureFixture[str]) -> None:
    plant(FOLDER, zipped=True, root="source/all")  # a zip beside its unpacked files is no problem
    found = audit.verify(str(plant(FOLDER)))
    assert (found["name"], found["problems"]) == ("folder", {})
    assert counts(found, "images", "subjects", "expected_images") == {
        (subset, "", label): (6, 2, None) for subset in ("train", "test") for label in ("cat", "dog")
    }
    audit.print_verification(found)
    assert "missing" not in capsys.readouterr().out
    files = FOLDER | {
        "train/cat/xcat/1.png": b"no image",
        "train/dog/ydog/2.png": picture("large.png", 31),
        "stray.png": None,
    }
    assert audit.verify(str(plant(files, root="bad")))["problems"] == {
        "outside": ["stray.png"],
        "unreadable": ["train/cat/xcat/1.png (not an image in a supported format)"],
        "odd_size": ["train/dog/ydog/2.png (31 × 31)"],
    }
    assert "only one class" in audit.verify(str(plant(["only/1.png"], root="only")))["problems"]["unusable"][0]
    assert sum(group["images"] for group in audit.verify("synthetic")["groups"]) == 600
