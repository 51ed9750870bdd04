"""A folder or a zip as one list of files, read in place.

A zip inside a folder is listed like a folder of the same name, so that several downloaded zips need no unpacking.
"""

import atexit
import functools
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from alljax.errors import DataError
from alljax.limits import THREADS, check_size

IMAGE_FORMATS = {
    ".bmp": "BMP", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
    ".gif": "GIF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM",
}  # fmt: skip
"""Suffixes of image files and their formats in Pillow, the only ones that are decoded."""

_SYSTEM_FILES = frozenset(("__macosx", "thumbs.db", "desktop.ini"))
# RuntimeError: an encrypted member; NotImplementedError (a subclass): an unknown compression.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)


class Archive:
    """The files of a zip, or of a folder with its subfolders (links are followed) and zips.

    Attributes:
        root: absolute path of the folder or the zip.
        paths: POSIX paths relative to `root` in natural order, without hidden and system files: files, and folders with
            a slash at the end (in a zip, only the folders that it lists).
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        paths = list(_walk(self.root)) if self.root.is_dir() else []
        zips = {f"{path}/": self.root / path for path in paths if path.lower().endswith(".zip")}
        if not self.root.is_dir():
            zips[""] = self.root
        self._members: dict[str, tuple[Path, str, str]] = {}  # zip, its stamp, and the name in it
        for prefix, path in zips.items():
            stamp = file_stamp(path)
            for name in _open_zip(path, stamp).namelist():  # some Windows programs write backslashes
                self._members[prefix + name.replace("\\", "/")] = path, stamp, name
        paths = [path for path in (*paths, *self._members) if f"{path}/" not in zips and _is_visible(path)]
        self.paths = tuple(natural_sort(paths))

    def images(self) -> tuple[str, ...]:
        """Returns the files with an image suffix."""
        return tuple(path for path in self.paths if is_image(path))

    def other_files(self) -> tuple[str, ...]:
        """Returns the files without an image suffix."""
        return tuple(path for path in self.paths if not path.endswith("/") and not is_image(path))

    def read(self, path: str) -> bytes:
        """Returns the bytes of a file; safe to call from several threads."""
        if path not in self._members:
            return read_file(self.root / path)
        archive, stamp, name = self._members[path]
        try:
            return read_member(_open_zip(archive, stamp), name, f"{archive}: {name}", THREADS)
        except _ZIP_ERRORS as error:
            raise DataError(f"{archive}: cannot read {name}: {error}; download the zip again") from error

    def stamp(self, path: str) -> str:
        """Returns the `file_stamp` of a file, or of the zip that contains it."""
        return self._members[path][1] if path in self._members else file_stamp(self.root / path)


def read_file(path: Path) -> bytes:
    """Returns the bytes of a file; errors are `DataError`s."""
    try:
        check_size(str(path), path.stat().st_size, THREADS)
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def read_member(opened: zipfile.ZipFile, name: str, what: str, threads: int = 1) -> bytes:
    """Returns the bytes of a member, at most as many as it declares; see `check_size` for `what` and `threads`."""
    member = opened.getinfo(name)
    check_size(what, member.file_size, threads)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile expands others without a bound
        raise DataError(f"{what} is neither stored nor deflated; make the zip again with the method deflate")
    with opened.open(member) as file:
        return file.read(member.file_size)


def file_stamp(path: Path) -> str:
    """Returns path, size and modification time of a file: equal while the file does not change."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"


def is_image(path: str) -> bool:
    """Returns whether a path has an image suffix."""
    return path.lower().endswith(tuple(IMAGE_FORMATS))


def path_parts(path: str) -> tuple[str, ...]:
    """Returns the folders of a path and its file name; the folder name of an inner zip is without ``.zip``."""
    *folders, name = path.split("/")
    return (*(folder[:-4] if folder.lower().endswith(".zip") else folder for folder in folders), name)


def natural_sort(names: Iterable[str]) -> list[str]:
    """Sorts names with numbers by value: ``2.bmp`` before ``10.bmp``."""
    return sorted(names, key=natural_key)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Returns the key by which `natural_sort` sorts."""
    # Text and digits alternate, so that only values of one type are compared; \d would match digits that int() refuses.
    pieces: list[str | int] = [*re.split("([0-9]+)", name.lower())]
    pieces[1::2] = map(int, pieces[1::2])
    return pieces, name


def _is_visible(path: str) -> bool:
    return "/." not in f"/{path}" and _SYSTEM_FILES.isdisjoint(path.lower().split("/"))


def _walk(root: Path) -> Iterator[str]:
    """Yields the files below `root`, and the folders with a slash at the end."""

    def fail(error: OSError) -> NoReturn:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error

    for folder, subfolders, names in os.walk(root, onerror=fail, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        below = Path(folder).relative_to(root)
        yield from ((below / name).as_posix() for name in names)
        yield from (f"{(below / name).as_posix()}/" for name in subfolders)


@functools.cache
def _open_zip(path: Path, stamp: str) -> zipfile.ZipFile:
    """Opens a zip, once per process, for all its threads."""
    try:
        file = path.open("rb")  # ZipFile counts the readers of a file that it opens itself without a lock
        atexit.register(file.close)
        return zipfile.ZipFile(file)
    except _ZIP_ERRORS as error:
        raise DataError(f"{path}: not a complete zip, a folder or a CSV ({error}); download it again") from error
