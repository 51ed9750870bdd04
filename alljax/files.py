"""Atomic writes, hashes, file locks, limits, the cache folder, and what operating systems do differently."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from alljax import interrupts
from alljax.errors import ConfigError, DataError, WorkdirError

# Memory for what is read at once: an array, or images and members of zips in all threads; size of the cache folder.
LIMITS = {"ALLJAX_READ_GB": 4.0, "ALLJAX_CACHE_GB": 20.0}
THREADS = 16  # at most, to read images; each may use an equal share of ALLJAX_READ_GB


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Opens a temporary binary file, which replaces `path`, on disk, when the block ends without an exception."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 (see `atomic_write`)."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a binary file (see `atomic_write`)."""
    with atomic_write(path) as file:
        file.write(data)


def csv_text(value: Any) -> Any:
    """Returns a cell of a CSV: texts that a spreadsheet would compute as formulas get an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and re.match(r"'*[=+\-@\t\r]", value) else value


def limit(variable: str) -> int:
    """Returns a limit in bytes: the value of an environment variable, else its default."""
    text = os.environ.get(variable) or str(LIMITS[variable])
    with contextlib.suppress(ValueError, OverflowError):
        if (size := int(float(text) * 1e9)) >= 0:
            return size
    raise ConfigError(f"{variable}={text!r} is no number of gigabytes; for example {variable}=10")


def check_size(what: str, size: int, threads: int = 1) -> None:
    """Raises `DataError` if `what` declares more bytes than may be read in each thread; called before allocating."""
    allowed = limit("ALLJAX_READ_GB") // threads
    if size > allowed:
        shared = f", shared by {threads} threads" if threads > 1 else ""
        most = f"{allowed / 1e9:,.2f} GB (ALLJAX_READ_GB={limit('ALLJAX_READ_GB') / 1e9:g}{shared})"
        raise DataError(f"{what} needs {size / 1e9:,.2f} GB of memory, more than {most}; replace or remove it")


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raises `WorkdirError` instead of an `OSError` inside: the file or folder `path` cannot be written."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space or choose another folder" if full else "choose another folder or change its permissions"
        raise WorkdirError(f"cannot write {path}: {error.strerror or error}; {fix}") from error


def check_output(path: Path, folder: bool = False) -> None:
    """Raises `WorkdirError` if a file (or a folder) cannot be written at `path`; called before long work."""
    if path.is_dir() and not folder:
        raise WorkdirError(f"{path} is a folder; add a file name")
    existing = next(above for above in (path.absolute(), *path.absolute().parents) if above.exists())
    if not existing.is_dir() and (folder or existing != path.absolute()):
        raise WorkdirError(f"cannot write {path}: {existing} is a file; choose another path")
    target = existing if existing.is_dir() else existing.parent
    if not os.access(target, os.W_OK | os.X_OK):
        raise WorkdirError(f"cannot write in {target}: permission denied; choose another path")


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file as a hexadecimal string."""
    interrupts.check(collective=True)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def file_lock(path: Path, busy: str = "") -> Iterator[None]:
    """Holds the lock file at `path`; if another process holds it, raises `WorkdirError` with `busy`, or waits."""
    lock = FileLock(path)
    with write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # where it cannot be created, FileLock reports that it is held
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0 if busy else 0.2)
            except Timeout as error:
                if busy:
                    raise WorkdirError(busy) from error
                interrupts.check()
    try:
        yield
    finally:
        lock.release()


def cache_dir() -> Path:
    """Returns ``$ALLJAX_CACHE_DIR``, else ``$XDG_CACHE_HOME/alljax``, else ``~/.cache/alljax``; it may not exist."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alljax"
    return Path(os.environ.get("ALLJAX_CACHE_DIR") or default)


def shipped(name: str) -> Path:
    """Returns a folder that wheels have inside the package, and a checkout beside it."""
    package = Path(__file__).resolve().parent
    return package / name if (package / name).is_dir() else package.parent / name


def cpu_cores() -> int:
    """Returns the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_memory(root: Path = Path("/")) -> int:
    """Returns the free bytes of host memory, at most the limit of the control group; 4 GB where it is not known."""
    try:
        table = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        free = [int(table["MemAvailable"].split()[0]) * 1024]
        group = (root / "proc/self/cgroup").read_text().strip().rpartition("0::")[2]
    except OSError:  # not Linux
        return 4 * 2**30
    innermost = root / "sys/fs/cgroup" / group.strip("/")
    for folder in (innermost, *innermost.parents):
        with contextlib.suppress(OSError, ValueError):  # no such file, or no limit ("max")
            free.append(int((folder / "memory.max").read_text()))
    return min(free)
