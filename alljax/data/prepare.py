"""Prepares C-NMC 2019 as a TFDS data set, in shards, and again from where it was stopped.

Everything is written to ``cnmc2019/1.0.0.incomplete``, which is renamed to
``cnmc2019/1.0.0`` when it is whole.  A shard gets its name when it is on disk,
and a later run keeps it if the source is still the one it was made from.  The
same source gives the same bytes.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_module import ArrayRecordWriter

from alljax.data import cnmc_index, cnmc_tfds, prepared
from alljax.data.archive import natural, open_tree
from alljax.data.dataset import Dataset, Record
from alljax.data.prepared import NAME, VERSION
from alljax.errors import DataError, WorkdirError, first_few, plural
from alljax.files import file_lock, write_text
from alljax.progress import Advance, bar

_MARK = "source.sha256"

_Shards = Mapping[str, Mapping[str, Sequence[Record]]]
"""Records by the names of their shards, by phase."""


def prepare(source: str, out: Path) -> Path:
    """Writes every image of a copy of C-NMC 2019, as it is, to ``out/cnmc2019/1.0.0``.

    The images of each phase stand in the natural order of their paths.

    Args:
        source: a folder or a zip with the set, or a part of it, in any layout.
        out: TFDS's `data_dir`; made if absent.

    Returns:
        The prepared folder, for `prepared.read` and `tfds.builder_from_directory`.

    Raises:
        DataError: the source is not C-NMC 2019, an image cannot be read, or files changed meanwhile.
        WorkdirError: `out` cannot be written, lies in the source, holds what was made from another one,
            or another process prepares there.
    """
    root, folder = Path(source).expanduser(), out / NAME / VERSION
    dataset = cnmc_tfds.open_cnmc(source)
    if folder.resolve().is_relative_to(root.resolve()):
        raise WorkdirError(f"{out} lies in {source}, which is not to change while it is read; choose another --out")
    stamps = _stamps(root)
    for note in dataset.notes:
        logging.info(note)
    if missing := cnmc_index.missing(dataset.records, tuple(cnmc_index.COUNTS)):
        logging.info(f"{plural(len(missing), 'image')} of the complete set missing; `alljax data verify` lists them")
    shards = cnmc_tfds.shards(dataset)
    busy = f"another alljax prepares in {folder.parent}; wait for it or choose another --out"
    with file_lock(folder.parent / ".lock", busy):
        mark = _mark(stamps, dataset, shards)
        if folder.exists():
            _check_same(folder, mark)
            logging.info(f"already prepared: {folder}")
            return folder
        work = folder.with_name(f"{VERSION}.incomplete")
        _clear(work, mark, shards)
        try:
            _write(work, dataset, shards)
        except DataError:
            _check_unchanged(source, stamps, dataset, work)
            raise
        _check_unchanged(source, stamps, dataset, work)
        _describe(work, dataset, shards)
        prepared.read(work)  # raises where a shard that was kept is damaged
        with _writing(folder):
            work.replace(folder)
    logging.info(f"prepared {plural(len(dataset.records), 'image')}: {folder}")
    return folder


def _stamps(root: Path) -> dict[str, tuple[int, int]]:
    """Returns size and time of change of every file; those of the zip where it lies in one."""

    def stamp(path: Path) -> tuple[int, int]:
        for place in (path, *path.parents):
            with contextlib.suppress(OSError):
                if place.is_file():
                    return place.stat().st_size, place.stat().st_mtime_ns
        return -1, -1  # gone since it was listed

    return {path: stamp(root / path) for path in open_tree(root).files}


def _mark(stamps: Mapping[str, tuple[int, int]], dataset: Dataset, shards: _Shards) -> str:
    """Returns what tells one preparation from another: SHA-256 over files, records and shards."""
    names = [name for files in shards.values() for name in files]
    return hashlib.sha256(json.dumps([stamps, cnmc_tfds.metadata(dataset), names]).encode()).hexdigest()


def _check_same(folder: Path, mark: str) -> None:
    try:
        same = (folder / _MARK).read_text(encoding="utf-8") == mark
    except OSError:
        same = False  # TFDS itself, or somebody else, made it
    if not same:
        raise WorkdirError(
            f"{folder} was prepared from another source, or from files that changed since; "
            "remove it or choose another --out"
        )


def _check_unchanged(source: str, stamps: Mapping[str, tuple[int, int]], dataset: Dataset, work: Path) -> None:
    changed = {path for path, _ in stamps.items() ^ _stamps(Path(source).expanduser()).items()}
    # A file that came after the records were read, but before the stamps were taken, shows here only.
    changed |= {record.path for record in {*dataset.records} ^ {*cnmc_tfds.open_cnmc(source).records}}
    if changed:
        shutil.rmtree(work, ignore_errors=True)
        raise DataError(
            f"{source}: changed while it was prepared ({first_few(natural(changed))}); nothing was kept, "
            "run the same command again when no one writes there"
        )


def _clear(work: Path, mark: str, shards: _Shards) -> None:
    """Removes from the incomplete folder what is not a finished shard of this preparation."""
    with _writing(work):
        marked = work / _MARK
        if work.exists() and not (marked.exists() and marked.read_text(encoding="utf-8") == mark):
            shutil.rmtree(work)
        work.mkdir(exist_ok=True)
        for file in work.iterdir():
            if not any(file.name in names for names in shards.values()):
                file.unlink()
    write_text(marked, mark)


def _write(work: Path, dataset: Dataset, shards: _Shards) -> None:
    """Writes the shards that are not there yet."""
    everything = {name: records for files in shards.values() for name, records in files.items()}
    left = {name: records for name, records in everything.items() if not (work / name).exists()}
    if len(left) < len(everything):
        logging.info(f"kept from a run that was stopped: {len(everything) - len(left):,} of {len(everything):,} shards")
    with bar(f"prepare {NAME}", sum(map(len, left.values())), "images") as advance:
        for name, records in left.items():
            _write_shard(work / name, dataset, records, advance)


def _write_shard(shard: Path, dataset: Dataset, records: Sequence[Record], advance: Advance) -> None:
    part = shard.with_name(f"{shard.name}.part")
    try:
        with _writing(shard):
            writer = ArrayRecordWriter(os.fspath(part), "group_size:1")  # one record a chunk, for random access
        for record in records:
            example = cnmc_tfds.serialize(record, dataset.read(record))
            with _writing(shard):
                writer.write(example)
            advance(1)
        with _writing(shard):
            writer.close()
            _sync(part)
            part.replace(shard)
    finally:
        part.unlink(missing_ok=True)


def _describe(work: Path, dataset: Dataset, shards: _Shards) -> None:
    """Writes what TFDS and `prepared.read` need besides the shards."""
    identity = tfds.core.DatasetIdentity(
        name=NAME,
        version=cnmc_tfds.Cnmc2019.VERSION,
        data_dir=os.fspath(work),
        module_name=cnmc_tfds.Cnmc2019.__module__,
        release_notes=cnmc_tfds.Cnmc2019.RELEASE_NOTES,
    )
    description = cnmc_tfds.info(identity)
    description.metadata.update(cnmc_tfds.metadata(dataset))
    description.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    with _writing(work):
        splits = [
            tfds.core.SplitInfo(
                name=phase,
                shard_lengths=[len(records) for records in files.values()],
                num_bytes=sum((work / name).stat().st_size for name in files),
            )
            for phase, files in shards.items()
        ]
        description.set_splits(tfds.core.SplitDict(splits))
        description.write_to_directory(work)
        for file in work.iterdir():
            _sync(file)


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns what cannot be written into one line; array_record raises RuntimeError with the system's reason in it."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition(";")[0]
        raise WorkdirError(
            f"cannot write {path}: {reason}; mend that or choose another --out, and run the same command again: "
            "finished shards are kept"
        ) from error
