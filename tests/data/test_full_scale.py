"""The complete data set of 15,114 files; each image contains the hash of the original instead of its pixels."""

import csv
import dataclasses
import hashlib
import io
import itertools
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from PIL import Image

from alljax.config import default_config
from alljax.data import cnmc, cnmc_index
from alljax.data.archive import Archive, natural_key, natural_sort
from alljax.data.leaks import count_leaks
from alljax.data.readers import open_all, open_dataset
from alljax.data.splits import make_splits
from alljax.data.subjects import merge_subjects
from alljax.errors import DataError

pytestmark = pytest.mark.real

KAGGLE = {
    "train": "C-NMC_Leukemia/training_data/{fold}/{label}/{file}",
    "prelim": "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data/{file}",
    "final": "C-NMC_Leukemia/testing_data/C-NMC_test_final_phase_data/{file}",
}
TABLE = "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data_labels.csv"


def placeholder(sha256):
    """Returns an image of eleven pixels that contains a hash."""
    file = io.BytesIO()
    Image.frombytes("RGB", (11, 1), bytes.fromhex(sha256) + b"\0").save(file, "BMP")
    return file.getvalue()


@pytest.fixture(scope="module")
def manifest(cnmc_manifest):
    with cnmc_manifest.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def kaggle(manifest, tmp_path_factory):
    root = tmp_path_factory.mktemp("complete")
    for row in manifest:
        path = root / KAGGLE[row["phase"]].format(**row)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(placeholder(row["sha256"]))
    late = [row for row in manifest if row["phase"] == "prelim"]
    lines = [f"{row['uid_name']},{row['file']},{int(row['label'] == 'all')}\r\n" for row in late]
    (root / TABLE).write_text("Patient_ID,new_names,labels\r\n" + "".join(lines), newline="")
    return root


@pytest.fixture(scope="module")
def dataset(kaggle):
    return open_all(str(kaggle))


@pytest.fixture(scope="module")
def digests(dataset):
    """The SHA-256 of each file by its record's path."""
    return {record.path: hashlib.sha256(dataset.read(record)).hexdigest() for record in dataset.records}


@pytest.fixture(scope="module")
def train(dataset):
    return [record for record in dataset.records if record.subset == "train"]


def index_text(manifest):
    """Returns the content of `cnmc_index.txt` from a manifest."""
    cells = defaultdict(lambda: defaultdict(list))
    for row in manifest:
        if row["phase"] != "final":
            _, subject, field, cell, label = Path(row["uid_name"]).stem.split("_")
            cells[row["phase"], row["fold"] or "-", label, subject][int(field)].append(int(cell))

    def ranges(numbers):
        runs = itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
        for _, run in runs:
            first, *rest = [number for _, number in run]
            yield f"{first}-{rest[-1]}" if rest else f"{first}"

    def order(who):
        return who[0] != "train", who[1], who[2], natural_key(who[3])

    lines = []
    for who in sorted(cells, key=order):
        fields = [f"{field}/{','.join(ranges(numbers))}" for field, numbers in sorted(cells[who].items())]
        lines.append(f"{' '.join(who)}: {' '.join(fields)}\n")
    return "".join(lines)


def test_index_equals_the_manifest(manifest):
    assert Path(cnmc_index.__file__).with_name("cnmc_index.txt").read_text() == index_text(manifest)
    listed = {(r.subset, r.fold, r.subject, r.field, r.cell, r.label, r.path) for r in cnmc_index.expected()}
    assert len(listed) == 15_114
    assert listed == {
        (
            *(row["phase"], row["fold"].removeprefix("fold_"), row["subject"].upper(), row["image"], row["cell"]),
            cnmc.CLASSES.index(row["label"]) if row["label"] else -1,
            row["uid_name"] or row["file"],
        )
        for row in manifest
    }


def test_counts_equal_the_manifest(manifest):
    subjects = defaultdict(set)
    for row in manifest:
        subjects[row["phase"], row["fold"].removeprefix("fold_"), row["label"]].add(row["subject"])
    images = Counter((row["phase"], row["fold"].removeprefix("fold_"), row["label"]) for row in manifest)
    assert {group: (images[group], len(subjects[group] - {""})) for group in images} == cnmc_index.KNOWN
    assert Counter(row["phase"] for row in manifest) == cnmc_index.COUNTS


def test_records(dataset, manifest):
    assert Counter(record.subset for record in dataset.records) == {"train": 10_661, "prelim": 1_867, "final": 2_586}
    assert {(r.path, r.subset, r.fold, r.subject, r.field, r.cell, r.label) for r in dataset.records} == {
        (
            *(KAGGLE[row["phase"]].format(**row), row["phase"], row["fold"].removeprefix("fold_")),
            *(row["subject"].upper(), row["image"], row["cell"]),
            cnmc.CLASSES.index(row["label"]) if row["label"] else -1,
        )
        for row in manifest
    }
    assert len({r.subject for r in dataset.records if r.subset == "train"}) == 73
    assert len({r.subject for r in dataset.records if r.subset == "prelim"}) == 28
    assert sum(r.subject == "H3" for r in dataset.records) == 36
    assert dataset.notes == (
        "train: 10,661 of 10,661 images",
        "prelim: 1,867 of 1,867 images",
        "final: 2,586 of 2,586 images",
    )


