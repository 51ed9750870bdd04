"""A folder or a zip as one list of files, read in place.

A zip that lies inside a folder reads like a folder of its own name, so that a
set downloaded as several zips needs no unpacking.
"""

import os
import re
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from alljax.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm")
"""File names that end so are taken for images; what is inside is checked when they are read."""

_LITTER = frozenset(("__macosx", "thumbs.db", "desktop.ini"))
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Tree:
    """The files of a source.

    Attributes:
        root: the folder or the zip.
        name: its name on disk, also where `root` is ``.``.
        files: POSIX paths below `root` in natural order, without hidden files and what systems leave behind.
        folders: POSIX paths of all folders below `root` (an inner zip counts as one), in natural order.
        read: gives the bytes of one of `files`.  May be called from several threads.
    """

    root: Path
    name: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[str], bytes] = field(repr=False)

    def images(self) -> tuple[str, ...]:
        """Returns the files that are images by their name."""
        return tuple(path for path in self.files if is_image(path))


def open_tree(root: Path) -> Tree:
    """Lists a folder or a zip.

    Args:
        root: a folder, whose sub-folders (links are followed, loops are not) and zips are listed
            too, or a zip file.

    Raises:
        DataError: nothing there, not a folder or zip, a damaged zip, a zip with paths that leave it, a
            name that is not text.
    """
    archives: dict[str, _Archive] = {}
    try:
        if root.is_dir():
            files, folders = _walk(root)
            for path in [path for path in files if path.lower().endswith(".zip")]:
                archives[path] = _Archive(root / path)
        else:
            files, folders = [], []
            archives[""] = _Archive(root)
    except OSError as error:
        raise DataError(f"cannot read {error.filename or root}: {error.strerror or error}") from error
    members: dict[str, tuple[_Archive, str]] = {}
    for prefix, archive in archives.items():
        if prefix:
            folders.append(prefix)
        for name in archive.names:
            members[f"{prefix}/{name}" if prefix else name] = (archive, name)
        folders += [f"{prefix}/{name}" if prefix else name for name in archive.folders]
    files = [path for path in files if path not in archives] + list(members)
    files, folders = list(_visible(files)), list(_visible(folders))
    check_text(f"{root}/{path}" for path in (*files, *folders))

    def read(path: str) -> bytes:
        if path in members:
            archive, name = members[path]
            return archive.read(name)
        try:
            return (root / path).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {root / path}: {error.strerror or error}") from error

    return Tree(root, root.resolve().name, tuple(natural(files)), tuple(natural(folders)), read)


def check_text(paths: Iterable[str]) -> None:
    """Refuses names that hold bytes no UTF-8 file could repeat.

    Raises:
        DataError: names the first, its bytes escaped.
    """
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"the name {os.fsencode(path)!r} is not UTF-8 text; rename it") from error


def is_image(path: str) -> bool:
    """Says whether a path is an image by its name."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def parts(path: str) -> tuple[str, ...]:
    """Returns the folders of a path and its file name; an inner zip counts by its name without `.zip`."""
    *folders, name = path.split("/")
    return (*(folder[:-4] if folder.lower().endswith(".zip") else folder for folder in folders), name)


def natural(paths: Iterable[str]) -> list[str]:
    """Sorts names as a person would: numbers by value, so ``2.bmp`` stands before ``10.bmp``."""
    return sorted(paths, key=natural_key)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Returns the key by which `natural` sorts."""
    # re.split with a group alternates text and digits, so that like is only ever compared with like.
    # ASCII digits only: int() refuses some of what \d matches.
    pieces: list[str | int] = [*_DIGITS.split(name.lower())]
    pieces[1::2] = map(int, pieces[1::2])
    return pieces, name


def _visible(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if "/." not in f"/{path}" and _LITTER.isdisjoint(path.lower().split("/")):
            yield path


def _walk(root: Path) -> tuple[list[str], list[str]]:
    files: list[str] = []
    folders: list[str] = []

    def visit(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:  # a link that leads back to a folder we came through
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                path = f"{prefix}{entry.name}"
                if entry.is_dir():
                    if not entry.name.startswith("."):
                        folders.append(path)
                        visit(folder / entry.name, f"{path}/", above | {here})
                else:
                    files.append(path)

    visit(root, "", frozenset())
    return files, folders


class _Archive:
    """A zip whose members are read in place, from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Opened here, not by ZipFile: a ZipFile that opens its own file counts its readers without a lock
        # and may close the file under one of them.
        file = path.open("rb")
        weakref.finalize(self, file.close)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            file.close()
            what = "a whole zip file (a broken download?); fetch it again"
            if path.suffix.lower() != ".zip":
                what = "a folder, a zip or a CSV file"
            raise DataError(f"{path}: not {what}") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        folders: set[str] = set()
        for info in self._zip.infolist():
            name = info.filename.replace("\\", "/")  # zips made by some Windows programs
            pieces = name.split("/")
            if name.startswith("/") or ".." in pieces or re.match(r"[A-Za-z]:", name):
                file.close()
                raise DataError(f"{path}: holds the path {name!r}, which leaves the archive; do not trust it")
            # The name of a folder ends in a slash, so all pieces but the last are folders either way.
            folders.update("/".join(pieces[:depth]) for depth in range(1, len(pieces)))
            if pieces[-1]:
                self._members[name] = info
        self.names = tuple(self._members)
        self.folders = tuple(folders)

    def __reduce__(self) -> tuple[type["_Archive"], tuple[Path]]:
        return _Archive, (self.path,)  # a worker process opens it anew

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._members[name])
        # RuntimeError: encrypted; NotImplementedError, a kind of it: a compression nobody here reads.
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
            raise DataError(f"{self.path}: cannot read {name}: {error}; fetch the zip again") from error
