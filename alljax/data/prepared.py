"""C-NMC 2019 in TFDS's format on disk, read as records.

The folder is what `alljax data prepare`, or TFDS's own `download_and_prepare`
for the builder in `cnmc2019.py`, leaves: array_record shards and, in their
metadata, the list of the records in the order of the shards.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from alljax.data import cnmc, cnmc_index
from alljax.data.archive import natural_key
from alljax.data.dataset import Dataset, Record
from alljax.errors import DataError, plural

NAME = "cnmc2019"
VERSION = "1.0.0"


def find(path: Path) -> Path | None:
    """Returns the prepared folder at `path` or below it, or nothing.

    Args:
        path: ``…/cnmc2019/1.0.0``, or either of the two folders above it.
    """
    folders = (path, path / VERSION, path / NAME / VERSION)
    return next((folder for folder in folders if any(folder.glob(f"{NAME}-*record-*-of-*"))), None)


def read(path: Path) -> Dataset:
    """Opens a prepared folder: the records of all phases, and the very bytes that were prepared.

    `Dataset.read` may be called from several threads and survives pickling: another process opens
    the shards anew.  It raises `DataError` where the bytes are damaged.

    Args:
        path: ``…/cnmc2019/1.0.0``, or either of the two folders above it.

    Raises:
        DataError: no prepared folder; lists or shards that are damaged, missing or not of one making.
    """
    folder = find(path)
    if folder is None:
        raise DataError(f"{path}: no prepared C-NMC 2019 in it; `alljax data prepare` makes one")
    lengths, metadata = _lists(folder)
    records: list[Record] = []
    shards: list[tuple[Path, Any]] = []
    places: dict[str, tuple[int, int]] = {}
    try:
        for split, files in lengths.items():
            rows = iter(metadata["records"][split])
            if len(metadata["records"][split]) != sum(files.values()):
                raise _damaged(folder, f"not as many images of {split} as its list says")
            for shard, length in files.items():
                there = [Record(**row, subset=split) for row in islice(rows, length)]
                places.update((record.path, (len(shards), position)) for position, record in enumerate(there))
                records += there
                shards.append((shard, _open(shard, length)))
        notes = tuple(metadata["notes"])
    except (KeyError, TypeError) as error:
        raise _damaged(folder / "metadata.json", repr(error)) from error
    return Dataset(
        name="cnmc",
        classes=cnmc.CLASSES,
        records=tuple(sorted(records, key=lambda record: natural_key(record.path))),
        read=_Reader(shards, places),
        notes=notes,
        known_subjects=cnmc.KNOWN_SUBJECTS,
        crops=cnmc.CROPS,
        class_names=cnmc_index.CLASS_NAMES,
    )


@dataclass(frozen=True)
class _Reader:
    """Reads images by record."""

    shards: Sequence[tuple[Path, Any]]  # an ArrayRecordDataSource opens its file when first asked, in each process anew
    places: Mapping[str, tuple[int, int]]  # path in the source to shard and position

    def __call__(self, record: Record) -> bytes:
        from tensorflow_datasets.proto import tf_example_pb2

        number, position = self.places[record.path]
        path, shard = self.shards[number]
        try:
            example = tf_example_pb2.Example.FromString(shard[position])
            return example.features.feature["image"].bytes_list.value[0]
        except Exception as error:  # whatever array_record and protobuf say of damage
            raise _damaged(path, f"{record.path}: {error}") from error


def _lists(folder: Path) -> tuple[dict[str, dict[Path, int]], dict[str, Any]]:
    """Returns the number of images in each shard by split, and the metadata."""
    import tensorflow_datasets as tfds

    try:
        info = tfds.builder_from_directory(folder).info
        if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise DataError(
                f"{folder}: prepared as {info.file_format.value}, which only TensorFlow reads; prepare it again with "
                "`alljax data prepare` or file_format='array_record'"
            )
        lengths = {
            name: {Path(file.filename): file.examples_in_shard for file in split.file_instructions}
            for name, split in info.splits.items()
        }
        return lengths, json.loads((folder / "metadata.json").read_bytes())
    except DataError:
        raise
    except Exception as error:  # TFDS raises nearly anything on damaged lists
        raise _damaged(folder, f"its lists cannot be read ({error})") from error


def _open(shard: Path, length: int) -> Any:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        source = ArrayRecordDataSource(str(shard))
    except RuntimeError as error:
        raise _damaged(shard, str(error)) from error
    if len(source) != length:
        raise _damaged(shard, f"{plural(len(source), 'image')} instead of {length:,}")
    return source


def _damaged(path: Path | str, what: str) -> DataError:
    reason = what.partition("\n")[0]
    return DataError(f"{path}: damaged or incomplete ({reason}); remove its folder and prepare the set again")
