"""The complete data set of 15,114 files; each file contains the hash of the original instead of an image."""

import csv
from collections import Counter, defaultdict

import pytest

from alljax.data import cnmc
from alljax.data.archive import natural_sort
from alljax.data.readers import open_all

pytestmark = pytest.mark.real

KAGGLE = {
    "train": "C-NMC_Leukemia/training_data/{fold}/{label}/{file}",
    "prelim": "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data/{file}",
    "final": "C-NMC_Leukemia/testing_data/C-NMC_test_final_phase_data/{file}",
}
LABELS = "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data_labels.csv"


@pytest.fixture(scope="module")
def manifest(cnmc_manifest):
    with cnmc_manifest.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def dataset(manifest, tmp_path_factory):
    root = tmp_path_factory.mktemp("complete")
    lines = ["Patient_ID,new_names,labels\r\n"]
    for row in manifest:
        path = root / KAGGLE[row["phase"]].format(**row)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes.fromhex(row["sha256"]))
        if row["phase"] == "prelim":
            lines.append(f"{row['uid_name']},{row['file']},{int(row['label'] == 'all')}\r\n")
    (root / LABELS).write_text("".join(lines), newline="")
    return open_all(str(root))


def group(row):
    return row["phase"], row["fold"].removeprefix("fold_"), row["label"]


def expected(manifest, path):
    """Returns the fields of all records in the manifest, with `path(row)`."""
    return {
        (
            *(path(row), *group(row)[:2], row["subject"].upper(), row["image"], row["cell"]),
            cnmc.CLASSES.index(row["label"]) if row["label"] else -1,
        )
        for row in manifest
    }


def fields(records):
    return {(r.path, r.subset, r.fold, r.subject, r.field, r.cell, r.label) for r in records}


def test_index_equals_the_manifest(manifest):
    assert fields(cnmc.expected().values()) == expected(manifest, lambda row: row["uid_name"] or row["file"])
    assert Counter(row["phase"] for row in manifest) == cnmc.COUNTS


def test_records_equal_the_manifest(dataset, manifest):
    assert fields(dataset.records) == expected(manifest, lambda row: KAGGLE[row["phase"]].format(**row))
    assert len({r.subject for r in dataset.records if r.subset == "train"}) == 73
    assert sum(r.subject == "H3" for r in dataset.records) == 36
    assert dataset.notes == (
        "train: 10,661 of 10,661 images",
        "prelim: 1,867 of 1,867 images",
        "final: 2,586 of 2,586 images",
    )


def test_known_subjects_are_those_that_share_images(dataset):
    same = defaultdict(set)
    for record in dataset.records:
        same[dataset.read(record)].add(record.subject)
    pairs = {tuple(natural_sort(names)) for names in same.values() if len(names) > 1}
    assert pairs == {("20", "21"), ("51", "78"), ("51", "75"), ("H2", "H4"), ("H2", "H5"), ("H2", "H6"), ("H3", "H10")}
    assert all(any(known.issuperset(pair) for known in cnmc.KNOWN_SUBJECTS) for pair in pairs)
