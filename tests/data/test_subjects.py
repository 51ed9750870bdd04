"""Subject names that share an image, or are known to be one subject, are merged."""

from alljax.data import cnmc
from alljax.data.dataset import Record
from alljax.data.splits import merge_subjects


def records(*subjects: str, paths: tuple[str, ...] = ()) -> list[Record]:
    paths = paths or tuple(f"{number}.png" for number in range(len(subjects)))
    return [Record(path, 0, subject) for path, subject in zip(paths, subjects, strict=True)]


def test_names_without_shared_images_are_the_subjects() -> None:
    images = records("2", "H1", "2", "", "", paths=("0", "1", "2", "a.png", "b.png"))
    assert merge_subjects(images, list("abcde")) == ("2", "H1", "2", "a.png", "b.png")
    assert merge_subjects(images) == ("2", "H1", "2", "a.png", "b.png")


def test_shared_images_merge_names_transitively() -> None:
    images = records("H10", "H2", "H2", "H3", "7", "H3", "7")
    merged = ("H2+H3+H10",) * 4 + ("7", "H2+H3+H10", "7")
    assert merge_subjects(images, ["a", "a", "b", "b", "c", "d", "c"]) == merged


def test_known_subjects_are_merged() -> None:
    images = records("20", "21", "3", "51", "78")
    assert merge_subjects(images, list("abcde"), cnmc.KNOWN_SUBJECTS) == ("20+21", "20+21", "3", "51+78", "51+78")


def test_identical_images_without_names_stay_together() -> None:
    images = records("", "", "", "9", paths=("b.png", "a.png", "c.png", "d.png"))
    assert merge_subjects(images, ["x", "x", "y", "z"]) == ("a.png", "a.png", "c.png", "9")
    assert merge_subjects(images, ["x", "x", "y", "x"]) == ("9", "9", "c.png", "9")
