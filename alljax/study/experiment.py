"""What all cells of a study share: the images, the people they come from, and the splits."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax.data import splits
from alljax.data.dataset import Dataset, Record, check
from alljax.data.inspection import Inspection, drop_unreadable, inspect
from alljax.data.readers import open_dataset
from alljax.data.subjects import unite
from alljax.errors import first_few, plural
from alljax.evaluation import baselines


@dataclass(frozen=True)
class Material:
    """Images that have been looked at once, with people and splits.

    Attributes:
        dataset: records, classes and the way to the images.
        inspection: digests and areas of the images, one a record.
        people: the person of each record.
        splits: rows learned from, set aside for validation and tested, one a repeat and fold.
        labels: int32 (N,).
    """

    dataset: Dataset
    inspection: Inspection
    people: tuple[str, ...]
    splits: tuple[splits.Split, ...]
    labels: np.ndarray

    @property
    def unit(self) -> str:
        """What is resampled for intervals: ``subjects``, or ``images`` where no subject is known."""
        return "subjects" if any(record.subject for record in self.dataset.records) else "images"

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of the labeled images, and that of the splits."""
        records = self.dataset.records
        listed = hashlib.sha256()
        for record, digest in zip(records, self.inspection.digests, strict=True):
            listed.update(f"{record.path}\t{self.dataset.classes[record.label]}\t{digest}\n".encode())
        return {"images": listed.hexdigest(), "split": splits.fingerprint(self.splits, records)}

    @cached_property
    def leaks(self) -> dict[str, int]:
        """How many tested cells have their person, field or a copy among the training cells."""
        return splits.leaks(self.splits, self.dataset.records, self.people, self.inspection.pixels)

    @cached_property
    def size_threshold(self) -> baselines.SizeThreshold:
        """The baseline that only knows the size of the cell."""
        return baselines.size_threshold(self.labels, self.inspection.areas, self.splits, len(self.dataset.classes))

    def describe(self, config: ConfigDict) -> dict[str, Any]:
        """Returns the ``dataset`` of a study's metrics.json."""
        records = self.dataset.records
        by_class = {
            name: {
                "images": sum(record.label == label for record in records),
                "subjects": len({record.subject for record in records if record.label == label and record.subject}),
            }
            for label, name in enumerate(self.dataset.classes)
        }
        return {
            "name": self.dataset.name,
            "source": config.data.source,
            "classes": list(self.dataset.classes),
            "class_names": list(self.dataset.class_names),
            "images": len(records),
            "subject_names": len({record.subject for record in records if record.subject}),
            "subjects": len(set(self.people)) if self.unit == "subjects" else 0,
            "by_class": by_class,
            "notes": list(self.dataset.notes),
            "image_size": list(self.inspection.sizes.most_common(1)[0][0]),
            "sha256": self.digests["images"],
        }

    def describe_split(self, config: ConfigDict) -> dict[str, Any]:
        """Returns the ``protocol`` and ``leaks`` of a way of dividing the images, with what simple rules score on it.

        Args:
            config: of a cell that is divided so.
        """
        scored = baselines.evaluate(
            self.labels,
            self.size_threshold,
            self.splits,
            self.people,
            resamples=config.evaluation.resamples,
            level=config.evaluation.level,
            seed=config.seed,
        )
        protocol = {
            "name": config.split.protocol,
            "folds": max(split.fold for split in self.splits) + 1,
            "repeats": config.split.repeats,
            "seed": config.seed,
            "fingerprint": self.digests["split"],
            "leaky": config.split.protocol in splits.LEAKY,
            "training_images": [len(split.train) for split in self.splits],
            "test_images": [len(split.test) for split in self.splits],
        }
        return {"protocol": protocol, "leaks": self.leaks, "baselines": scored}


def open_material(config: ConfigDict) -> Material:
    """Opens the source, looks at every image once, and draws the splits.

    Raises:
        DataError: nothing usable there, images that cannot be read, or not what the protocol needs.
        LeakError: a protocol that puts a person on both sides without being declared leaky.
    """
    return open_materials([config])[0]


