"""The cache folder: files that can be computed again, each with its SHA-256 beside it (``NAME.sha256``).

A file is verified by the step that reads it.  Where the folder would exceed ALLJAX_CACHE_GB, the files that were not
used for the longest time are removed, but none that a process uses.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from absl import logging

from alljax import files
from alljax.errors import WorkdirError, plural
from alljax.limits import limit

KINDS = "features", "inspections", "hashes", "self-checks"
"""Folders in the cache folder; downloaded weights are in another one and have no checksum here."""


class Entry(NamedTuple):
    """A file, its bytes, and when it was last read or written, in seconds since 1970."""

    path: Path
    size: int
    last_use: float


@contextlib.contextmanager
def write(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file as `files.atomic_write` does, and writes its checksum before the file appears."""
    with files.atomic_write(path) as file:
        yield file
        file.flush()
        files.write_text(_checksum(path), f"{files.sha256(Path(file.name))}  {path.name}\n")


def exists(path: Path) -> bool:
    """Returns whether a file was written completely; it may be damaged."""
    return path.is_file() and _checksum(path).is_file()


def open_intact(path: Path) -> IO[bytes] | None:
    """Opens a file, which is not removed while it is open or memory-mapped; None if it is missing or damaged."""
    try:
        expected, file = _checksum(path).read_bytes()[:64], path.open("rb")
    except OSError:
        return None
    files.mark_in_use(file)
    if hashlib.file_digest(file, "sha256").hexdigest().encode() == expected:
        file.seek(0)
        with contextlib.suppress(OSError):
            os.utime(path)
        return file
    logging.warning(f"{path} is damaged and not used; its content is computed again")
    file.close()
    with contextlib.suppress(OSError):
        _checksum(path).unlink()
    return None


def write_text(path: Path, text: str) -> None:
    """Writes a text; a cache folder that cannot be written only costs time."""
    with contextlib.suppress(WorkdirError), write(path) as file:
        file.write(text.encode())


def read_text(path: Path) -> str | None:
    """Returns a text; None if it is missing or damaged."""
    file = open_intact(path)
    with file or contextlib.nullcontext():
        return file.read().decode() if file else None


def entries(*others: Path) -> list[Entry]:
    """Returns the cached files, and those of `others` that exist, by last use."""
    found = []
    for path in (*(path.with_suffix("") for path in _glob("*.sha256")), *others):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append(Entry(path, status.st_size, max(status.st_atime, status.st_mtime)))
    return sorted(found, key=lambda entry: entry.last_use)


def make_room(size: int) -> None:
    """Removes what killed processes have left, then the files that were not used for the longest time.

    Raises:
        WorkdirError: `size` bytes do not fit on the disk.
    """
    _remove_leftovers()
    folder = files.cache_dir().absolute()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    found, removed, gained = entries(), 0, 0
    excess = max(sum(entry.size for entry in found) + size - limit("ALLJAX_CACHE_GB"), size - free)
    for entry in found:
        if gained < excess and files.remove_unused(entry.path):
            removed, gained = removed + 1, gained + entry.size
    if removed:
        count = f"{plural(removed, 'file')} ({gained / 1e9:,.2f} GB)"
        logging.info(f"removed from the cache what was unused for longest: {count}, to keep ALLJAX_CACHE_GB")
    _remove_leftovers()
    if size > free + gained:
        raise WorkdirError(f"{size / 1e9:,.1f} GB are needed, and {(free + gained) / 1e9:,.1f} GB are free on the disk")


def clear(*others: Path) -> tuple[list[Entry], list[Entry]]:
    """Removes the cached files and `others`; returns what was removed, and what was kept because a process uses it."""
    found = entries(*others)
    removed = [entry for entry in found if files.remove_unused(entry.path)]
    _remove_leftovers()
    return removed, [entry for entry in found if entry not in removed]


def _remove_leftovers() -> None:
    """Removes lock files, unfinished files and checksums without a file, unless a process uses them."""
    lonely = (path for path in _glob("*.sha256") if not path.with_suffix("").exists())
    for path in (*_glob("*.lock"), *_glob(".*.part"), *lonely):
        files.remove_unused(path)


def _glob(pattern: str) -> Iterator[Path]:
    for kind in KINDS:
        yield from files.cache_dir().glob(f"{kind}/{pattern}")


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
