"""Properties of all images: what is measured and cached, unreadable images, and properties that predict a class."""

import dataclasses
import hashlib

import numpy as np
import pytest
from data.conftest import encode
from PIL import Image

from alljax.data.dataset import Dataset, Record
from alljax.data.inspection import inspect, measure_properties, property_warnings
from alljax.errors import DataError

NOISE = Image.fromarray(np.random.default_rng(0).integers(1, 256, (40, 30, 3), np.uint8))


def memory(contents: dict[str, bytes], **options: object) -> Dataset:
    records = tuple(Record(path, number % 2) for number, path in enumerate(contents))
    return Dataset("folder", ("a", "b"), records, read=lambda record: contents[record.path], **options)


def test_properties() -> None:
    half = np.zeros((10, 20, 3), np.uint8)
    half[:5, :, 2] = 1
    contents = {
        "1.png": encode(Image.fromarray(half)),
        "2.png": encode(NOISE.convert("L")),
        "3.bmp": encode(NOISE, "BMP"),
        "4.png": encode(NOISE.convert("RGBA")),
        "5.tif": encode(NOISE, "TIFF", save_all=True, append_images=[NOISE]),
    }
    dataset, found = inspect(memory(contents))
    assert found.digests == tuple(hashlib.sha256(data).hexdigest() for data in contents.values())
    assert found.pixels[1] != found.pixels[2] == found.pixels[3] != found.pixels[0]
    assert found.areas.dtype == np.float32
    assert found.areas == pytest.approx([0.5, 1, 1, 1, 1], abs=1e-3)
    assert found.colors[0] == pytest.approx([0, 0, 1])
    assert found.colors[2] == pytest.approx(np.asarray(NOISE).reshape(-1, 3).mean(0), abs=0.01)
    assert not found.black
    assert found.sizes == {(20, 10): 1, (30, 40): 4}
    assert len(set(found.similar)) == 2, "copies in other formats and colors are near duplicates"
    sizes, modes, *_ = dataset.notes
    assert sizes.startswith("images differ in size (4 of 30 × 40 pixels")
    assert modes == "converted to RGB: 1 of mode L, 1 of mode RGB, first of 2 frames, 1 of mode RGBA"
    _, cropped = inspect(memory(contents, crops={(30, 40): (10, 10)}))
    assert cropped.sizes == {(20, 10): 1, (10, 10): 4}
    assert cropped.pixels == found.pixels


GRAY = np.random.default_rng(0).integers(0, 65536, (40, 30)).astype(np.uint16)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (Image.fromarray(GRAY), ""),
        (Image.fromarray(GRAY >> 4), "small_range"),  # 12 bits in 16
        (Image.fromarray(GRAY >> 2), "small_range"),  # 14 bits in 16
        (Image.fromarray((GRAY >> 12).astype(np.uint8)), "small_range"),
        (NOISE.point(lambda value: value // 10), ""),  # 8 bits, dark
        (Image.new("RGB", (9, 7), (200, 30, 40)), "one_color"),
        (Image.merge("RGBA", (*NOISE.split(), Image.new("L", NOISE.size))), "one_color"),  # transparent
    ],
)
def test_suspicious_pixels_are_noted(image: Image.Image, problem: str) -> None:
    dataset, found = inspect(memory({"good.png": encode(NOISE), "tried.png": encode(image)}))
    assert found.pixel_problems == {"one_color": [], "small_range": []} | ({problem: ["tried.png"]} if problem else {})
    assert sum("tried.png" in note for note in dataset.notes) == bool(problem)


def test_unchanged_files_are_not_read_again(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    contents, reads, stamp = {"1.png": encode(NOISE), "2.png": encode(NOISE.convert("L"))}, [], ["first"]

    def read(record: Record) -> bytes:
        reads.append(record.path)
        return contents[record.path]

    dataset = dataclasses.replace(memory(contents), read=read, stamp=lambda record: stamp[0])
    (_, first), (_, second) = inspect(dataset), inspect(dataset)
    assert reads == ["1.png", "2.png"]
    assert all(np.array_equal(value, vars(second)[key]) for key, value in vars(first).items())
    stamp[0] = "changed"
    inspect(dataset)
    assert len(reads) == 4


def test_unreadable_images_are_named_or_skipped() -> None:
    contents = {f"{number}.png": encode(NOISE) if number % 2 else b"bad" for number in range(14)}
    message = (
        r"^7 of 14 images cannot be read, replace or remove them: 0.png \(not an image[^)]*\), 2.png .* and 2 more$"
    )
    with pytest.raises(DataError, match=message):
        inspect(memory(contents))
    contents = {"1.png": encode(NOISE), "2.png": b"", "3.png": encode(NOISE)[:500]}
    left, found = inspect(memory(contents), on_error="skip")
    assert [record.path for record in left.records] == ["1.png"]
    assert len(found.digests) == len(found.areas) == 1
    note = "2 images skipped, cannot be read (data.on_error=skip): 2.png (empty (0 bytes)), 3.png (damaged, truncated"
    assert left.notes[0].startswith(note)


LABELS = np.repeat([0, 1], 60)
SUBJECTS = [f"subject {number // 10}" for number in range(120)]  # six of each class
WIDTHS = np.random.default_rng(0).integers(100, 400, 120)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.where(LABELS == 1, 224, WIDTHS + (WIDTHS == 224)), 1),  # neither the smaller nor the larger class
        (np.where(LABELS == 1, "PNG", "BMP"), 1),
        (np.where(LABELS == 1, 250.5, 0.0), 1),
        (np.where((LABELS == 1) & (np.arange(120) % 10 < 6), 224, WIDTHS), 0.8),
        (np.full(120, 450), 0.5),
        (np.full(120, "BMP"), 0.5),
        (WIDTHS, 0.5),
        (np.repeat(np.random.default_rng(1).permutation(12), 10), 0.5),  # predicts the subject, not the class
    ],
)
def test_balanced_accuracy_is_that_of_other_subjects(values: np.ndarray, expected: float) -> None:
    measured = measure_properties(LABELS, SUBJECTS, {"width": values}, ["hem", "all"])
    assert measured["width"]["balanced_accuracy"] == pytest.approx(expected, abs=0.01 if expected == 1 else 0.2)


def test_a_class_of_one_subject_is_not_measured() -> None:
    assert (
        measure_properties(np.array([0, 0, 1]), ["a", "b", "c"], {"width": np.array([1, 1, 2])}, ["hem", "all"]) == {}
    )


def test_one_warning_names_all_properties() -> None:
    properties = {
        "width": np.where((LABELS == 1) & (np.arange(120) % 10 < 8), 224, WIDTHS),
        "format": np.where(LABELS == 1, "PNG", "BMP"),
        "bytes": WIDTHS,
    }
    (warning,) = property_warnings(measure_properties(LABELS, SUBJECTS, properties, ["hem", "all"]))
    assert "cell from the width with a balanced accuracy of 0." in warning
    assert ", from the file format with a balanced accuracy of 1.00 (hem BMP; all PNG): a m" in warning
    assert "file size" not in warning
    assert not list(property_warnings(measure_properties(LABELS, SUBJECTS, {"bytes": WIDTHS}, ["hem", "all"])))
    assert not list(property_warnings({}))
