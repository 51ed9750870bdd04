import pytest

from alljax.data.readers import open_all, open_labeled
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
    assert len(open_labeled(settings(path)).records) == 2


def test_csv_with_two_columns(plant):
    dataset = open_all(str(write_csv(plant, "Label , Path\r\n1,a\\10.png\r\n,\r\nb,./3.png\r\n\r\n")))
    assert [(r.path, dataset.classes[r.label]) for r in dataset.records] == [("3.png", "b"), ("a/10.png", "1")]


@pytest.mark.parametrize(
    ("header", "notes"),
    [
        ("path,label,subject,subset", ()),
        ("File Name,class,Patient-ID,Split", ("'File Name' as path, 'class' as label, 'Patient-ID' as subject",)),
        ("filename,diagnosis,group,set", ("'filename' as path, 'diagnosis' as label, 'group' as subject",)),
        ("path,label,subject,subset,patient,age", ("columns not used: patient, age (used are path, label, subject,",)),
        ("path\tlabel\tsubject\tsubset", (r"values are separated by '\t' instead of commas",)),
        ("path;label;subject;subset", ("values are separated by ';' instead of commas",)),
    ],
)
def test_columns_of_other_names_are_used_or_named(plant, header, notes):
    separator = next(character for character in ",;\t" if character in header)
    rows = [header, "a/2.png,cat,tom,test,1,9", "a/10.png,dog,rex,train,2,8"]
    text = "\n".join(separator.join(row.split(",")[: header.count(separator) + 1]) for row in rows[1:])
    dataset = open_all(str(write_csv(plant, f"{header}\n{text}\n")))
    assert [(r.label, r.subject, r.subset) for r in dataset.records] == [(0, "tom", "test"), (1, "rex", "train")]
    assert len(dataset.notes) == len(notes)
    for found, expected in zip(dataset.notes, notes, strict=True):
        assert expected in found


def test_spellings_are_joined(plant):
    rows = "a/2.png,Cat,P7,Training\na/10.png,cat ,p7,TRAIN\n3.png,dog,12,Hold-out set\n"
    dataset = open_all(str(write_csv(plant, f"path,label,subject,split\n{rows}")))
    found = [(r.label, r.subject, r.subset) for r in dataset.records]
    assert found == [(1, "12", "test"), (0, "P7", "train"), (0, "P7", "train")]
    assert any("joined spellings of 1 class name" in note for note in dataset.notes)


def test_missing_values_are_those_of_pandas(plant):
    dataset = open_all(str(write_csv(plant, "path,label,subject\na/2.png,cat,NaN\n3.png,dog,None\na/10.png,dog,007\n")))
    assert [record.subject for record in dataset.records] == ["", "", "007"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a CSV"),
        ("\xff\xfe\x00", "cannot be read as a CSV"),
        ('path,label\n"3.png,a\na/2.png,b\n', "cannot be read as a CSV: .*EOF inside string"),
        ("3.png,a\n", "no column 'path', only 3.png, a; the first line must name the columns path, label"),
        ("path,kind\n3.png,a\n", "no column 'label', only path, kind"),
        ("path,label\n3.png\n", "no path or label in line 2; complete or remove"),
        ("path,label\n3.png,NA\n", "no path or label in line 2.* a class needs another name"),
        ("path,label\n3.png,a\n,2.png,b\n", "cannot be read as a CSV.* Expected 2 fields in line 3, saw 3"),
        ("path,label\n4.png,a\n3.png,b\n", r"1 of 2 images not found .*: 4\.png"),
        ("path,label\n3.png,a\n./3.png,a\n", r"listed twice: 3\.png"),
        ("path,label\na/2.png,a\na\\\\2.png,a\n", r"listed twice: a/2\.png"),
        ("path,label,Subject,subject\n3.png,a,b,c\n", "repeated columns: Subject, subject; rename or remove"),
        ("path,label,patient,group\n3.png,a,b,c\n", "'patient' and 'group' could both be the subject; rename"),
    ],
)
def test_invalid_csv(plant, text, message):
    path = write_csv(plant, "")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=rf"cells\.csv: .*{message}"):
        open_all(str(path))