def test_complete_copy_is_accepted(kaggle):
    data = default_config().data
    data.source = str(kaggle)
    assert len(open_dataset(data, ("train", "prelim")).records) == 10_661 + 1_867


def test_missing_files_are_named(dataset):
    gone = next(r for r in dataset.records if r.path.endswith("UID_H22_2_3_hem.bmp"))
    rest = [record for record in dataset.records if record is not gone]
    with pytest.raises(DataError, match=r"1 image .* missing \(1 of 1,163 train fold 1 hem\): UID_H22_2_3_hem.bmp;"):
        cnmc.check_complete(rest, ("train",), "here")
    cnmc.check_complete(rest, ("prelim", "final"), "here")
    late = [record for record in rest if not record.path.endswith(("/7.bmp", "/2586.bmp"))]
    listed = r"3 images .* \(1 of 648 prelim hem, 2 of 2,586 final\): UID_.*, 7.bmp, 2586.bmp;"
    with pytest.raises(DataError, match=listed):
        cnmc.check_complete(late, ("prelim", "final"), "here")


def test_names_determine_subset_and_fold(manifest, dataset):
    files = natural_sort(f"{row['label'].upper()}/{row['uid_name']}" for row in manifest if row["label"])
    merged = cnmc.read_cnmc(Archive(Path("merged"), "merged", tuple(files), ("ALL", "HEM"), bytes, str))

    def who(records):
        return {(r.subset, r.fold, r.subject, r.field, r.cell, r.label) for r in records if r.subject}

    assert len(who(merged.records)) == 12_528
    assert who(merged.records) == who(dataset.records)


def test_duplicates(dataset, digests, train):
    same = defaultdict(list)
    for record in dataset.records:
        same[record.subset, digests[record.path]].append(record)
    groups = [records for records in same.values() if len(records) > 1]
    pairs = [records for records in groups if records[0].subset == "train"]
    assert {len(records) for records in groups} == {2}
    assert Counter(records[0].subset for records in groups) == {"train": 104, "final": 2}
    assert len({digests[record.path] for record in train}) == 10_557
    assert sum(a.subject != b.subject for a, b in pairs) == 99
    assert sum(a.fold != b.fold for a, b in pairs) == 94
    assert Counter("=".join(natural_sort((a.subject, b.subject))) for a, b in pairs) == {
        **{"20=21": 71, "51=78": 11, "51=75": 10, "H2=H4": 3, "H2=H5": 2, "H2=H6": 1, "H3=H10": 1, "H10=H10": 5},
    }


def test_subjects_that_share_images(digests, train):
    dataset_subjects = merge_subjects(train, [digests[record.path] for record in train])
    merged = {frozenset(name.split("+")) for name in dataset_subjects if "+" in name}
    assert merged == set(cnmc.KNOWN_SUBJECTS)
    assert dataset_subjects == merge_subjects(train, known_subjects=cnmc.KNOWN_SUBJECTS)
    assert len(set(dataset_subjects)) == 66


def test_official_folds_leak_by_name(dataset, digests, train):
    listed = [digests[record.path] for record in train]
    dataset = dataclasses.replace(dataset, records=tuple(train))
    merged = merge_subjects(train, listed)
    settings = default_config().split
    settings.protocol = "official_folds_by_name"
    folds = make_splits(dataset, merged, settings, seed=0)
    assert [len(fold.test) for fold in folds] == [3_527, 3_581, 3_553]
    counts = count_leaks(folds, train, merged, listed)
    assert counts["duplicate"] == 2 * 94
    assert counts["subject"] > 2 * 94
    assert count_leaks(folds, train, [record.subject for record in train], listed)["subject"] == 0
    settings.protocol = "official_folds"
    counts = count_leaks(make_splits(dataset, merged, settings, seed=0), train, merged, listed)
    assert (counts["subject"], counts["duplicate"]) == (0, 0)


def test_split_of_the_paper(dataset, train):
    settings = default_config().split
    settings.protocol, settings.stratified = "paper", True
    subjects = [record.subject for record in train]
    (fold,) = make_splits(dataclasses.replace(dataset, records=tuple(train)), subjects, settings, seed=0)
    assert (len(fold.train), len(fold.test)) == (8_528, 2_133)
    assert Counter(cnmc.CLASSES[train[row].label] for row in fold.test) == {"all": 1_455, "hem": 678}
