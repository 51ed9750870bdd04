"""Files written whole or not at all, hashes, and where caches live."""

import contextlib
import errno
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from alljax.errors import WorkdirError

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` and renames it to `path` on success.

    Whatever stood at `path` stays untouched until the new file is complete and
    on disk; after an exception nothing new is left.  Parent folders are made.

    Args:
        path: the file to write.
        mode: ``"w"`` for UTF-8 text with plain newlines, ``"wb"`` for bytes.

    Raises:
        WorkdirError: the place cannot be written (permission, not a folder, disk full).
    """
    path = Path(path)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with open(descriptor, mode, **text) as file:  # noqa: PTH123 - a descriptor, not a path
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; what we write is as readable as any other new file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8, whole or not at all (see `atomic`)."""
    with atomic(path) as file:
        file.write(text)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all (see `atomic`)."""
    with atomic(path, "wb") as file:
        file.write(data)


def check_output(out: Path) -> None:
    """Looks, before long work, whether the file `out` can be written; writes nothing.

    Raises:
        WorkdirError: it is a folder, or the folder it is to lie in cannot be written.
    """
    if out.is_dir():
        raise WorkdirError(f"{out} is a folder; name a file in it with --out")
    check_folder(out.parent, "--out")


def check_folder(folder: Path, option: str) -> None:
    """Looks, before long work, whether a folder can be written or made; writes nothing.

    Args:
        folder: need not exist.
        option: of the command line, that names another.

    Raises:
        WorkdirError: it is a file, or it lies where nothing may be written.
    """
    try:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise WorkdirError(f"cannot use {folder}: {error.strerror or error}; choose another {option}") from error
    if not existing.is_dir():
        raise WorkdirError(f"{folder}: {existing} is a file; choose another {option}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise WorkdirError(f"cannot write in {existing}: permission denied; choose another {option}")


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Returns the hexadecimal digest of a file, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextlib.contextmanager
def alone(lock: Path, busy: str = "", shared: bool = False) -> Iterator[None]:
    """Holds a lock file; its folder is made.

    Args:
        lock: the file; it stays.
        busy: what is said when another process holds it; empty to wait for that process.
        shared: others that hold it shared may be at work too.

    Raises:
        WorkdirError: another process holds it, or it cannot be made.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise _unwritable(lock.parent, error) from error
    with file:
        try:
            if sys.platform != "win32":
                kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.flock(file, kind | fcntl.LOCK_NB if busy else kind)
        except BlockingIOError as error:
            raise WorkdirError(busy) from error
        except OSError:
            pass  # some network file systems have no locks; there a person must not start twice at once
        yield


def cache_dir() -> Path:
    """Returns the folder for fetched weights and computed features.

    ``$ALLJAX_CACHE_DIR`` where it is set, else ``~/.cache/alljax`` (or under
    ``$XDG_CACHE_HOME``).  The folder is not made here.
    """
    if own := os.environ.get("ALLJAX_CACHE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alljax"


def _unwritable(path: Path, error: OSError) -> WorkdirError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    mend = "free space or choose another folder" if full else "choose another folder or mend its permissions"
    return WorkdirError(f"cannot write {path}: {error.strerror or error}; {mend}")
