"""A folder or a zip as one list of files, read in place.

A zip inside a folder is listed like a folder of the same name, so that several downloaded zips need no unpacking.
"""

import os
import re
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from alljax.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm")
"""Files with these suffixes are treated as images."""

_SYSTEM_FILES = frozenset(("__macosx", "thumbs.db", "desktop.ini"))


@dataclass(frozen=True)
class Archive:
    """The files of a folder or a zip.

    Attributes:
        root: the folder or the zip.
        name: its file name, also where `root` is ``.``.
        files: POSIX paths relative to `root` in natural order, without hidden and system files.
        folders: POSIX paths of all folders below `root` (an inner zip is one), in natural order.
        read: returns the bytes of one of `files`; safe to call from several threads.
        stamp: returns the stamp of the file that contains one of `files`, see `file_stamp`.
    """

    root: Path
    name: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[str], bytes] = field(repr=False)
    stamp: Callable[[str], str] = field(repr=False)

    def images(self) -> tuple[str, ...]:
        """Returns the files with an image suffix."""
        return tuple(path for path in self.files if is_image(path))


def open_archive(root: Path) -> Archive:
    """Lists a folder or a zip.

    Args:
        root: a zip, or a folder with subfolders (links are followed) and zips.

    Raises:
        DataError: not a folder or a zip, or it cannot be read.
    """
    files, folders = _list_folder(root) if root.is_dir() else ([], [])
    zips = {path: _Zip(root / path) for path in files if path.lower().endswith(".zip")}
    if not root.is_dir():
        zips[""] = _Zip(root)
    members: dict[str, tuple[_Zip, str]] = {}
    for path, archive in zips.items():
        prefix = f"{path}/" if path else ""
        members |= {f"{prefix}{name}": (archive, name) for name in archive.members}
        folders += [*([path] if path else ()), *(f"{prefix}{name}" for name in archive.folders)]

    def read(path: str) -> bytes:
        archive, name = members.get(path, (None, ""))
        return archive.read(name) if archive else read_file(root / path)

    def stamp(path: str) -> str:
        return members[path][0].stamp if path in members else file_stamp(root / path)

    files = [path for path in files if path not in zips] + list(members)
    return Archive(root, root.resolve().name, _sort_visible(files), _sort_visible(folders), read, stamp)


def read_file(path: Path) -> bytes:
    """Returns the bytes of a file; errors are `DataError`s."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def file_stamp(path: Path) -> str:
    """Returns path, size and modification time of a file: equal while the file does not change."""
    status = path.stat()
    return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"


def is_image(path: str) -> bool:
    """Returns whether a path has an image suffix."""
    return path.lower().endswith(IMAGE_SUFFIXES)


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


def _sort_visible(paths: Iterable[str]) -> tuple[str, ...]:
    """Sorts paths, without hidden and system files."""
    visible = (path for path in paths if "/." not in f"/{path}" and _SYSTEM_FILES.isdisjoint(path.lower().split("/")))
    return tuple(natural_sort(visible))


def _list_folder(root: Path) -> tuple[list[str], list[str]]:
    """Returns the paths of all files and folders below `root`."""

    def fail(error: OSError) -> NoReturn:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error

    files: list[str] = []
    folders: list[str] = []
    for folder, subfolders, names in os.walk(root, onerror=fail, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        below = Path(folder).relative_to(root)
        folders += [(below / name).as_posix() for name in subfolders]
        files += [(below / name).as_posix() for name in names]
    return files, folders


class _Zip:
    """A zip whose members can be read from any thread; a worker process opens it again."""

    def __init__(self, path: Path) -> None:
        self.path, self.stamp = path, file_stamp(path)
        try:
            # Opened here, not by ZipFile, which counts its readers without a lock when it opens the file.
            file = path.open("rb")
            weakref.finalize(self, file.close)
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            raise DataError(f"{path}: not a complete zip, a folder or a CSV ({error}); download it again") from error
        # Some Windows programs write backslashes.
        names = {info.filename.replace("\\", "/"): info for info in self._zip.infolist()}
        self.members = {name: info for name, info in names.items() if not name.endswith("/")}
        self.folders = {name[:end] for name in names for end, letter in enumerate(name) if letter == "/"}

    def __reduce__(self) -> tuple[type["_Zip"], tuple[Path]]:
        return _Zip, (self.path,)

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self.members[name])
        # RuntimeError: encrypted; NotImplementedError (a subclass): an unknown compression.
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
            raise DataError(f"{self.path}: cannot read {name}: {error}; download the zip again") from error
