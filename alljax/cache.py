"""The cache folder: files that can be computed again, each with its SHA-256 beside it, verified when it is read."""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from absl import logging

from alljax import files
from alljax.errors import WorkdirError

KINDS = "features", "inspections", "hashes", "self-checks", "exports"  # folders; that of downloads has no checksums
ABANDONED = 24 * 3600  # seconds after which an unfinished file is of a killed process: a living one writes to it


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
    """Opens a file; None if it is missing or damaged.  All of it is read, about half a second per GB."""
    try:
        expected, file = _checksum(path).read_bytes()[:64], path.open("rb")
    except OSError:
        return None
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


def entries() -> list[Path]:
    """Returns the complete cached files, the one that was not used for the longest time first."""
    found = (path for path in _glob("*") if path.suffix not in (".sha256", ".lock", ".part"))
    return sorted(found, key=lambda path: path.stat().st_mtime)


def describe() -> str:
    """Returns the folder of the cache, its size and the limit, in one line."""
    total, largest = sum(path.stat().st_size for path in entries()), files.limit("ALLJAX_CACHE_GB")
    return f"{files.cache_dir()}: {total / 1e9:,.2f} of {largest / 1e9:g} GB (ALLJAX_CACHE_GB), not counting weights"


def abandoned() -> list[Path]:
    """Returns the unfinished files of killed processes; those of living ones would be missed."""
    return [path for path in _glob(".*.part") if time.time() - path.stat().st_mtime > ABANDONED]


def make_room(size: int) -> None:
    """Removes files of killed processes, then those unused for longest; `WorkdirError` if `size` does not fit."""
    folder = files.cache_dir().absolute()
    remove(abandoned())
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    found, largest = entries(), files.limit("ALLJAX_CACHE_GB")
    while found and (size > free or sum(path.stat().st_size for path in found) + size > largest):
        logging.info(f"{found[0]}: removed from the cache, unused for the longest time (ALLJAX_CACHE_GB)")
        free += remove([found.pop(0)])
    if size > free:
        raise WorkdirError(f"{size / 1e9:,.1f} GB are needed, and {free / 1e9:,.1f} GB are free on the disk")


def remove(paths: Iterable[Path]) -> int:
    """Removes files with their checksums; returns their bytes. Windows keeps files that are open."""
    removed = 0
    for path in paths:
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            removed += size
            _checksum(path).unlink(missing_ok=True)
    return removed


def _glob(pattern: str) -> Iterator[Path]:
    for kind in KINDS:
        yield from files.cache_dir().glob(f"{kind}/{pattern}")


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
