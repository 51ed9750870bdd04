"""Opens whatever `data.source` names as one set of records."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

from alljax.config import default_config
from alljax.data import cnmc, folder, medmnist, synthetic
from alljax.data.archive import check_text, open_tree
from alljax.data.dataset import UNLABELED, Dataset, check
from alljax.errors import ConfigError, DataError, plural


def open_dataset(data: Any, parts: Sequence[str] = ()) -> Dataset:
    """Opens a source to learn from.

    ``synthetic`` is generated; a folder or zip with C-NMC's names is read as
    C-NMC 2019, any other as one folder a class; a CSV lists its images; an
    ``.npz`` holds them; a folder made by `alljax data prepare` is read as it is.

    Args:
        data: the `data` part of a config: `source`, `classes`, `name_pattern`, `subset`,
            `allow_partial` and `synthetic` (`subjects`, `images`, `image_size`, `seed`, `manifest`).
        parts: the parts of the source that are used; none for `data.subset` alone.

    Returns:
        The labeled records of those parts, ready to learn from.

    Raises:
        DataError: nothing there, nothing usable in it, no such part, one without labels, or a copy of
            C-NMC 2019 from which images of those parts are missing, unless `data.allow_partial`.
        ConfigError: classes or numbers that do not fit.
    """
    dataset = _read(data)
    parts = tuple(dict.fromkeys(parts)) or (data.subset,)
    _check_parts(dataset, parts, data)
    if dataset.name == "cnmc" and not data.allow_partial:
        cnmc.check_complete(dataset.records, parts, data.source)
    return check(_only(dataset, parts), data.source)


def open_all(source: str, classes: Sequence[str] = (), name_pattern: str = "") -> Dataset:
    """Opens a source to look at it: all parts, unlabeled images too, whatever may be missing.

    Args:
        source: as `data.source`; ``synthetic`` has its default numbers.
        classes: as `data.classes`.
        name_pattern: as `data.name_pattern`.

    Raises:
        DataError: nothing there, or damaged.
        ConfigError: classes that do not fit.
    """
    data = default_config().data
    data.source, data.classes, data.name_pattern = source, tuple(classes), name_pattern
    return _read(data)


def _read(data: Any) -> Dataset:
    dataset = _open(data, tuple(map(str, data.classes)))
    if dataset.name not in ("folder", "npz") and data.classes and tuple(data.classes) != dataset.classes:
        raise ConfigError(
            f"data.classes is {', '.join(data.classes)}, but the classes of {data.source} are "
            f"{', '.join(dataset.classes)} in this order; leave data.classes empty"
        )
    if data.name_pattern and (dataset.name != "folder" or data.source.lower().endswith(".csv")):
        raise ConfigError(f"data.name_pattern is for folders of images; {data.source} names its people itself")
    return dataset


def _open(data: Any, classes: tuple[str, ...]) -> Dataset:
    if data.source == "synthetic":
        return synthetic.read(
            data.synthetic.subjects,
            data.synthetic.images,
            data.synthetic.image_size,
            data.synthetic.seed,
            data.synthetic.manifest,
        )
    path = Path(data.source).expanduser()
    try:
        there = bool(data.source) and path.exists()
    except OSError as error:
        raise DataError(f"{data.source}: {error.strerror or error}; mend its permissions or name another") from error
    if not there:
        raise DataError(
            f"{data.source or 'data.source'}: no such file or folder; data.source takes a folder, a zip, "
            "a CSV, an .npz or the word synthetic"
        )
    check_text([data.source])
    if path.suffix.lower() == ".csv":
        return folder.read_csv(path, classes)
    if path.suffix.lower() == ".npz":
        return medmnist.read(path, classes)

    from alljax.data import prepared  # it needs array_record, and few sources do

    if prepared.find(path):
        return prepared.read(path)
    tree = open_tree(path)
    if not tree.images():
        raise DataError(
            f"{data.source}: no images in it; expected a folder for each class with images inside "
            "(.bmp, .png, .jpg, .tif), or C-NMC 2019 as it was downloaded"
        )
    return cnmc.read(tree) if cnmc.recognize(tree) else folder.read_tree(tree, classes, data.name_pattern)


def _check_parts(dataset: Dataset, parts: Iterable[str], data: Any) -> None:
    there = Counter(record.subset for record in dataset.records)
    labeled = {record.subset for record in dataset.records if record.label != UNLABELED}
    for part in parts if there else ():  # an empty source is for `check` to explain
        setting = "data.subset" if part == data.subset else "split.test_subset"
        if part not in there:
            listed = ", ".join(f"{name} ({plural(count, 'image')})" for name, count in sorted(there.items()))
            said = "; ".join((f"there is {listed}", *dataset.notes))
            raise DataError(f"{data.source}: has no part {part!r} ({setting}); {said}")
        if part not in labeled:
            why = " (those of the final phase are not public)" if dataset.name == "cnmc" else ""
            raise DataError(
                f"{data.source}: the part {part!r} ({setting}) has no labels{why}; nothing can be learned from it or "
                "tested on it: take another, and `alljax predict` for what a trained head says of these images"
            )


def _only(dataset: Dataset, parts: Sequence[str]) -> Dataset:
    """Keeps the labeled records of some parts; what stays unused is noted."""
    used = [record.subset in parts and record.label != UNLABELED for record in dataset.records]
    others = Counter(
        f"{record.subset}{' without labels' if record.label == UNLABELED else ''}"
        for record, keep in zip(dataset.records, used, strict=True)
        if not keep
    )
    if not others:
        return dataset
    which = f"part {parts[0]!r} is" if len(parts) == 1 else f"parts {' and '.join(map(repr, parts))} are"
    settings = "data.subset" if len(parts) == 1 else "data.subset, split.test_subset"
    left = ", ".join(f"{count:,} of {name}" for name, count in sorted(others.items()))
    note = f"only the {which} used ({settings}); left out: {left}"
    return replace(dataset, records=tuple(compress(dataset.records, used)), notes=(*dataset.notes, note))
