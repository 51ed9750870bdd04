"""Opens sources, or images in memory, as a `Dataset`."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas

from alljax import extensions
from alljax.config import compile_pattern, default_config, load_config
from alljax.data import cnmc, csv_list, folder, synthetic
from alljax.data.archive import Archive, is_image
from alljax.data.dataset import SKIPPED, UNLABELED, Dataset, Record, check
from alljax.data.images import encode
from alljax.data.inspection import inspect
from alljax.data.medmnist import read_medmnist
from alljax.data.names import normalize
from alljax.errors import ConfigError, DataError, first_few, plural

EXPECTED = (
    "expected RGB images, uint8 (N, H, W, 3), or a list of (H, W, 3) of any sizes, from 0 to 255 (a single image is "
    "[image]; move channels last, repeat gray three times, multiply values from 0 to 1 by 255), or paths"
)


def open_dataset(
    source: str | Path | Sequence[tuple[str, ...]], subsets: Sequence[str] = (), **settings: Any
) -> Dataset:
    """Opens a labeled data set; its images are read when they are needed.

    Args:
        source: A folder or zip with a folder per class, or with C-NMC file names; a CSV with the columns path, label,
            subject and split; an ``.npz`` of MedMNIST; ``synthetic``; or several: tuples (name, path[, classes]), whose
            names are the beginnings of paths and subjects, and the folds.
        subsets: The subsets to use together, for example ``["train", "prelim"]``; by default ``train``.
        **settings: Settings below ``data.``, such as ``classes=["hem", "all"]``, ``allow_partial=True``,
            ``name_pattern="(?P<subject>P[0-9]+)"``, or ``on_error="skip"``, which reads every image at once.

    Raises:
        DataError: No such source, no usable images, or an incomplete copy of C-NMC 2019 without ``allow_partial``.
        ConfigError: A setting that does not exist, or classes that do not match the source.

    >>> alljax.open_dataset("synthetic", synthetic__images=24, synthetic__subjects=8)
    Dataset 'synthetic': 24 images: all 16, hem 8; 8 subject names: 1, 2, 3, 4, 5 and 3 more
      24 generated images of 8 subjects: results say nothing about leukemia
    """
    fixed = {"data.sources": source} if isinstance(source, list | tuple) else {"data.source": str(source)}
    data = load_config(**fixed, **{f"data.{name}": value for name, value in settings.items()}).data
    dataset = open_labeled(data, subsets)
    return inspect(dataset, "skip")[0] if data.on_error == "skip" else dataset


def open_labeled(data: Any, subsets: Sequence[str] = ()) -> Dataset:
    """Does what `open_dataset` does with the part `data` of a config; by default opens its subset `data.subset`."""
    subsets = tuple(dict.fromkeys(subsets)) or (data.subset,)
    if data.sources:
        return _join_sources(data, subsets)
    everything = open_all(data.source, data.classes, data.name_pattern, data.synthetic)
    dataset = check(_select(everything, subsets, data.source), data.source)
    if dataset.name == "cnmc" and not data.allow_partial:
        cnmc.check_complete(everything.records, subsets, data.source)
    return dataset


def open_all(
    source: str, classes: Sequence[str] = (), name_pattern: str = "", generated: Any = None, strict: bool = True
) -> Dataset:
    """Opens all subsets of a source, unlabeled images too; contradictory labels are an error if `strict`."""
    dataset = _read(source, generated, name_pattern, classes)
    if strict and (wrong := dataset.skipped.get("contradictory")):
        raise DataError(f"{wrong[0]} ({len(wrong):,} contradictory in all, see `alljax data verify`)")
    if name_pattern and (dataset.name != "folder" or source.lower().endswith(".csv")):
        raise ConfigError(f"data.name_pattern is for folders of images; {source} has its own subject names")
    if classes:
        dataset = _choose_classes(dataset, tuple(map(str, classes)), source)
    return replace(dataset, notes=tuple(dict.fromkeys((*dataset.notes, *_remarks(dataset)))))


def as_dataset(images: Any, generated: Any = None, name_pattern: str = "") -> Dataset:
    """Returns a `Dataset` unchanged, and others as one: arrays (see `EXPECTED`), or what `open_unlabeled` opens."""
    if isinstance(images, Dataset):
        return images
    if isinstance(images, str | os.PathLike):
        images = [images]
    if hasattr(images, "__array__"):
        images = np.atleast_1d(images)  # all of them at once from the memory of a device
    if not isinstance(images, Iterable) or not (several := [*images]):
        raise DataError(f"images: {type(images).__name__} without images; {EXPECTED}")
    if all(isinstance(one, str | os.PathLike) for one in several):
        return open_unlabeled([Path(path).expanduser() for path in several], generated, name_pattern)
    arrays = {f"images[{number}]": np.asarray(image) for number, image in enumerate(several)}
    for name, image in arrays.items():
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            values = f" with values up to {image.max():g}" if image.size and image.dtype.kind in "fiu" else ""
            raise DataError(f"{name}: {image.dtype} {image.shape}{values}; {EXPECTED}")
    if max(image.max() for image in arrays.values()) == 1:  # divided by 255, then cast
        raise DataError(f"images: uint8 with values up to 1; {EXPECTED}")
    records = tuple(Record(name, UNLABELED) for name in arrays)
    return Dataset("images", (), records, lambda record: encode(arrays[record.path]))


def open_unlabeled(sources: Sequence[Path], generated: Any = None, name_pattern: str = "") -> Dataset:
    """Opens all images of sources or image files without labels; paths start with the source."""
    pattern = compile_pattern("data.name_pattern", name_pattern, repeats=6)
    opened: dict[str, Callable[[], bytes]] = {}
    records: dict[str, Record] = {}
    notes: dict[str, None] = {}
    crops: dict[tuple[int, int], tuple[int, int]] = {}
    for source in sources:
        name = f"{source}/" if source.is_dir() else str(source)  # a folder named synthetic/ is a folder
        dataset = _read(name, generated, labeled=False)
        if not dataset.records:
            raise DataError(f"{source}: no images in it{''.join(f'; {note}' for note in dataset.notes)}")
        # The paths of a single image, and of a download in parts, of which all are read, start with its own name.
        named = source.is_file() and any(record.path.startswith(source.name) for record in dataset.records)
        base = source.parent if named or dataset.name == "table" or source.suffix.lower() == ".csv" else source
        for record in dataset.records:
            name = (base / record.path).as_posix()
            match = pattern.search(name if "/" in name_pattern else PurePosixPath(name).name)
            stated = match.groupdict("").get("subject", "") if match else ""
            opened[name] = partial(dataset.read, record)
            records[name] = Record(name, UNLABELED, record.subject or stated)
        notes |= dict.fromkeys(dataset.notes)
        crops |= dataset.crops
    images = tuple(records.values())
    return Dataset("images", (), images, lambda record: opened[record.path](), tuple(notes), crops=crops)


def _read(
    source: str, generated: Any, name_pattern: str = "", classes: Sequence[str] = (), labeled: bool = True
) -> Dataset:
    """Reads a source by its kind, with all its classes; those of folders are on the level of `classes`, if given."""
    if source == "synthetic":
        generated = generated or default_config().data.synthetic
        return synthetic.read_synthetic(generated.subjects, generated.images, generated.image_size, generated.seed)
    path = Path(source).expanduser()
    if not source or not os.path.exists(path):  # noqa: PTH110 - Path.exists raises OSError for a name too long
        if extensions.is_reference(source):
            return _call_function(source, labeled)
        kinds = "a folder, zip, CSV, .npz, 'synthetic' or a function, package.module:name"
        raise DataError(f"{source or 'data.source'}: no such file or folder; use {kinds}")
    if path.suffix.lower() == ".csv":
        return csv_list.read_csv(path, labeled)
    if path.suffix.lower() == ".npz":
        return read_medmnist(path)
    for prepared in (path, path / "1.0.0", path / "cnmc2019/1.0.0"):  # written by `alljax data prepare`
        if any(prepared.glob("cnmc2019-*record-*-of-*")):
            from alljax.data import cnmc_tfds  # imports TFDS, which few sources need

            return cnmc_tfds.read_prepared(prepared)
    archive = Archive(path)
    known = cnmc.read_cnmc(archive)
    if labeled:
        dataset = known or folder.read_folder(archive, name_pattern, classes)
    else:  # all images, and the subjects that names of C-NMC say
        records = {path: Record(path, UNLABELED) for path in archive.images}
        records |= {record.path: record for record in known.records} if known else {}
        crops, images = known.crops if known else {}, tuple(records.values())
        dataset = Dataset("images", (), images, lambda record: archive.read(record.path), crops=crops)
    files = [path for path in archive.paths if not (path.endswith("/") or is_image(path))]
    if others := [path for path in files if not cnmc.LABEL_FILE.search(path)]:
        counts = Counter(PurePosixPath(path).suffix.lower() or "without suffix" for path in others)
        listed = ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common())
        note = f"left out files of formats that are not read: {listed} (first: {others[0]})"
        return replace(dataset, notes=(*dataset.notes, note))
    return dataset


def _call_function(reference: str, labeled: bool) -> Dataset:
    """Returns the data set of a function from outside the package: a `Dataset`, or columns as those of a CSV."""
    with extensions.loaded("data.source", reference) as function:
        found = function()
        if not isinstance(found, Dataset):
            text = pandas.DataFrame(found).to_csv(index=False)
            return replace(csv_list.read_csv(Path(reference), labeled, text), name="table")
        labels, paths = range(UNLABELED, len(found.classes)), Counter(record.path for record in found.records)
        for record in found.records:
            if type(record.label) is not int or record.label not in labels:
                needed = f"an int from 0 to {labels[-1]}, or {UNLABELED} for unlabeled"
                raise DataError(f"{reference}: the label of {record.path} is {record.label!r}, not {needed}")
            if paths[record.path] > 1:
                raise DataError(f"{reference}: several records have the path {record.path}; give every image its own")
        kinds = {type(found.read(record)).__name__ for record in found.records[:1]}
        if wrong := kinds - {"bytes"}:
            raise DataError(f"{reference}: read gives {min(wrong)}, not the bytes of an image file")
        return found


def open_mapped(source: str, classes: Sequence[str], mapping: str, generated: Any = None) -> Dataset:
    """Opens all labeled images of a source with the labels of other `classes`, by ``name of the source=name,…``."""
    known, own = ", ".join(classes), {normalize(name): label for label, name in enumerate(classes)}
    pairs = [pair.partition("=")[::2] for pair in mapping.split(",") if pair]
    if any(normalize(new) not in own for _, new in pairs):
        raise ConfigError(f"{source}: classes {mapping!r}: write CLASS_OF_SOURCE=CLASS,…; classes: {known}")
    label_of = own | {normalize(old): own[normalize(new)] for old, new in pairs}
    everything = open_all(source, [old for old, _ in pairs], generated=generated)
    if unknown := [name for name in everything.classes if normalize(name) not in label_of]:
        raise DataError(
            f"{source}: its class {unknown[0]!r} is none of the classes {known}; name the classes to use and what they "
            f"are, for example {unknown[0]}={classes[0]}"
        )
    labels = [label_of[normalize(name)] for name in everything.classes]
    records = tuple(replace(one, label=labels[one.label]) for one in everything.records if one.label != UNLABELED)
    if not records:
        raise DataError(f"{source}: no labeled images; `alljax predict` classifies images without labels")
    return replace(everything, records=records, classes=tuple(classes))


def _join_sources(data: Any, subsets: Sequence[str]) -> Dataset:
    """Returns the images of all `data.sources`, see `open_labeled`."""
    names = {name for name, *_ in data.sources} - {""}
    if len(names) < max(len(data.sources), 2) or not data.classes:
        raise ConfigError(
            "data.sources needs two or more names, all different, and data.classes the class names in label order"
        )
    reads: dict[Record, Callable[[], bytes]] = {}
    stamps: dict[Record, Callable[[], str]] = {}
    notes, known_subjects = [], []
    for name, path, *mapping in data.sources:
        dataset = _select(open_mapped(path, data.classes, "".join(mapping), data.synthetic), subsets, path)
        if not dataset.records or "/" in name:
            raise ConfigError(f"data.sources: {name!r} has a slash, or {path} has no images of {' and '.join(subsets)}")
        for one in dataset.records:
            subject = one.subject and f"{name} {one.subject}"
            record = replace(one, path=f"{name}/{one.path}", subject=subject, fold=name)
            reads[record] = partial(dataset.read, one)
            if dataset.stamp:
                stamps[record] = partial(dataset.stamp, one)
        notes += [f"{name}: {note}" for note in dataset.notes]
        known_subjects += [{f"{name} {subject}" for subject in known} for known in dataset.known_subjects]
    classes, records = tuple(data.classes), tuple(reads)
    joined = Dataset("sources", classes, records, lambda record: reads[record](), tuple(notes), known_subjects)
    return replace(joined, stamp=lambda record: stamps[record]()) if len(stamps) == len(reads) else joined


def _choose_classes(dataset: Dataset, classes: tuple[str, ...], source: str) -> Dataset:
    """Returns the images of `classes`, in this order of labels; spellings may differ from those in the source."""
    label_of = {normalize(name): label for label, name in enumerate(dataset.classes)}
    chosen = {normalize(name): name for name in classes}
    if len(chosen) < len(classes):
        raise ConfigError(f"data.classes names a class twice: {', '.join(map(repr, classes))}")
    if [*chosen] == [*label_of]:
        return dataset
    if dataset.name in ("cnmc", "synthetic"):
        raise ConfigError(f"{source}: classes are {', '.join(dataset.classes)} in this order; leave data.classes empty")
    if missing := [name for key, name in chosen.items() if key not in label_of]:
        raise DataError(f"{source}: no class {missing[0]!r} (data.classes), only {first_few(dataset.classes)}")
    labels = [label_of[key] for key in chosen]
    used = [record for record in dataset.records if record.label in labels]
    records = tuple(replace(record, label=labels.index(record.label)) for record in used)
    outside = [record.path for record in dataset.records if record.label not in labels]
    skipped = {**dataset.skipped, "outside": [*dataset.skipped.get("outside", ()), *outside]}
    return replace(dataset, classes=tuple(dataset.classes[n] for n in labels), records=records, skipped=skipped)


def _remarks(dataset: Dataset) -> Iterator[str]:
    """Yields remarks on skipped images and on the subjects."""
    for reason, paths in dataset.skipped.items():
        if paths:
            yield f"skipped {plural(len(paths), 'image')}, {SKIPPED[reason]}: {first_few(paths)}"
    subjects = [record.subject for record in dataset.records if record.label != UNLABELED]
    if subjects and not any(subjects):
        yield "no subjects known: results are per image"
    elif unknown := subjects.count(""):
        yield f"{plural(unknown, 'image')} without a subject; each counts as a subject of its own"
    pairs = {(record.subject, record.label): None for record in dataset.records if record.label != UNLABELED}
    counts = Counter(subject for subject, _ in pairs if subject)
    if mixed := [subject for subject, count in counts.items() if count > 1]:
        yield f"{plural(len(mixed), 'subject')} in more than one class, treated as the same subject: {first_few(mixed)}"


def _select(dataset: Dataset, subsets: Sequence[str], source: str) -> Dataset:
    """Returns the labeled records of `subsets`, with a note about the others; refuses a class only in the others."""
    used = tuple(record for record in dataset.records if record.subset in subsets and record.label != UNLABELED)
    present = {record.label for record in used}
    elsewhere = {record.label: record.subset for record in dataset.records if record.label not in {UNLABELED, *present}}
    if used and elsewhere:
        label, subset = min(elsewhere.items())
        others = ",".join(name for number, name in enumerate(dataset.classes) if number in present)
        raise DataError(
            f"{source}: class {dataset.classes[label]!r} has images only in {subset}, not in {' or '.join(subsets)}; "
            f"use the other classes with --config.data.classes={others}"
        )
    counts = Counter(
        record.subset if record.label != UNLABELED else f"{record.subset} without labels" for record in dataset.records
    )
    notes = dataset.notes
    if unused := ", ".join(f"{count:,} of {name}" for name, count in sorted(counts.items()) if name not in subsets):
        notes += (f"only {' and '.join(map(repr, subsets))} used (data.subset, split.test_subset); skipped: {unused}",)
    return replace(dataset, records=used, notes=notes)
