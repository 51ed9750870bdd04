"""Opens the source named by `data.source` as a `Dataset`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alljax.config import default_config
from alljax.data import cnmc, folder, medmnist, synthetic
from alljax.data.archive import open_archive
from alljax.data.dataset import UNLABELED, Dataset, check
from alljax.errors import ConfigError, DataError, plural


def open_dataset(data: Any, subsets: Sequence[str] = ()) -> Dataset:
    """Opens a source for training.

    ``synthetic`` is generated; a folder or zip with C-NMC file names is read as C-NMC 2019, any other with one folder
    per class; a CSV lists its images; an ``.npz`` contains them; a folder written by `alljax data prepare` is read
    directly.

    Args:
        data: the `data` part of a config.
        subsets: the subsets to use; default: `data.subset`.

    Returns:
        The labeled records of these subsets.

    Raises:
        DataError: no such source, no usable images, an unknown or unlabeled subset, or an incomplete copy of
            C-NMC 2019 without `data.allow_partial`.
        ConfigError: classes or numbers that do not match the source.
    """
    everything = _open(data)
    subsets = tuple(dict.fromkeys(subsets)) or (data.subset,)
    dataset = _select(everything, subsets, data)
    if dataset.name == "cnmc" and not data.allow_partial:
        cnmc.check_complete(everything.records, subsets, data.source)
    return check(dataset, data.source)


def open_all(source: str, classes: Sequence[str] = (), name_pattern: str = "", contradictory: str = "raise") -> Dataset:
    """Opens a source for inspection: all subsets, unlabeled images too, complete or not.

    Args:
        source: as `data.source`; ``synthetic`` uses the default settings.
        classes: as `data.classes`.
        name_pattern: as `data.name_pattern`.
        contradictory: ``raise``, or ``skip`` to list contradictory labels in `Dataset.skipped` only.

    Raises:
        DataError: no such source, it is damaged, or it contradicts itself.
        ConfigError: classes that do not match the source.
    """
    data = default_config().data
    data.source, data.classes, data.name_pattern = source, tuple(classes), name_pattern
    return _open(data, contradictory)


def find_prepared(path: Path) -> Path | None:
    """Returns the folder written by `alljax data prepare`, if there is one.

    Args:
        path: ``…/cnmc2019/1.0.0``, or one of the two folders above it.
    """
    folders = (path, path / "1.0.0", path / "cnmc2019/1.0.0")
    return next((folder for folder in folders if any(folder.glob("cnmc2019-*record-*-of-*"))), None)


def _open(data: Any, contradictory: str = "raise") -> Dataset:
    classes = tuple(map(str, data.classes))
    dataset = _read(data, classes)
    if contradictory == "raise" and (wrong := dataset.skipped.get("contradictory")):
        raise DataError(f"{wrong[0]} ({len(wrong):,} contradictory in all, see `alljax data verify`)")
    if dataset.name not in ("folder", "npz") and classes not in ((), dataset.classes):
        raise ConfigError(
            f"data.classes is {', '.join(classes)}, but the classes of {data.source} are "
            f"{', '.join(dataset.classes)} in this order; leave data.classes empty"
        )
    if data.name_pattern and (dataset.name != "folder" or data.source.lower().endswith(".csv")):
        raise ConfigError(f"data.name_pattern is for folders of images; {data.source} has its own subject names")
    return dataset


def _read(data: Any, classes: tuple[str, ...]) -> Dataset:
    if data.source == "synthetic":
        settings = data.synthetic
        return synthetic.read_synthetic(settings.subjects, settings.images, settings.image_size, settings.seed)
    path = Path(data.source).expanduser()
    if not data.source or not path.exists():
        raise DataError(
            f"{data.source or 'data.source'}: no such file or folder; data.source takes a folder, a zip, "
            "a CSV, an .npz or the word synthetic"
        )
    if path.suffix.lower() == ".csv":
        return folder.read_csv(path, classes)
    if path.suffix.lower() == ".npz":
        return medmnist.read_medmnist(path, classes)
    if prepared := find_prepared(path):
        from alljax.data import cnmc_tfds  # imports TFDS, which few sources need

        return cnmc_tfds.read_prepared(prepared)
    archive = open_archive(path)
    if not archive.images():
        raise DataError(
            f"{data.source}: contains no images; expected one folder per class with images inside "
            "(.bmp, .png, .jpg, .tif), or C-NMC 2019 as downloaded"
        )
    if cnmc.is_cnmc(archive):
        return cnmc.read_cnmc(archive)
    return folder.read_folder(archive, classes, data.name_pattern)


def _select(dataset: Dataset, subsets: Sequence[str], data: Any) -> Dataset:
    """Returns the labeled records of `subsets`, with a note about the others."""
    counts = Counter(
        f"{record.subset}{' without labels' if record.label == UNLABELED else ''}" for record in dataset.records
    )
    for subset in subsets:
        if counts and not counts[subset]:  # `check` reports an empty source
            found = ", ".join(f"{name} ({plural(count, 'image')})" for name, count in sorted(counts.items()))
            raise DataError(
                f"{data.source}: no labeled images in the subset {subset!r} (data.subset, split.test_subset); "
                f"{'; '.join((f'found {found}', *dataset.notes))}"
            )
    used = tuple(record for record in dataset.records if record.subset in subsets and record.label != UNLABELED)
    notes = dataset.notes
    if unused := ", ".join(f"{count:,} of {name}" for name, count in sorted(counts.items()) if name not in subsets):
        notes += (f"only {' and '.join(map(repr, subsets))} used (data.subset, split.test_subset); skipped: {unused}",)
    return replace(dataset, records=used, notes=notes)
