"""A folder or a zip as one list of files, read in place.

A zip inside a folder, and the numbered parts of a download, ``cells-20240101T101500Z-001.zip`` …, are like folders.
"""

import atexit
import contextlib
import functools
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from alljax.errors import DataError, first_few
from alljax.files import THREADS, check_size

IMAGE_FORMATS = {
    ".bmp": "BMP", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
    ".gif": "GIF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM",
}  # fmt: skip
"""Suffixes of image files and their formats in Pillow, the only ones that are decoded."""

# Google Drive names the parts of a download by its time and their number.
_PART = re.compile(r"(.+-\d{8}T\d{6}Z?)(-\d+)*-\d{3}\.zip", re.IGNORECASE)
_ZIP_SUFFIX = re.compile(r"(-\d{8}T\d{6}Z?(-\d+)*-\d{3})?\.zip$", re.IGNORECASE)
_HIDDEN = re.compile(r"(^|/)(\..*|__macosx|thumbs\.db|desktop\.ini)(/|$)", re.IGNORECASE)
# RuntimeError: an encrypted member; NotImplementedError (a subclass): an unknown compression.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, TypeError, ValueError)


class Archive:
    """The files of a zip, or of a folder with its subfolders (links are followed) and zips, or one image file.

    `paths` are relative to `root`, in natural order, without hidden and system files: files, and folders with a slash
    at the end (in a zip, only those that it lists).
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        paths = _walk(self.root) if self.root.is_dir() else _parts(self.root)
        if paths and not self.root.is_dir():
            self.root = self.root.parent
        zips = {f"{path}/": self.root / path for path in paths if path.lower().endswith(".zip")}
        if not self.root.is_dir():
            zips[""] = self.root
        self._members: dict[str, tuple[Path, str, str]] = {}  # zip, its stamp, and the name in it
        for prefix, path in zips.items():
            stamp = file_stamp(path)
            for member in _open_zip(path, stamp).infolist():
                # Some Windows programs write backslashes.
                self._members[prefix + _decode_name(member).replace("\\", "/")] = path, stamp, member.filename
        paths = [path for path in (*paths, *self._members) if f"{path}/" not in zips and not _HIDDEN.search(path)]
        # Python reads bytes that are not UTF-8 as surrogates, which no file of results can contain.
        if wrong := [path for path in (str(self.root), *paths) if re.search("[\ud800-\udfff]", path)]:
            listed = first_few(str(os.fsencode(path)) for path in wrong)
            raise DataError(f"{self.root}: names that are not valid UTF-8: {listed}; rename these files or folders")
        self.paths = tuple(natural_sort(paths))
        self.images = tuple(filter(is_image, self.paths))

    def read(self, path: str) -> bytes:
        """Returns the bytes of a file; safe to call from several threads."""
        if path not in self._members:
            return read_file(self.root / path)
        archive, stamp, name = self._members[path]
        try:
            return read_member(_open_zip(archive, stamp), name, f"{archive}: {name}", THREADS)
        except ZIP_ERRORS as error:
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


def read_member(opened: zipfile.ZipFile, name: str, what: str = "", threads: int = 1) -> bytes:
    """Returns the bytes of a member, at most as many as it declares; see `check_size` for `what` and `threads`."""
    member = opened.getinfo(name)
    check_size(what or name, member.file_size, threads)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile expands others without a bound
        raise DataError(f"{what or name} is neither stored nor deflated; make the zip again with the method deflate")
    with opened.open(member) as file:
        return file.read(member.file_size)


def read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, NDArray]:
    """Returns the arrays of an .npz, which must be float32 with `shapes`, if given; see `ZIP_ERRORS`."""
    with path.open("rb") as file, np.load(file) as arrays:
        declared = {name: _declared(arrays.zip, name) for name in arrays}
        found = {name: shape for name, (shape, dtype) in declared.items() if dtype == np.float32}
        if shapes is not None and (different := dict(found.items() ^ shapes.items())):
            raise DataError(f"{path} does not fit its network: another shape of {first_few(sorted(different))}")
        for name, (shape, dtype) in declared.items():
            size = max(math.prod(shape) * dtype.itemsize, arrays.zip.getinfo(f"{name}.npy").file_size)
            check_size(f"{path}: {name}", size)
        return {name: arrays[name] for name in declared}


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
    """Returns the folders of a path and its file name; an inner zip is without ``.zip`` and the number of a part."""
    *folders, name = path.split("/")
    return (*(_ZIP_SUFFIX.sub("", folder) for folder in folders), name)


def natural_sort(names: Iterable[str]) -> list[str]:
    """Sorts names with numbers by value: ``2.bmp`` before ``10.bmp``."""
    return sorted(names, key=natural_key)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Returns the key by which `natural_sort` sorts."""
    # Text and digits alternate, so that only values of one type are compared; \d would match digits that int() refuses.
    pieces: list[str | int] = [*re.split("([0-9]+)", name.lower())]
    pieces[1::2] = map(int, pieces[1::2])
    return pieces, name


def _walk(root: Path) -> list[str]:
    """Returns the files below `root`, and the folders with a slash at the end."""

    def fail(error: OSError) -> NoReturn:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error

    paths = []
    for folder, subfolders, names in os.walk(root, onerror=fail, followlinks=True):
        here = Path(folder).resolve()
        loops = [name for name in subfolders if (here / name).resolve() in (here, *here.parents)]
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and name not in loops]
        below = Path(folder).relative_to(root)
        paths += [(below / name).as_posix() for name in names]
        paths += [f"{(below / name).as_posix()}/" for name in subfolders]
    return paths


def _parts(path: Path) -> list[str]:
    """Returns the name of an image file, the names of all parts of a download of which a zip is one, or nothing."""
    if part := _PART.fullmatch(path.name):
        others = (_PART.fullmatch(other.name) for other in path.parent.iterdir())
        return [other[0] for other in others if other and other[1] == part[1]]
    return [path.name] if is_image(path.name) else []


def _decode_name(member: zipfile.ZipInfo) -> str:
    """Returns the name of a member of a zip; UTF-8 without its flag, as macOS writes it, is read as code page 437."""
    with contextlib.suppress(UnicodeError):
        return member.filename if member.flag_bits & 0x800 else member.filename.encode("cp437").decode()
    return member.filename


@functools.cache
def _open_zip(path: Path, stamp: str) -> zipfile.ZipFile:
    """Opens a zip, once per process, for all its threads."""
    try:
        file = path.open("rb")  # ZipFile counts the readers of a file that it opens itself without a lock
        atexit.register(file.close)
        return zipfile.ZipFile(file)
    except ZIP_ERRORS as error:
        raise DataError(f"{path}: no image, complete zip, folder or .csv ({error}); download or rename it") from error


def _declared(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns the shape and the type of an array as its header declares them."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    return shape, dtype
