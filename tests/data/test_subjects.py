import pytest

from alljax.config import default_config
from alljax.data import cnmc, images
from alljax.data.dataset import Record
from alljax.data.readers import open_dataset
from alljax.data.subjects import unite


def records(*subjects, paths=()):
    paths = paths or [f"{number}.png" for number in range(len(subjects))]
    return [Record(path, 0, subject) for path, subject in zip(paths, subjects, strict=True)]


def test_people_without_ties_are_the_subjects():
    cells = records("2", "H1", "2", "", "", paths=("0", "1", "2", "a.png", "b.png"))
    assert unite(cells, list("abcde")) == ("2", "H1", "2", "a.png", "b.png")
    assert unite(cells) == ("2", "H1", "2", "a.png", "b.png")


def test_identical_images_unite_people_along_chains():
    cells = records("H10", "H2", "H2", "H3", "7", "H3", "7")
    assert unite(cells, ["a", "a", "b", "b", "c", "d", "c"]) == ("H2+H3+H10",) * 4 + ("7", "H2+H3+H10", "7")


def test_known_people_are_united_and_absent_names_ignored():
    people = unite(records("20", "21", "3", "51", "78"), list("abcde"), cnmc.KNOWN_SUBJECTS)
    assert people == ("20+21", "20+21", "3", "51+78", "51+78")


def test_identical_images_without_subject_stay_together():
    cells = records("", "", "", "9", paths=("b.png", "a.png", "c.png", "d.png"))
    assert unite(cells, ["x", "x", "y", "z"]) == ("a.png", "a.png", "c.png", "9")
    assert unite(cells, ["x", "x", "y", "x"]) == ("9", "9", "c.png", "9")


def test_a_path_is_no_subject():
    cells = records("same", "", paths=("0", "same"))
    assert len(unite(cells, ["a", "b"])) == 2
    with pytest.raises(ValueError, match="zip"):
        unite(cells, ["a"])


@pytest.mark.real
def test_the_real_cells_keep_their_people_together(cnmc_zip):
    data = default_config().data
    data.source, data.allow_partial = str(cnmc_zip), True
    dataset = open_dataset(data)
    people = unite(dataset.records, images.inspect(dataset).digests, dataset.known_subjects)
    by_subject = {each.subject: person for each, person in zip(dataset.records, people, strict=True)}
    assert by_subject["20"] == by_subject["21"] == "20+21"
    assert by_subject["51"] == by_subject["78"]
    assert by_subject["H2"] == by_subject["H4"] == by_subject["H5"] == by_subject["H6"] == "H2+H4+H5+H6"
    assert by_subject["H3"] == by_subject["H10"]
    assert by_subject["3"] == "3"
