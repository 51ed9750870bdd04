import pytest

from alljax.data.readers import open_all, open_dataset
from alljax.errors import DataError

CSV = "path,label,subject,subset\na/10.png,dog,rex,\na/2.png,cat,tom,train\n3.png,cat,kit,test\n"


def write_csv(plant, text):
    return plant({"a/10.png": None, "a/2.png": None, "3.png": None, "cells.csv": text.encode()}) / "cells.csv"


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_csv(plant, settings, picture, bom):
    path = write_csv(plant, bom + CSV)
    dataset = open_all(str(path))
    assert dataset.classes == ("cat", "dog")
    assert [(r.path, r.label, r.subject, r.subset) for r in dataset.records] == [
        ("3.png", 0, "kit", "test"),
        ("a/2.png", 0, "tom", "train"),
        ("a/10.png", 1, "rex", "train"),
    ]
    assert dataset.read(dataset.records[1]) == picture("a/2.png")
    assert open_all(str(path), ("dog", "cat")).classes == ("dog", "cat")
    assert open_all(str(path), ("dog",)).notes == ("skipped 2 images, of none of the classes: 3.png, a/2.png",)
    assert len(open_dataset(settings(path)).records) == 2


def test_csv_with_two_columns(plant):
    dataset = open_all(str(write_csv(plant, "Label , Path\r\n1,a\\10.png\r\nNA,3.png\r\n\r\n")))
    assert [(r.path, dataset.classes[r.label]) for r in dataset.records] == [("3.png", "NA"), ("a/10.png", "1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns path, label"),
        ("\xff\xfe\x00", "cannot be read as a CSV"),
        ("file,label\n3.png,a\n", "expected the columns path, label .* found file, label"),
        ("path,label\n3.png\n", "row 1 has too many values, or no path or label"),
        ("path,label\n3.png,a\n,2.png,b\n", "row 2 has too many values"),
        ("path,label\n4.png,a\n3.png,b\n", r"1 of 2 images not found .*: 4\.png"),
        ("path,label\n3.png,a\n3.png,a\n", r"3\.png is listed twice"),
    ],
)
def test_invalid_csv(plant, text, message):
    path = write_csv(plant, "")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=rf"cells\.csv: .*{message}"):
        open_all(str(path))