def open_materials(trials: Sequence[ConfigDict]) -> list[Material]:
    """Returns the material of each cell; cells that divide the images alike share it, all share the images.

    Args:
        trials: configs that differ in ``split`` at most, as far as this reads them.

    Raises:
        DataError, LeakError: as `open_material`.
    """
    dataset, inspection = open_images(trials[0], subsets(trials))
    people = unite(dataset.records, inspection.pixels, dataset.known_subjects)
    labels = np.array([record.label for record in dataset.records], np.int32)
    undivided = Material(dataset, inspection, people, (), labels)
    divided: dict[str, Material] = {}
    for config in trials:
        if (key := config.split.to_json()) not in divided:
            divided[key] = _divide(undivided, config)
    return [divided[config.split.to_json()] for config in trials]


def _divide(undivided: Material, config: ConfigDict) -> Material:
    """Returns the material with splits, drawn from the part of the source that the protocol uses."""
    dataset, people = undivided.dataset, undivided.people
    used = np.arange(len(people))
    if config.split.protocol != "prelim":
        used = np.array([row for row in used if dataset.records[row].subset == config.data.subset])
    records, owners = [dataset.records[row] for row in used], [people[row] for row in used]
    drawn = splits.make_splits(
        config.split.protocol,
        records,
        owners,
        [undivided.inspection.pixels[row] for row in used],
        classes=dataset.classes,
        folds=config.split.folds,
        repeats=config.split.repeats,
        seed=config.seed,
        test_fraction=config.split.test_fraction,
        stratified=config.split.stratified,
        test_subset=config.split.test_subset,
        validation=config.split.validation,
        train_subjects=config.split.train_subjects,
    )
    if config.split.protocol == "official_folds" and (note := splits.moved(records, owners)):
        logging.info(note)
        dataset = replace(dataset, notes=(*dataset.notes, note))
    of_all = tuple(
        splits.Split(each.repeat, each.fold, *(used[rows] for rows in (each.train, each.test, each.validation)))
        for each in drawn
    )
    material = replace(undivided, dataset=dataset, splits=of_all)
    if line := _leak_line(material, config.split.protocol):
        logging.info(line)
    return material


def _leak_line(material: Material, protocol: str) -> str:
    """Says how many held-out cells leak, of a protocol declared leaky even if none does; else empty."""
    leaks = material.leaks
    kin = {"subject": "the subject", "field": "the photograph", "duplicate": "the same image"}
    if material.unit == "images":
        del kin["subject"]
    if protocol not in splits.LEAKY and not any(leaks[key] for key in kin):
        return ""
    counts = ", ".join(f"{what} of {leaks[key]:,}" for key, what in kin.items())
    return f"protocol {protocol!r} leaks: training images have {counts} of the {leaks['test_images']:,} held-out images"


def subsets(trials: Sequence[ConfigDict]) -> tuple[str, ...]:
    """Returns the subsets of the source that the trials use; none for ``data.subset`` alone."""
    tested = [trial.split.test_subset for trial in trials if trial.split.protocol == "prelim"]
    return ("train", *([] if len(tested) == len(trials) else [trials[0].data.subset]), *tested) if tested else ()


def open_records(trials: Sequence[ConfigDict]) -> Dataset:
    """Returns the data set of a study without reading its images.

    Args:
        trials: the configs of the study's trials.
    """
    return open_dataset(trials[0].data, subsets(trials))


def open_images(config: ConfigDict, parts: Sequence[str] = ()) -> tuple[Dataset, Inspection]:
    """Opens the source and looks at every image once; says what was left out or converted.

    Args:
        config: ``data`` is read.
        parts: of the source; none for ``data.subset`` alone.

    Raises:
        DataError: nothing usable there, or images that cannot be read.
    """
    dataset = open_dataset(config.data, parts)
    inspection = inspect(dataset, config.data.on_error)
    dataset = check(drop_unreadable(dataset, inspection), config.data.source)
    first: dict[str, Record] = {}
    both = [
        f"{first[pixels].path} and {record.path}"
        for record, pixels in zip(dataset.records, inspection.pixels, strict=True)
        if first.setdefault(pixels, record).label != record.label
    ]
    if both:
        note = f"{plural(len(both), 'image')} under two classes, one label is wrong: {first_few(both)}"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    for note in dataset.notes:
        logging.info(note)
    return dataset, inspection
