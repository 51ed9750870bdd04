"""Opens whatever `data.source` names as one set of records."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from alljax.data import cnmc, folder, synthetic
from alljax.data.records import Dataset, check
from alljax.data.tree import check_text, open_tree
from alljax.errors import ConfigError, DataError


def open_source(data: Any) -> Dataset:
    """Opens a source.

    ``synthetic`` is generated; a folder or zip with C-NMC's names is read as
    C-NMC 2019, any other as one folder a class; a CSV lists its images.

    Args:
        data: the `data` part of a config: `source`, `classes`, `name_pattern`, `split` (the part
            of the source that is used) and `synthetic` (`subjects`, `images`, `image_size`, `seed`).

    Returns:
        The records of that part, ready to learn from.

    Raises:
        DataError: nothing there, nothing usable in it, or no such part.
        ConfigError: classes or numbers that do not fit.
    """
    dataset = _read(data)
    if dataset.name != "folder" and data.classes and tuple(data.classes) != dataset.classes:
        raise ConfigError(
            f"data.classes is {', '.join(data.classes)}, but the classes of {data.source} are "
            f"{', '.join(dataset.classes)} in this order; leave data.classes empty"
        )
    if data.name_pattern and (dataset.name != "folder" or data.source.lower().endswith(".csv")):
        raise ConfigError(f"data.name_pattern is for folders of images; {data.source} names its people itself")
    return check(_part(dataset, data.split, data.source), data.source)


def _read(data: Any) -> Dataset:
    if data.source == "synthetic":
        return synthetic.read(
            data.synthetic.subjects, data.synthetic.images, data.synthetic.image_size, data.synthetic.seed
        )
    path = Path(data.source).expanduser()
    try:
        there = bool(data.source) and path.exists()
    except OSError as error:
        raise DataError(f"{data.source}: {error.strerror or error}; mend its permissions or name another") from error
    if not there:
        raise DataError(
            f"{data.source or 'data.source'}: no such file or folder; data.source takes a folder, a zip, "
            "a CSV or the word synthetic"
        )
    check_text([data.source])
    if path.suffix.lower() == ".csv":
        return folder.read_csv(path, data.classes)
    tree = open_tree(path)
    if not tree.images():
        raise DataError(
            f"{data.source}: no images in it; expected a folder for each class with images inside "
            "(.bmp, .png, .jpg, .tif), or C-NMC 2019 as it was downloaded"
        )
    return cnmc.read(tree) if cnmc.recognise(tree) else folder.read_tree(tree, data.classes, data.name_pattern)


def _part(dataset: Dataset, split: str, source: str) -> Dataset:
    """Keeps the records of one part; what stays unused is noted."""
    counts = Counter(record.split for record in dataset.records)
    if len(counts) == 0:
        return dataset  # for `check` to explain
    if split not in counts:
        there = ", ".join(f"{name} ({count:,} images)" for name, count in sorted(counts.items()))
        raise DataError(f"{source}: has no part {split!r} (data.split); there is {there}")
    others = [f"{count:,} of {name}" for name, count in sorted(counts.items()) if name != split]
    note = (f"only the part {split!r} is used (data.split); left out: {', '.join(others)}",) if others else ()
    records = tuple(record for record in dataset.records if record.split == split)
    return replace(dataset, records=records, notes=(*dataset.notes, *note))
